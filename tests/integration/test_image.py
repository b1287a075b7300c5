"""The image: built for real without a daemon, and the demo run in it as its user; what deploy/ calls exists."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.command import QUICK_DEMO, Command, saving_to

REPOSITORY = Path(__file__).parents[2]
CALLING = ("deploy/README.md", "deploy/slurm.sh", "deploy/slurm-ray.sh", "deploy/kuberay.yaml", "deploy/skypilot.yaml")
"""Files that hold command lines of heretic."""
CERTIFICATES = "/etc/ssl/certs"
BUNDLE = f"{CERTIFICATES}/ca-certificates.crt"
NEEDED = ("buildah", "debootstrap")


@pytest.mark.integration
def test_every_option_that_is_named_exists(heretic: Command, tmp_path: Path) -> None:
    known = set(re.findall(r"--[a-z][a-z-]*", heretic(tmp_path, "--help-all").output))
    lines = [line for file in CALLING for line in (REPOSITORY / file).read_text(encoding="utf-8").splitlines()]
    calls = [line.partition("heretic ")[2] for line in lines if re.search(r"(^|[/ ])heretic --", line)]
    named = {option for call in calls for option in re.findall(r"--[a-z][a-z-]*", call)}
    assert {"--join", "--auto-select", "--model", "--workers"} <= named
    assert named <= known


Buildah = Callable[..., str]


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Builds and runs with images of its own, and without the isolation that takes a daemon or a system's rights."""
    folder = tmp_path_factory.mktemp("images")
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def run(*arguments: str) -> str:
        own = ["buildah", "--root", f"{folder}/root", "--runroot", f"{folder}/runroot"]
        done = subprocess.run([*own, *arguments], env=environment, capture_output=True, text=True, cwd=REPOSITORY)
        assert done.returncode == 0, (arguments, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout.strip()

    yield run
    run("rm", "--all")
    run("rmi", "--all", "--force")


@pytest.fixture(scope="module")
def base(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of Debian with its own Python, which no registry of images is needed for."""
    folder = tmp_path_factory.mktemp("debian") / "root"
    packages = "--include=python3-venv,ca-certificates"
    program = shutil.which("debootstrap")
    assert program is not None
    subprocess.run([program, "--variant=minbase", packages, "bookworm", str(folder)], check=True)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(folder), "/")
    shutil.rmtree(folder)
    buildah("commit", "--quiet", "--rm", container, "localhost/debian:12")
    return "localhost/debian:12"


@pytest.fixture(scope="module")
def image(buildah: Buildah, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    volumes = [f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    container = buildah("from", base)
    installing = "python3 -m venv /venv && /venv/bin/pip install --quiet uv && cp /venv/bin/uv /uv"
    certificate = ["--env=PIP_CERT=" + BUNDLE] if "SSL_CERT_FILE" in os.environ else []
    buildah("run", f"--volume={volumes[0]}", *certificate, container, "--", "sh", "-c", installing)
    buildah("commit", "--quiet", "--rm", container, "localhost/uv:test")
    given = {"BASE": base, "UV": "localhost/uv:test", "PYTHON": "3.11", "EXTRAS": "postgresql"}
    if "SSL_CERT_FILE" in os.environ:
        given["SSL_CERT_FILE"] = BUNDLE
    # Wheels without CUDA are a tenth of the size.
    places = map(Path, os.environ.get("PIP_FIND_LINKS", "").split())
    wheels = [file for place in places for file in place.glob("torch-*+cpu*")]
    if wheels:
        constraint = tmp_path_factory.mktemp("constraint") / "constraint.txt"
        constraint.write_text(f"torch=={wheels[0].name.split('-')[1]}\n", encoding="utf-8")
        volumes += [f"{wheels[0].parent}:/wheels:ro", f"{constraint}:/constraint.txt:ro"]
        given |= {"UV_FIND_LINKS": "/wheels", "UV_CONSTRAINT": "/constraint.txt"}
    arguments = [f"--build-arg={name}={value}" for name, value in given.items()]
    buildah("build", *arguments, *(f"--volume={volume}" for volume in volumes), "--tag", "localhost/heretic:test", ".")
    return "localhost/heretic:test"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.geteuid() != 0, reason="a folder becomes another's root, which only root may do")
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"it takes {' and '.join(NEEDED)}")
def test_the_demo_runs_in_the_image_as_an_ordinary_user(buildah: Buildah, image: str) -> None:
    described = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert (described["User"], described["Entrypoint"]) == ("1000:1000", ["heretic"])
    container = buildah("from", image)
    environment = dict(entry.split("=", 1) for entry in described["Env"])
    assert environment["HF_HOME"].startswith(described["WorkingDir"])
    looked = "import os; print(os.getuid(), os.access('.', os.W_OK), os.access('/etc', os.W_OK), os.getcwd())"
    assert buildah("run", container, "--", "python", "-c", looked) == "1000 True False /workspace"
    run = buildah("run", container, "--", *described["Entrypoint"], *QUICK_DEMO, *saving_to("out"))
    assert "out" in run
    buildah("run", container, "--", "heretic", "verify", "out")
    owner = "import os, psycopg; print(os.stat('out/model.safetensors').st_uid, os.path.exists('heretic_study.db'))"
    assert buildah("run", container, "--", "python", "-c", owner) == "1000 True"

"""A machine's shell against Debian's SSH server on 127.0.0.1."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.cloud.sshd import KEYGEN, Server, make_key, ssh_server, why_none

from heretic.cloud import fetch
from heretic.cloud.fetch import Fetcher
from heretic.cloud.machines import Endpoint, Machine, State
from heretic.cloud.shell import Access, HostKeyChanged, HostKeys, NotLetIn, Unreachable, connected, reaches
from heretic.cloud.work import NotSetUp, Site
from heretic.common.errors import CloudError, ConfigurationError
from heretic.common.integrity import MANIFEST_NAME, checksums, files_of

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

NASTY = ["it's", '"quoted"', "$HOME `id` $(id)", "a;b&c|d", "line\nbreak", "tab\t*?", "-n", "é \U0001f40d"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ssh_server(tmp_path_factory.mktemp("ssh") / "server", {}) as running:
        (running.folder / "authorized_keys").write_text((running.folder / "id_user.pub").read_text())
        yield running


@pytest.fixture
def machine(server: Server) -> Machine:
    endpoint = Endpoint("127.0.0.1", server.port)
    return Machine("9000", "heretic:one", State.RUNNING, "running", "RTX 4090", 1, 0.7, endpoint=endpoint)


@pytest.fixture
def access(server: Server, tmp_path: Path) -> Access:
    return Access(server.key, HostKeys(tmp_path / "known"), "vast")


def test_commands_files_and_exit_codes(access: Access, machine: Machine, tmp_path: Path) -> None:
    with connected(access, machine) as shell:
        for text in NASTY:
            assert shell.run("cat", text).output == text
        lines: list[str] = []
        result = shell.script('echo out; echo err >&2; echo "it\'s $0"; exit 3', lines.append)
        assert result.code == 3
        assert sorted(lines) == sorted(["out", "err", "it's bash"])
        shell.put(b"x" * 100_000, str(tmp_path / "there"))
        assert (tmp_path / "there").read_bytes() == b"x" * 100_000
        assert shell.ask("cat", {"a": NASTY}) == {"a": NASTY}
        with pytest.raises(CloudError, match=r"something else than was asked for \(bash: line 1: nothing"):
            shell.ask("bash -s", "nothing")
        with pytest.raises(NotSetUp, match="run setup first"):
            Site(shell, str(tmp_path)).look()


def test_a_changed_host_key_is_refused(access: Access, machine: Machine, server: Server, tmp_path: Path) -> None:
    assert reaches(access, machine)
    (line,) = access.hosts.path.read_text().splitlines()
    assert line.startswith("vast-9000 ")
    # Another address is the same machine, another key is not.
    make_key(tmp_path / "other")
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    access.hosts.forget("vast-9000")
    access.hosts.remember("vast-9000", kind, key)
    with pytest.raises(HostKeyChanged, match=r"shows another SSH host key than before.*take its line out of"):
        reaches(access, machine)
    access.hosts.forget("vast-9000")
    assert reaches(access, machine)


def test_who_is_not_let_in_is_told_why(access: Access, machine: Machine, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger")
    stranger = replace(access, key=tmp_path / "stranger")
    with pytest.raises(NotLetIn, match="does not accept the SSH key"), connected(stranger, machine):
        pass
    assert not reaches(stranger, machine)
    nowhere = replace(machine, endpoint=Endpoint("127.0.0.1", 1))
    with pytest.raises(Unreachable, match="does not answer"), connected(access, nowhere):
        pass
    with pytest.raises(CloudError, match="is stopped and cannot be reached"):
        reaches(access, replace(machine, endpoint=None, said="stopped"))


def test_the_systems_ssh_knows_the_machine_too(access: Access, machine: Machine) -> None:
    command = access.ssh(machine)
    done = subprocess.run([*command, "echo", "there"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "there\n")
    assert reaches(access, machine)


def saved_model(workspace: Path) -> dict[str, object]:
    """A folder with a manifest, as a run leaves it."""
    folder = workspace / "run" / "models" / "it's a model"
    (folder / "part").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4000)
    (folder / "part" / "a b.json").write_text("{}")
    files = {name: {"sha256": e.sha256, "size": e.size} for name, e in checksums(files_of(folder)).items()}
    (folder / MANIFEST_NAME).write_text(json.dumps({"manifest_version": 1, "files": files}))
    digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    return {"name": folder.name, "bytes": 1, "files": 3, "manifest": digest}


@pytest.mark.parametrize("way", ["rsync", "sftp"])
def test_a_model_is_fetched_gone_on_with_and_verified(
    access: Access, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "rsync" and shutil.which("rsync") is None:
        pytest.skip("there is no rsync")
    if way == "sftp":
        monkeypatch.setattr(fetch.shutil, "which", lambda _name: None)
    workspace, target, said = tmp_path / "w", tmp_path / "my models" / "it's here", list[str]()
    told = saved_model(workspace)
    source = workspace / "run" / "models" / str(told["name"])
    with connected(access, machine) as shell:
        fetcher = Fetcher(Site(shell, str(workspace)), access, machine, said.append)
        fetcher.model(told, target)
        assert (target / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
        assert (target / "part" / "a b.json").read_text() == "{}"
        # Cut off in the middle.
        whole = (target / "model.safetensors").read_bytes()
        (target / "model.safetensors").write_bytes(whole[:300_000])
        fetcher.model(told, target)
        assert (target / "model.safetensors").read_bytes() == whole
        # Damaged, of the same size.
        (target / "model.safetensors").write_bytes(b"?" + whole[1:])
        fetcher.model(told, target)
        assert (target / "model.safetensors").read_bytes() == whole
        assert any("model.safetensors is not as the manifest says; it is fetched anew." in text for text in said)
        # Damaged there.
        (source / "model.safetensors").write_bytes(b"?" + whole[1:])
        (target / "model.safetensors").unlink()
        with pytest.raises(CloudError, match="is not as its manifest says: 'model"):
            fetcher.model(told, target)
        with pytest.raises(CloudError, match="holds something else; move it away"):
            fetcher.model(told, source.parent)
        with pytest.raises(CloudError, match="manifest changed while it was read"):
            fetcher.model({**told, "manifest": "0" * 64}, tmp_path / "new")


@pytest.mark.parametrize("name", ["../../etc", "/etc", "a/b", "..", ""])
def test_no_model_leads_out_of_its_folder(access: Access, machine: Machine, tmp_path: Path, name: str) -> None:
    fetcher = Fetcher(Site(None, "/w"), access, machine, print)  # type: ignore[arg-type]
    with pytest.raises(CloudError, match="leads out of its folder"):
        fetcher.model({"name": name, "manifest": ""}, tmp_path / "x")


def test_a_passphrase_without_an_agent_is_said(
    access: Access, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    key = tmp_path / "locked"
    subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "secret words", "-f", str(key)], check=True)
    with pytest.raises(ConfigurationError, match="has a passphrase, and no agent holds it; run 'eval"):
        reaches(replace(access, key=key), machine)

"""What tests of rented machines share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.cloud.fakes import KEY, Fake, FakeRunPod, FakeVast, served

pytest.importorskip("vastai", reason="the packages of heretic[cloud] are not installed")
pytest.importorskip("fabric", reason="the packages of heretic[cloud] are not installed")


@pytest.fixture(params=["vast", "runpod"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fake(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Fake]:
    """A provider, which the environment leads to; the test's working folder is empty."""
    monkeypatch.chdir(tmp_path)
    provider: Fake = FakeVast() if kind == "vast" else FakeRunPod()
    with served(provider) as address:
        for name in ("VAST", "RUNPOD"):
            monkeypatch.setenv(f"{name}_API_KEY", KEY)
        monkeypatch.setenv("VAST_URL", address)
        monkeypatch.setenv("RUNPOD_URL", f"{address}/v2")
        monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "models here"))
        yield provider


@pytest.fixture
def ssh_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A key that no machine knows."""
    path = tmp_path / "id_test"
    path.write_text("not read by these tests\n")
    path.chmod(0o600)
    path.with_name("id_test.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA== test\n")
    monkeypatch.setenv("CLOUD_SSH_KEY", str(path))
    return path

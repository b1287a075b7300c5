import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from heretic.common.errors import ConfigurationError, UserError
from heretic.web import server
from heretic.web.server import Address, find_address, port_errors

EVERYWHERE = "0.0.0.0"  # noqa: S104 - no test listens there


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((server.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\nsecond line\n", encoding="utf-8")
    return path


def test_a_port_that_is_asked_for_and_taken_is_said(taken: int) -> None:
    with pytest.raises(UserError, match=str(taken)):
        find_address(None, taken, None)


def test_unasked_the_next_free_port_is_used(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "USUAL_PORT", taken)
    found = find_address(None, None, None)
    assert (found.host, found.user) == ("127.0.0.1", None)
    assert taken < found.port < taken + 50
    assert found.names == {f"127.0.0.1:{found.port}", f"localhost:{found.port}"}


def test_a_port_that_was_free_and_is_taken_once_the_page_listens_is_said(taken: int) -> None:
    with (
        pytest.raises(UserError, match=f"Another program has taken port {taken} .*--port"),
        port_errors(Address(server.LOOPBACK, taken)),
    ):
        raise OSError("Cannot find empty port in range")


def test_other_machines_need_a_password(password: Path) -> None:
    with pytest.raises(ConfigurationError, match="--auth"):
        find_address(EVERYWHERE, None, None)
    found = find_address(EVERYWHERE, None, f"me:{password}")
    assert found.user == ("me", "correct horse")
    assert found.names is None
    assert found.url == f"http://127.0.0.1:{found.port}"
    assert "horse" not in repr(found)


def test_passwords_that_cannot_be_used_are_named(tmp_path: Path, password: Path) -> None:
    password.write_text("short\n", encoding="utf-8")
    for auth in ("me", ":x", "me:", f"me:{tmp_path / 'missing'}", f"me:{password}", f"me:{tmp_path}"):
        with pytest.raises(UserError):
            find_address(None, None, auth)

"""Where the page is served: address, port and password, checked before anything is loaded."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from heretic.common.errors import ConfigurationError, UserError, first_line
from heretic.common.file_names import expanded
from heretic.common.integrity import read_foreign

LOOPBACK = "127.0.0.1"
USUAL_PORT = 7860
_TRIED = 50
_SHORTEST_PASSWORD = 8


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page is.

    Attributes:
        host: Address that it listens on.
        port: Free when it was looked for.
        user: Name and password that are asked for, or None.
    """

    host: str
    port: int
    user: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def names(self) -> frozenset[str] | None:
        """By what hosts and ports the page may be asked for; None for any, where it is open to other machines."""
        if self.host != LOOPBACK:
            return None
        return frozenset(f"{name}:{self.port}" for name in (LOOPBACK, "localhost"))

    @property
    def url(self) -> str:
        """What is typed into a browser on this machine."""
        host = LOOPBACK if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not listened on
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def find_address(listen: str | None, port: int | None, auth: str | None) -> Address:
    """The address to serve the page on.

    Args:
        listen: An address of this machine; None for this machine alone.
        port: None for the usual one, or the next that is free.
        auth: ``user:FILE``, or None.

    Raises:
        ConfigurationError: Another address without a password.
        UserError: The port is taken, or the password's file cannot be used.
    """
    host = listen or LOOPBACK
    user = None if auth is None else _user(auth)
    if host != LOOPBACK and user is None:
        raise ConfigurationError(
            "--listen lets other machines use the model, so it needs a password: --auth NAME:FILE, where FILE holds it."
        )
    if port is not None:
        problem = _taken(host, port)
        if problem:
            raise UserError(f"Port {port} of {host} cannot be used ({problem}); choose another one with --port.")
        return Address(host, port, user)
    problem = ""
    for candidate in range(USUAL_PORT, USUAL_PORT + _TRIED):
        problem = _taken(host, candidate)
        if not problem:
            return Address(host, candidate, user)
    raise UserError(f"None of the ports {USUAL_PORT} to {candidate} of {host} can be used ({problem}); use --port.")


@contextmanager
def port_errors(address: Address) -> Iterator[None]:
    """Say in a sentence that the address cannot be listened on any more, which was free when it was looked for.

    Raises:
        UserError: It cannot.
    """
    try:
        yield
    except OSError as error:
        problem = _taken(address.host, address.port) or first_line(error)
        raise UserError(
            f"Another program has taken port {address.port} of {address.host} while the page was prepared ({problem}); "
            "run the same command again, or choose another port with --port."
        ) from error


def _taken(host: str, port: int) -> str:
    """Why a port cannot be listened on; empty where it can."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, OverflowError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return ""


def _user(auth: str) -> tuple[str, str]:
    name, colon, file = auth.partition(":")
    if not (name and colon and file):
        raise ConfigurationError(
            "--auth takes NAME:FILE, e.g. me:password.txt, where the file's first line is the password."
        )
    try:
        lines = read_foreign(expanded(file), 4096).decode("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"The password's file {file} cannot be read ({error}); write the password into it.") from error
    password = lines[0].strip() if lines else ""
    if len(password) < _SHORTEST_PASSWORD:
        raise UserError(
            f"The password in {file} has fewer than {_SHORTEST_PASSWORD} characters; write a longer one into its first "
            "line."
        )
    return name, password

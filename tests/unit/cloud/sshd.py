"""Debian's SSH server on 127.0.0.1, as a rented machine has one."""

import getpass
import os
import shutil
import site
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

SSHD, KEYGEN = "/usr/sbin/sshd", "ssh-keygen"


def why_none() -> str:
    """Why there is no SSH server here; empty where there is one."""
    if not Path(SSHD).exists() or shutil.which(KEYGEN) is None:
        return "there is no sshd (Debian: apt-get install openssh-server)"
    return (
        ""
        if hasattr(os, "geteuid") and os.geteuid() == 0
        else "the SSH server's user must be root, as on rented machines"
    )


@dataclass
class Server:
    """Where it is, and what it knows.

    Attributes:
        port: On 127.0.0.1.
        folder: Its files: ``authorized_keys``, ``host_key``.
        key: The user's private key, with the public one beside it.
        environment: Variables of every session.
    """

    port: int
    folder: Path
    key: Path
    environment: dict[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        settings = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized_keys", "PidFile": "none", "UsePAM": "no",
            "StrictModes": "no", "PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password",
            "Subsystem": "sftp internal-sftp", "PermitUserEnvironment": "no",
        }  # fmt: skip
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines.append("SetEnv " + " ".join(f'"{name}={value}"' for name, value in self.environment.items()))
        configuration = self.folder / "sshd_config"
        configuration.write_text("\n".join(lines) + "\n")
        # The server goes away from its caller's folder, and leaves sessions behind when it is told to end.
        Path("/run/sshd").mkdir(exist_ok=True)
        log = (self.folder / "sshd.log").open("ab")
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(configuration)], stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        log.close()
        for _ in range(1500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "sshd.log").read_text())

    def cut(self) -> None:
        """End the server and every connection, but nothing that was begun by one."""
        assert self.process is not None
        for process in [*psutil.Process(self.process.pid).children(), self.process]:
            process.kill()
        self.process.wait()
        self.process = None


def make_key(path: Path) -> None:
    subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


@contextmanager
def ssh_server(folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    """A server that knows no key yet; its Python sees the packages that the tests see."""
    folder.mkdir()
    make_key(folder / "host_key")
    make_key(folder / "id_user")
    (folder / "authorized_keys").touch(mode=0o600)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert getpass.getuser() == "root"
    # The folder of packages alone, not the checkout: heretic is what setup installs, and nothing else.
    home = folder / "home"
    home.mkdir()
    packages = {
        "HOME": str(home),
        "PYTHONPATH": site.getsitepackages()[0],
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_DEPS": "1",
    }
    server = Server(port, folder, folder / "id_user", {**packages, **environment})
    server.start()
    try:
        yield server
    finally:
        if server.process is not None:
            server.cut()

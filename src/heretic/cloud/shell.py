"""A rented machine's shell: commands and files over one SSH connection, by Fabric.

What a person or a provider named is never part of a command line: it goes to standard input, or stands in a file.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from heretic.cloud.keys import setting
from heretic.cloud.machines import Endpoint, Machine
from heretic.cloud.provider import PACKAGES
from heretic.common.errors import CloudError, ConfigurationError, first_line
from heretic.common.file_names import configuration_folder, expanded

KEY_VARIABLE = "CLOUD_SSH_KEY"
KEY_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa")
CONNECT_SECONDS = 15
KEEPALIVE_SECONDS = 15
PIECE = 32_768

T = TypeVar("T")


class Unreachable(CloudError):
    """No connection, or it was lost: trying again may help."""


class HostKeyChanged(CloudError):
    """Another machine answers than before, or it was made anew."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command wrote, and its exit code."""

    code: int
    output: str
    errors: str


@dataclass(frozen=True, slots=True)
class HostKeys:
    """The host keys of rented machines, each under a name of its own, as its address may change."""

    path: Path

    def remembered(self, alias: str) -> list[tuple[str, str]]:
        """Kind and key of every line about a machine."""
        lines = self.path.read_text(encoding="ascii").splitlines() if self.path.exists() else []
        return [(parts[1], parts[2]) for parts in map(str.split, lines) if len(parts) >= 3 and parts[0] == alias]

    def remember(self, alias: str, kind: str, key: str) -> None:
        """Add a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="ascii") as file:
            file.write(f"{alias} {kind} {key}\n")

    def forget(self, alias: str) -> None:
        """Take a machine's lines out."""
        if self.path.exists():
            lines = self.path.read_text(encoding="ascii").splitlines(keepends=True)
            self.path.write_text("".join(line for line in lines if line.split()[:1] != [alias]), encoding="ascii")


@dataclass(frozen=True, slots=True)
class Access:
    """How machines are reached from here.

    Attributes:
        key: The private key's file.
        hosts: Host keys that are known.
        provider: Name of the provider, part of each machine's name among the host keys.
    """

    key: Path
    hosts: HostKeys
    provider: str

    @classmethod
    def of(cls, provider: str, environment: Mapping[str, str], folder: Path) -> "Access":
        """The user's own.

        Raises:
            ConfigurationError: There is no key.
        """
        hosts = HostKeys(configuration_folder(environment) / "cloud_known_hosts")
        named = setting(KEY_VARIABLE, environment, folder)
        usual = [Path.home() / ".ssh" / name for name in KEY_NAMES]
        key = expanded(named) if named else next((path for path in usual if path.is_file()), None)
        if key is None or not key.is_file():
            what = f"{KEY_VARIABLE} names no file" if named else "There is no SSH key in ~/.ssh"
            raise ConfigurationError(f"{what}; run 'ssh-keygen -t ed25519', or name one with {KEY_VARIABLE}.")
        return cls(key, hosts, provider)

    def public_key(self) -> str:
        """The line that a machine is given.

        Raises:
            ConfigurationError: There is none beside the private key.
        """
        path = self.key.with_name(f"{self.key.name}.pub")
        try:
            line = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"The public key {path} cannot be read; 'ssh-keygen -y -f {self.key} > {path}' writes it."
            ) from error
        if len(line.split()) < 2 or len(line.splitlines()) != 1 or not line.startswith(("ssh-", "ecdsa-", "sk-")):
            raise ConfigurationError(f"{path} holds no SSH public key; name another key with {KEY_VARIABLE}.")
        return line

    def alias(self, machine: Machine) -> str:
        """The machine's name among the host keys."""
        return f"{self.provider}-{machine.id}"

    def ssh(self, machine: Machine) -> list[str]:
        """Arguments of the system's ssh up to the host, which comes last."""
        endpoint = endpoint_of(machine)
        self.hosts.path.parent.mkdir(parents=True, exist_ok=True)
        options = {
            "HostKeyAlias": self.alias(machine),
            "UserKnownHostsFile": str(self.hosts.path),
            "StrictHostKeyChecking": "accept-new",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "ServerAliveInterval": str(KEEPALIVE_SECONDS),
        }
        given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-p", str(endpoint.port), "-l", endpoint.user, "-i", str(self.key), *given, endpoint.host]


def endpoint_of(machine: Machine) -> Endpoint:
    """Where a machine's SSH server is.

    Raises:
        CloudError: It has none now.
    """
    if machine.endpoint is None:
        raise CloudError(f"The machine {machine.name} is {machine.said} and cannot be reached; start it, or wait.")
    return machine.endpoint


class Shell:
    """A connection to one machine; see `connected`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, command: str, given: str = "", line: Callable[[str], None] | None = None) -> Result:
        """Run a command with standard input; its output goes on line by line too where somebody listens.

        Raises:
            Unreachable: The connection was lost; the command may go on.
        """
        return _over_ssh(lambda: self._run(command, given, line))

    def _run(self, command: str, given: str, line: Callable[[str], None] | None) -> Result:
        # Fabric's own `run` sends standard input a character every hundredth of a second.
        channel = self._connection.transport.open_session()
        # Two streams that are read one after the other may wait for each other.
        channel.set_combine_stderr(line is not None)
        channel.exec_command(command)
        channel.sendall(given.encode())
        channel.shutdown_write()
        lines = []
        for data in channel.makefile("rb"):
            lines.append(data.decode(errors="replace"))
            if line is not None:
                line(lines[-1].rstrip("\n"))
        errors = channel.makefile_stderr("rb").read().decode(errors="replace")
        return Result(channel.recv_exit_status(), "".join(lines), errors)

    def script(self, text: str, line: Callable[[str], None] | None = None) -> Result:
        """Run a script by bash; see `run`."""
        return self.run("bash -s", text, line)

    def ask(self, command: str, request: Any) -> dict[str, Any]:
        """Run a program that reads JSON and writes JSON.

        Raises:
            CloudError: It failed, or wrote something else.
        """
        result = self.run(command, json.dumps(request) + "\n")
        try:
            answer = json.loads(result.output.splitlines()[-1])
        except (ValueError, IndexError) as error:
            reason = (result.errors.strip().splitlines() or ["no message"])[-1][:200]
            raise CloudError(f"The machine answered something else than was asked for ({reason}).") from error
        if not isinstance(answer, dict):
            raise CloudError("The machine answered something else than was asked for.")
        return answer

    @property
    def sftp(self) -> Any:
        """Paramiko's SFTP client."""
        return _over_ssh(self._connection.sftp)

    def put(self, content: bytes, path: str) -> None:
        """Write a file there."""

        def write() -> None:
            with self._connection.sftp().open(path, "wb") as file:
                file.set_pipelined(True)
                for start in range(0, len(content), PIECE):
                    file.write(content[start : start + PIECE])

        _over_ssh(write)


@contextmanager
def connected(access: Access, machine: Machine) -> Iterator[Shell]:
    """A shell on a machine while the with-block lasts.

    Raises:
        Unreachable: It does not answer.
        HostKeyChanged: Another one does.
        CloudError: It does not let us in.
    """
    endpoint = endpoint_of(machine)
    try:
        from fabric import Config, Connection
    except ImportError as error:
        raise CloudError(f"The package {error.name} is not installed; run {PACKAGES}.") from error
    connection = Connection(
        endpoint.host,
        user=endpoint.user,
        port=endpoint.port,
        config=Config(overrides={"load_ssh_configs": False}),
        connect_timeout=CONNECT_SECONDS,
        connect_kwargs={"key_filename": [str(access.key)], "look_for_keys": False},
    )
    connection.client.set_missing_host_key_policy(_policy(access.hosts, access.alias(machine)))
    try:
        _over_ssh(connection.open, access)
        connection.transport.set_keepalive(KEEPALIVE_SECONDS)
        yield Shell(connection)
    finally:
        connection.close()


def reaches(access: Access, machine: Machine) -> bool:
    """Whether a machine lets us in; False while its SSH server or the key is not there yet.

    Raises:
        HostKeyChanged: Another machine answers.
        CloudError: The key cannot be used.
    """
    try:
        with connected(access, machine) as shell:
            return shell.script("true").code == 0
    except (Unreachable, NotLetIn):
        return False


class NotLetIn(CloudError):
    """The machine does not accept the key (yet)."""


def _policy(hosts: HostKeys, alias: str) -> Any:

    class Remembering:
        """Remembers a machine's first key, and refuses others."""

        def missing_host_key(self, _client: Any, _name: str, key: Any) -> None:
            known, seen = hosts.remembered(alias), (key.get_name(), key.get_base64())
            if not known:
                hosts.remember(alias, *seen)
            elif seen not in known:
                raise HostKeyChanged(
                    f"The machine {alias} shows another SSH host key than before, so it is another one, or was made "
                    f"anew. If you made it anew, take its line out of {hosts.path}; otherwise destroy it."
                )

    return Remembering()


def _over_ssh(act: Callable[[], T], access: Access | None = None) -> T:
    """Do something over SSH; what goes wrong in words.

    Raises:
        CloudError: See `connected`.
    """
    import paramiko

    key = "" if access is None else f" {access.key}"
    try:
        return act()
    except paramiko.PasswordRequiredException as error:
        raise ConfigurationError(
            f"The SSH key{key} has a passphrase, and no agent holds it; run 'eval $(ssh-agent)' and 'ssh-add{key}'."
        ) from error
    except paramiko.AuthenticationException as error:
        raise NotLetIn(
            f"The machine does not accept the SSH key{key}; name the key that it was created with in {KEY_VARIABLE}."
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise Unreachable(f"The machine does not answer ({first_line(error)}).") from error


def transfers(act: Callable[[], T]) -> T:
    """Do something with files there and here; what goes wrong in words.

    Raises:
        Unreachable: The connection was lost, or a file cannot be read or written.
    """
    return _over_ssh(act)


def problems_of_key(access: Access) -> list[str]:
    """What is wrong with the SSH key, each with the line that mends it."""
    problems = []
    if os.name != "nt" and access.key.stat().st_mode & 0o077:
        problems.append(f"Others may read {access.key}, so ssh refuses it: chmod 600 {access.key}")
    if "ENCRYPTED" in access.key.read_text(encoding="ascii", errors="replace") and not os.environ.get("SSH_AUTH_SOCK"):
        problems.append(f"No SSH agent runs to hold the passphrase: eval $(ssh-agent) && ssh-add {access.key}")
    return problems

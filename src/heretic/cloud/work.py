"""Work on a rented machine, from here: setting up, beginning a run, looking at it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heretic.cloud.keys import checked_folder, setting
from heretic.cloud.machines import Machine, State
from heretic.cloud.shell import Access, Shell, Unreachable, connected
from heretic.cloud.wheel import pack_wheel, wheel_name
from heretic.common.errors import CloudError
from heretic.models.location import edited_name

WORKSPACE_VARIABLE, WORKSPACE = "CLOUD_WORKSPACE", "/workspace/heretic"
WAIT_HOURS = 1.0
"""How long a finished machine waits for its model to be fetched before it stops itself."""
NOT_SET_UP = 66
_SETUP = """\
set -eu
W='{folder}'
PATH="$PATH:/opt/conda/bin:/venv/main/bin:/usr/local/bin"
mkdir -p "$W/job" "$W/run/models" "$W/hub"
touch ~/.no_auto_tmux
python=''
fits='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))'
for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
  if command -v "$candidate" > /dev/null && "$candidate" -c "$fits"; then python=$candidate; break; fi
done
if [ -z "$python" ]; then
  echo 'There is no Python 3.10 to 3.13 on the machine; create one with another --image.'
  exit 1
fi
if ! [ -x "$W/venv/bin/python" ]; then
  echo "Making an environment with $("$python" --version)."
  if ! "$python" -m venv --system-site-packages "$W/venv" > "$W/job/setup.log" 2>&1; then
    echo 'Its Python lacks venv; installing it.'
    rm -rf "$W/venv"
    apt-get update -qq >> "$W/job/setup.log" 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >> "$W/job/setup.log" 2>&1
    "$python" -m venv --system-site-packages "$W/venv"
  fi
fi
if ! command -v rsync > /dev/null; then
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq rsync >> "$W/job/setup.log" 2>&1 ||
    echo 'There is no rsync on the machine; models will be fetched by SFTP.'
fi
echo 'Installing heretic and what it needs.'
"$W/venv/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$W/job/{wheel}"
"$W/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$W/job/{wheel}{extras}"
"$W/venv/bin/python" -m heretic --version
"""


def workspace(environment: Mapping[str, str], folder: Path) -> str:
    """The folder on rented machines that everything is in; it lies on the disk that is kept.

    Raises:
        ConfigurationError: It is none.
    """
    return checked_folder(setting(WORKSPACE_VARIABLE, environment, folder) or WORKSPACE)


@dataclass(frozen=True, slots=True)
class Site:
    """Where heretic works on a machine.

    Attributes:
        shell: A connection.
        folder: See `workspace`.
    """

    shell: Shell
    folder: str

    def set_up(self, gpus: int, say: Callable[[str], None]) -> None:
        """Install this version of heretic, with workers where there are several GPUs; again where it is there already.

        Raises:
            CloudError: It cannot be installed.
        """
        made = self.shell.script(f"mkdir -p '{self.folder}/job'")
        if made.code:
            raise CloudError(f"The folder {self.folder} cannot be made on the machine; name another CLOUD_WORKSPACE.")
        self.shell.put(pack_wheel(), f"{self.folder}/job/{wheel_name()}")
        done = self.shell.script(
            _SETUP.format(folder=self.folder, wheel=wheel_name(), extras="[parallel]" if gpus > 1 else ""), say
        )
        if done.code:
            raise CloudError(
                f"Heretic could not be installed on the machine (exit code {done.code}); its last lines stand above."
            )

    def ask(self, verb: str, request: Any = None) -> dict[str, Any]:
        """Ask `heretic.cloud.job`.

        Raises:
            CloudError: It is not set up, or fails.
        """
        program = f"{self.folder}/venv/bin/python"
        ready = self.shell.script(f"test -x '{program}' && '{program}' -c 'import heretic.cloud.job'")
        if ready.code:
            raise NotSetUp("Heretic is not installed on the machine yet; run setup first.")
        return self.shell.ask(f"{program} -m heretic.cloud.job {verb} {self.folder}", request or {})

    def look(self) -> dict[str, Any]:
        """How the machine and its run are, see `heretic.cloud.job.look`."""
        return self.ask("look")


@contextmanager
def site_on(access: Access, machine: Machine) -> Iterator[Site]:
    """Where heretic works on a machine, while the with-block lasts; raises as `connected` and `workspace`."""
    folder = workspace(os.environ, Path.cwd())
    with connected(access, machine) as shell:
        yield Site(shell, folder)


class NotSetUp(CloudError):
    """There is no heretic on the machine."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What is to be run.

    Attributes:
        arguments: Of heretic.
        environment: Variables for it alone; secrets are only here, and go by standard input.
        when_done: ``destroy`` once all is fetched, ``stop``, or nothing.
        max_hours: After so many the run is ended.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    when_done: str = ""
    max_hours: float | None = None
    wait_hours: float = WAIT_HOURS

    def to_json(self) -> dict[str, Any]:
        """As `heretic.cloud.job.start` reads it."""
        return {
            "arguments": list(self.arguments),
            "environment": dict(self.environment),
            "when_done": self.when_done,
            "wait_seconds": self.wait_hours * 3600,
            "max_seconds": None if self.max_hours is None else self.max_hours * 3600,
        }


def run_arguments(model: str, passed_on: Sequence[str], gpus: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """The arguments of a run that nobody sits at, and its variables.

    A database's address may hold a password, so that it goes where no list of processes shows it.
    """
    arguments, environment = ["--model", model], {}
    given = list(passed_on)
    flags = {part.partition("=")[0] for part in given}
    if "--storage" in given:
        place = given.index("--storage")
        environment["HERETIC_STORAGE"] = given[place + 1]
        del given[place : place + 2]
    if not flags & {"--auto-select", "--auto-select-path"}:
        arguments += ["--auto-select", "true", "--auto-select-path", f"models/{edited_name(model)}"]
    if gpus > 1 and not flags & {"--workers", "--join", "--device-map"}:
        arguments += ["--workers", "auto"]
    if "--log-file" not in flags:
        arguments += ["--log-file", "heretic.log"]
    return (*arguments, *given), environment


def refuse_to_interrupt(access: Access, machine: Machine, program: str) -> None:
    """Refuse to stop a machine on which a run goes on.

    Raises:
        CloudError: One does, or that cannot be seen.
    """
    found = _look(access, machine, program, "stop")
    if found is not None and found["job"]["state"] == "running":
        raise CloudError(
            f"A run goes on there; '{program} progress' shows it. Stop the machine with --force, and the run ends: its "
            f"study is kept on the disk, and '{program} run MODEL --resume' goes on with it after a start."
        )


def refuse_to_lose(access: Access, machine: Machine, program: str) -> None:
    """Refuse to destroy a machine while a run goes on there, or where work was not fetched.

    Raises:
        CloudError: One does, something was not, or that cannot be seen.
    """
    found = _look(access, machine, program, "terminate")
    if found is None:
        return
    if found["job"]["state"] == "running":
        raise CloudError(
            f"A run goes on there; '{program} progress' shows it. --force destroys the machine all the same."
        )
    if found["unfetched"]:
        lost = ", ".join(map(str, found["unfetched"]))
        raise CloudError(
            f"Not fetched yet: {lost}. '{program} download' fetches it; --force destroys the machine all the same."
        )


def _look(access: Access, machine: Machine, program: str, verb: str) -> dict[str, Any] | None:
    """How a machine's work is; None where nothing was ever done there."""
    if machine.state is State.LOADING:
        return None
    try:
        with site_on(access, machine) as site:
            return site.look()
    except NotSetUp:
        return None
    except Unreachable as error:
        raise CloudError(
            f"It cannot be seen whether work would be lost. {error} '{program} {verb} --force' does it all the same."
        ) from error
    except CloudError as error:
        raise CloudError(f"{error} '{program} {verb} --force' does it all the same, whatever is on it.") from error

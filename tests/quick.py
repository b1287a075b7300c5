"""What spares every process of the tests time without changing what is tested; imported before torch is."""

import atexit
import os
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any


def with_one_thread() -> None:
    """Let this process and those that it starts compute with one thread each.

    Pico models are too small to gain from threads, and threads of several processes that wait for each other by
    spinning made the suite several times slower.
    """
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"


def with_bytecode() -> None:
    """Write bytecode to a folder of this run where the environment says that none is to be written.

    Containers often say so, and then each of the processes that the tests start compiles torch and transformers anew,
    which takes longer than what it is started for.
    """
    if not sys.dont_write_bytecode:
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # The first process makes the folder; the others inherit these variables.
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = folder_of_this_process("bytecode")
    sys.dont_write_bytecode = False


def folder_of_this_process(name: str) -> str:
    """A new folder that goes when this process ends."""
    folder = mkdtemp(prefix=f"heretic-{name}-")
    atexit.register(_remove, Path(folder), os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    # Not when a process ends that was forked from the owner.
    if os.getpid() == owner:
        shutil.rmtree(folder)


def without_waiting_for_the_disk() -> None:
    """Let SQLite leave the writing to the system: no test kills the machine, and waiting costs more than all else."""
    from sqlalchemy import Engine, event

    event.listen(Engine, "connect", _relax)


def _relax(connection: Any, _record: object) -> None:
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA synchronous=OFF")


def with_migrations_read_once() -> None:
    """Keep what alembic reads of Optuna's migrations, which it would read three times for every study that is made."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    read, known = ScriptDirectory.from_config, {}

    def once(config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in known:
            known[place] = read(config)
        return known[place]

    ScriptDirectory.from_config = once

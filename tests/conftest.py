"""What all tests share."""

import gc
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from tests.quick import (
    folder_of_this_process,
    with_bytecode,
    with_migrations_read_once,
    with_one_thread,
    without_waiting_for_the_disk,
)

with_one_thread()
with_bytecode()

import pytest  # noqa: E402 - the lines above hold for what is imported here
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from tests.integration.command import Command, warm_command  # noqa: E402

torch.set_num_threads(1)
without_waiting_for_the_disk()
with_migrations_read_once()

# What decides whether a change lands is the same every time; `--hypothesis-profile explores` looks further.
settings.register_profile("decides", derandomize=True)
settings.register_profile("explores", derandomize=False)
settings.load_profile("decides")

# No test may write to the home folder, also not while fixtures of a module or of the session are made.
_configurations = Path(folder_of_this_process("tests"))
_numbers = itertools.count()
os.environ["XDG_CONFIG_HOME"] = str(_configurations)


@pytest.fixture(autouse=True)
def configuration_folder(monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's configuration, so that no test finds another one's profiles."""
    # Not of `tmp_path_factory`, which looks through all that it has made for every further one.
    folder = _configurations / str(next(_numbers))
    folder.mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _imported_once() -> Iterator[None]:
    """Keep what libraries made on import out of garbage collection, which looks at a million objects for nothing."""
    import transformers.generation  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def heretic() -> Iterator[Command]:
    """The command line, see `Command`."""
    if not hasattr(os, "fork"):
        pytest.skip("commands are started by a fork, which this system does not have")
    with warm_command() as command:
        yield command

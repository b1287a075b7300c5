"""What all tests share."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

# Pico models are too small to gain from threads, and threads of several processes that wait for each other by spinning
# made the suite several times slower. Before torch is imported, and for the processes that tests start.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import pytest  # noqa: E402 - see above
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from tests.integration.command import Command, warm_command  # noqa: E402

torch.set_num_threads(1)

# What decides whether a change lands is the same every time; `--hypothesis-profile explores` looks further.
settings.register_profile("decides", derandomize=True)
settings.register_profile("explores", derandomize=False)
settings.load_profile("decides")

# No test may write to the home folder, also not while fixtures of a module or of the session are made.
os.environ["XDG_CONFIG_HOME"] = mkdtemp(prefix="heretic-tests-")


@pytest.fixture(autouse=True)
def configuration_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the user's configuration, so that no test finds another one's profiles."""
    folder = tmp_path_factory.mktemp("configuration")
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

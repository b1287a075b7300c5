import os
from collections.abc import Iterator

import pytest
from tests.integration.command import Command, warm_command


@pytest.fixture(scope="session")
def heretic() -> Iterator[Command]:
    """The command line, see `Command`."""
    if not hasattr(os, "fork"):
        pytest.skip("commands are started by a fork, which this system does not have")
    with warm_command() as command:
        yield command

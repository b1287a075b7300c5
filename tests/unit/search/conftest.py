"""SQLite without waiting for the disk: no test kills the machine, and waiting would cost more than all else."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    def relax(connection: Any, _record: object) -> None:
        if type(connection).__module__.startswith("sqlite3"):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)
    yield
    event.remove(Engine, "connect", relax)

"""How a study's database is connected to: a server may idle, be far away, and be down for a while."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from heretic.common.errors import first_line
from heretic.observability.events import Warned, emit

LOCK_WAIT_SECONDS = 30
"""How long a SQLite file may be locked: other runs that use it write for moments, but on a slow disk for long ones."""
RECYCLE_SECONDS = 1800
"""A server's connection that is older is replaced by a new one before it is used again."""
OUTAGE_SECONDS = 60.0
"""How long a server that has been reached before is waited for: half of what silent workers are waited for."""
RETRY_SECONDS = 1.0
"""How often it is tried meanwhile."""
CUTS = 3
"""How often the same is begun again where the server ends the connection in its midst."""
T = TypeVar("T")
_LIBPQ_DRIVERS = ("psycopg", "psycopg2")
_LIBPQ = {
    "connect_timeout": 10,
    # Firewalls forget a line that says nothing for minutes, while a batch is measured.
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    # In ms: of a machine that is gone, without it nobody says so for a quarter of an hour.
    "tcp_user_timeout": 60_000,
}


def engine_options(url: str) -> dict[str, Any]:
    """How the storage is connected to, unless the URL itself says otherwise.

    A server may have few connections for many workers, and end those that idle while a batch is measured.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return {} if "timeout" in parsed.query else {"connect_args": {"timeout": LOCK_WAIT_SECONDS}}
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 2, "pool_pre_ping": True}
    options["pool_recycle"] = RECYCLE_SECONDS
    if parsed.get_backend_name() == "postgresql" and parsed.get_driver_name() in _LIBPQ_DRIVERS:
        options["connect_args"] = {name: value for name, value in _LIBPQ.items() if name not in parsed.query}
    return options


def outlast_outages(
    engine: Engine,
    reached: bool = False,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Have whoever needs a connection wait, and say so, while a server is down that was reached before.

    A transaction that the server ended in its midst raises as ever, see `begun_again`.

    Args:
        engine: Whose connections.
        reached: Whether it had one already.
        now: A clock, in seconds.
        sleep: Lets so many of them pass.
    """
    if engine.dialect.name == "sqlite":
        return

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _record: object, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
        nonlocal reached
        ends: float | None = None
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if not reached or (ends is not None and now() >= ends):
                    raise
                if ends is None:
                    ends = now() + OUTAGE_SECONDS
                    emit(
                        Warned(
                            f"The server of the study cannot be reached ({first_line(error)}); it is tried again for "
                            f"{OUTAGE_SECONDS:.0f} seconds."
                        )
                    )
                sleep(RETRY_SECONDS)
            else:
                reached = True
                return connection


def begun_again(transaction: Callable[[bool], T]) -> T:
    """What a transaction returns; begun again, and that is said, where the server ended the connection in its midst.

    What it did is stored or not: if the server ended it while it was committed, nobody knows.

    Args:
        transaction: Is told whether it was begun before. Then it looks first, or does what does no harm twice.
    """
    for left in reversed(range(CUTS)):
        try:
            return transaction(left < CUTS - 1)
        except Exception as error:
            if not left or not was_cut(error):
                raise
            emit(
                Warned(f"The server of the study ended the connection ({_reason(error)}); what was cut is done again.")
            )
    raise AssertionError("unreachable")


def was_cut(error: BaseException) -> bool:
    """Whether an exception, or what Optuna made it from, says that the connection is gone."""
    told = error if isinstance(error, SQLAlchemyError) else error.__cause__
    return isinstance(told, DBAPIError) and told.connection_invalidated


def _reason(error: BaseException) -> str:
    told = error if isinstance(error, DBAPIError) else error.__cause__
    return first_line(getattr(told, "orig", None) or error)

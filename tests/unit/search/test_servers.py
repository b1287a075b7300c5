"""What a server that goes away costs whoever has a study on it."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError

from heretic.observability.events import Event, Warned, subscribed
from heretic.search import servers
from heretic.search.servers import outlast_outages


class Server:
    """One that is down for as many attempts as it is told, as seconds pass with every wait."""

    def __init__(self) -> None:
        self.down = 0
        self.waited = 0.0
        # A driver of its own kind in the place of a server's.
        self.engine: Engine = create_engine("sqlite://")
        self.engine.dialect.name = "postgresql"
        self._connect = self.engine.dialect.connect
        self.engine.dialect.connect = self.connect  # type: ignore[method-assign]

    def connect(self, *arguments: object, **options: object) -> object:
        if self.down > 0:
            self.down -= 1
            raise self.engine.dialect.loaded_dbapi.OperationalError("connection refused")
        return self._connect(*arguments, **options)

    def sleep(self, seconds: float) -> None:
        self.waited += seconds


@pytest.fixture
def server() -> Server:
    made = Server()
    outlast_outages(made.engine, now=lambda: made.waited, sleep=made.sleep)
    return made


@pytest.fixture
def warned() -> Iterator[list[str]]:
    said: list[str] = []

    def note(event: Event) -> None:
        if isinstance(event, Warned):
            said.append(event.message)

    with subscribed(note):
        yield said


def reconnect(server: Server) -> None:
    server.engine.dispose()
    server.engine.connect().close()


def test_a_server_that_comes_back_is_waited_for_and_that_is_said_once_each_time(
    server: Server, warned: list[str]
) -> None:
    reconnect(server)
    for times in (1, 2):
        server.down = 20
        reconnect(server)
        assert server.waited == times * 20
        assert len(warned) == times
        assert "cannot be reached (connection refused)" in warned[-1]


def test_one_that_stays_away_or_was_never_there_is_an_error(server: Server, warned: list[str]) -> None:
    server.down = 1
    with pytest.raises(OperationalError):
        reconnect(server)
    assert server.waited == 0
    assert not warned
    reconnect(server)
    server.down = 1000
    with pytest.raises(OperationalError):
        reconnect(server)
    assert server.waited == servers.OUTAGE_SECONDS


def test_a_url_that_says_otherwise_is_heeded() -> None:
    options = servers.engine_options("postgresql+psycopg://user@host/name?connect_timeout=3")["connect_args"]
    assert "connect_timeout" not in options
    assert options["keepalives_idle"] == 60
    assert "connect_args" not in servers.engine_options("mysql+pymysql://user@host/name")

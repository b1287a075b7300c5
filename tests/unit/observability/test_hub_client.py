"""The hub's real client against a server on this machine that answers as a hub does which is busy or not there."""

import http.server
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from heretic.common.errors import causes
from heretic.common.hub_errors import HTTP, HubAddressError, HubFailure, HubProxyError, hub_failure
from heretic.observability import hub_client
from heretic.observability.events import Event, Warned, subscribed

pytestmark = pytest.mark.versions


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the statuses of a list, one after the other; the last one for ever."""

    statuses: list[int]
    headers_sent: dict[str, str]

    def answer(self) -> None:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        self.send_response(status)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = answer  # noqa: N815 - names of the library

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub_client.ask_hub_again()
    hub_client._install.cache_clear()
    hub_client.prepare_hub()
    yield
    hub_client.ask_hub_again()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds: list[float] = []
    monkeypatch.setattr(hub_client, "sleep", seconds.append)
    return seconds


@pytest.fixture
def said() -> Iterator[list[Event]]:
    events: list[Event] = []
    with subscribed(events.append):
        yield events


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()


def get(url: str, method: str = "GET") -> int:
    return int(huggingface_hub.get_session().request(method, url).status_code)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_waited_for_as_it_asks(address: str, waits: list[float], said: list[Event], status: int) -> None:
    Handler.statuses, Handler.headers_sent = [status, status, 200], {"Retry-After": "12"}
    assert get(address) == 200
    assert waits == [12.0, 12.0]
    assert all(isinstance(event, Warned) and str(status) in event.message for event in said)
    assert len(said) == 2


def test_a_hub_that_stays_busy(address: str, waits: list[float]) -> None:
    Handler.statuses, Handler.headers_sent = [503], {}
    with pytest.raises(HfHubHTTPError) as raised:
        get(address, "HEAD")
    assert waits == [1.0, 2.0, 4.0]
    assert hub_failure(causes(raised.value)) == (HubFailure.BUSY, raised.value)
    Handler.statuses = [200]
    with pytest.raises(HfHubHTTPError):
        get(address)
    hub_client.ask_hub_again()
    assert get(address) == 200


def test_a_hub_that_asks_for_hours(address: str, waits: list[float]) -> None:
    Handler.statuses, Handler.headers_sent = [429], {"Retry-After": "7200"}
    with pytest.raises(HfHubHTTPError, match="7200"):
        get(address)
    assert waits == []


def test_other_answers_are_passed_on(address: str, waits: list[float]) -> None:
    Handler.statuses, Handler.headers_sent = [404], {}
    assert get(address) == 404
    Handler.statuses = [500]
    assert get(address) == 500
    assert waits == []


def test_a_hub_that_is_not_there_is_asked_once(said: list[Event]) -> None:
    for _ in range(2):
        with pytest.raises(OfflineModeIsEnabled) as raised:
            get("http://127.0.0.1:1/file")
        assert hub_failure(causes(raised.value)) == (HubFailure.UNREACHABLE, raised.value)
    assert len(said) == 1


def test_a_hub_that_was_there_before(address: str, said: list[Event], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks now and then is no missing network."""
    Handler.statuses, Handler.headers_sent = [200], {}
    assert get(address) == 200

    def broken(*_arguments: object, **_options: object) -> None:
        raise HTTP.ConnectError("reset")

    monkeypatch.setattr(HTTP.Client, "send", broken)
    for _ in range(hub_client.LOST - 1):
        with pytest.raises(HTTP.ConnectError):
            get(address)
    assert said == []
    with pytest.raises(OfflineModeIsEnabled):
        get(address)
    assert len(said) == 1


@pytest.mark.parametrize("url", ["hub.example/file", "ftp://hub.example/file", "http://hub.example:port/file"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(HubAddressError):
        get(url)


@pytest.mark.parametrize("proxy", ["gopher://127.0.0.1:9", "http://127.0.0.1:port", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    monkeypatch.setitem(__import__("sys").modules, "socksio", None)
    huggingface_hub.close_session()
    with pytest.raises(HubProxyError):
        get("http://hub.example/file")


def test_waits_that_are_asked_for() -> None:
    soon = datetime.now(timezone.utc) + timedelta(seconds=100)
    date = hub_client.requested_wait({"Retry-After": format_datetime(soon, usegmt=True)})
    assert date is not None
    assert 90 < date <= 100
    assert hub_client.requested_wait({"ratelimit": '"api";r=0;t=55'}) == 55
    assert hub_client.requested_wait({"ratelimit": '"api";r=3;t=55'}) is None
    assert hub_client.requested_wait({"Retry-After": "soon"}) is None
    assert hub_client.requested_wait({}) is None

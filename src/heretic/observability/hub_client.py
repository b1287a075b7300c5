"""The hub's client as a run uses it: every wait is said, and a hub that does not answer is not asked again and again.

By itself the client waits half a minute for each file that it looks for, without a word, before it takes what is in its
cache.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache
from time import sleep
from typing import Any

from huggingface_hub import set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils._http import hf_request_event_hook

from heretic.common.errors import first_line
from heretic.common.hub_errors import BUSY_STATUSES, HTTP, HubAddressError, HubProxyError
from heretic.observability.events import Warned, emit
from heretic.observability.libraries import quieten

WAITS = 3
"""How often a busy hub is waited for."""
LONGEST_WAIT = 300.0
"""Seconds; a hub that asks for more is for another day."""
LOST = 4
"""Failures in a row after which a hub that has answered before counts as out of reach."""

_NOTHING_LEFT = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)")
"""In the hub's own header: no request is left for so many seconds."""


@dataclass
class _Host:
    """What is known of a host: whether it has answered, its failures in a row, and what asking it once more ends in."""

    answered: bool = False
    failures: int = 0
    gone: Callable[[], Exception] | None = None


_hosts: dict[str, _Host] = {}


def prepare_hub() -> None:
    """Have the hub's client say its waits; called before it is used."""
    quieten("huggingface_hub")
    _install()


def ask_hub_again() -> None:
    """Forget that hosts did not answer: hours later they may."""
    _hosts.clear()


@cache
def _install() -> None:
    set_client_factory(_client)


def _client() -> Any:
    try:
        return _Client(event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True, timeout=None)
    except (ImportError, ValueError, HTTP.InvalidURL) as error:
        # All that depends on this machine is what its environment says of proxies.
        raise HubProxyError(first_line(error)) from error


class _Client(HTTP.Client):  # type: ignore[misc]  # which library it is from is found out at run time
    def build_request(self, *arguments: Any, **options: Any) -> Any:
        """As its base; an address that is none is told from other mistakes."""
        try:
            return super().build_request(*arguments, **options)
        except HTTP.InvalidURL as error:
            raise HubAddressError(first_line(error)) from error

    def send(self, request: Any, **options: Any) -> Any:
        """As its base, but waits for a busy hub itself, and ends at once where an earlier request found no hub."""
        host = _hosts.setdefault(request.url.host, _Host())
        for number in range(WAITS + 1):
            if host.gone is not None:
                raise host.gone()
            response = self._sent(host, request, options)
            if response.status_code not in BUSY_STATUSES or request.method not in ("GET", "HEAD"):
                break
            response.close()
            _wait(host, response, number)
        host.answered, host.failures = True, 0
        return response

    def _sent(self, host: _Host, request: Any, options: dict[str, Any]) -> Any:
        try:
            return super().send(request, **options)
        except HTTP.UnsupportedProtocol as error:
            raise HubAddressError(first_line(error)) from error
        except (HTTP.NetworkError, HTTP.TimeoutException) as error:
            host.failures += 1
            never_there = not host.answered and isinstance(error, (HTTP.ConnectError, HTTP.ConnectTimeout))
            if not never_there and host.failures < LOST:
                raise  # The client tries again.
            raise _out_of_reach(host, request.url.host, error) from error


def _out_of_reach(host: _Host, name: str, cause: Exception) -> Exception:
    """Remember and say that a host does not answer; what the client takes for a reason to look into its cache."""
    if host.gone is None:
        emit(
            Warned(
                f"{name} cannot be reached ({first_line(cause)}); from here on only what is in the hub's cache on this "
                "machine is used, as HF_HUB_OFFLINE=1 says from the start."
            )
        )

    def error() -> Exception:
        offline = OfflineModeIsEnabled(f"{name} cannot be reached ({first_line(cause)})")
        offline.__cause__ = cause
        return offline

    host.gone = error
    return error()


def _wait(host: _Host, response: Any, number: int) -> None:
    """Wait as a busy hub asks, or a moment.

    Args:
        host: Counts as gone where waiting is of no use any more.
        response: What it answered.
        number: How often it has been waited for before, for this request.

    Raises:
        HfHubHTTPError: It has been waited for often enough, or asks for too long a wait.
    """
    requested = requested_wait(response.headers)
    answer = f"{response.status_code} {response.reason_phrase}".strip()
    seconds = float(2**number) if requested is None else requested
    if number < WAITS and seconds <= LONGEST_WAIT:
        emit(Warned(f"The hub is busy (it answers {answer}); it is asked again in {max(seconds, 1):.0f} s."))
        sleep(seconds)
        return
    asks = "" if requested is None else f", and asks to wait {requested:.0f} s"
    host.gone = lambda: HfHubHTTPError(f"it answers {answer}{asks}", response=response)
    raise host.gone()


def requested_wait(headers: Any) -> float | None:
    """Seconds that an answer asks to wait, by `Retry-After` (a number or a date) or the hub's own header, or None."""
    limit = _NOTHING_LEFT.search(headers.get("ratelimit", ""))
    if limit is not None:
        return float(limit[1])
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(timezone.utc) - datetime.now(timezone.utc)).total_seconds())

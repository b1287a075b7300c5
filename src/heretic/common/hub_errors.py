"""What the hub's client raised, told apart once for models and prompts; each says it in its own words."""

import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from importlib import import_module
from typing import Any

from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from heretic.common.errors import first_line

HTTP: Any = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
"""The HTTP library of the hub's client: httpx in version 1, httpx2 in version 2."""
BUSY_STATUSES = (429, 502, 503, 504)
"""What a hub answers that is there, but not now."""
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")

LOG_IN = "run 'hf auth login' (formerly 'huggingface-cli login') or set HF_TOKEN"
"""The next step where the hub wants to know who asks."""

_DENIED = (401, 403)


class HubAddressError(ConnectionError):
    """The hub's address is no address."""


class HubProxyError(ConnectionError):
    """No connection can be made through the proxy that the environment names."""


class HubFailure(Enum):
    """Why something cannot be had from the hub."""

    ADDRESS = "its address is none"
    PROXY = "the proxy cannot be used"
    CERTIFICATE = "its certificate is not trusted"
    BUSY = "it is busy, or down for the moment"
    GATED = "its conditions were not accepted"
    NO_REPOSITORY = "there is no such repository, or it is private"
    NO_REVISION = "the repository has no such branch, tag or commit"
    DENIED = "the hub refuses access"
    IMPOSSIBLE_NAME = "no repository can have that name"
    UNREACHABLE = "there is no connection, and no copy in the cache"
    NO_FILE = "the repository lacks a file"


OUT_OF_REACH = (
    HubFailure.UNREACHABLE,
    HubFailure.ADDRESS,
    HubFailure.PROXY,
    HubFailure.CERTIFICATE,
    HubFailure.BUSY,
)
"""Failures that say nothing of what was asked for."""


def _answers(*statuses: int) -> Callable[[BaseException], bool]:
    def applies(error: BaseException) -> bool:
        response = getattr(error, "response", None)
        return isinstance(error, HfHubHTTPError) and response is not None and response.status_code in statuses

    return applies


def _is_certificate(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLCertVerificationError) or "certificate verify failed" in str(error).lower()


def _is(*classes: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, classes)


# Libraries hide these behind words of their own ("from None"), so they are looked for there as well.
_CONNECTION: tuple[tuple[HubFailure, Callable[[BaseException], bool]], ...] = (
    (HubFailure.ADDRESS, _is(HubAddressError, FileMetadataError, HTTP.UnsupportedProtocol, HTTP.InvalidURL)),
    (HubFailure.PROXY, _is(HubProxyError, HTTP.ProxyError)),
    (HubFailure.CERTIFICATE, _is_certificate),
    (HubFailure.BUSY, _answers(*BUSY_STATUSES)),
)
# In this order, whatever wraps what: a gated repository also counts as not found, one that is not found may be
# answered with 401, and any of them may be reported as a hub that cannot be reached.
_RULES: tuple[tuple[HubFailure, Callable[[BaseException], bool]], ...] = (
    (HubFailure.GATED, _is(GatedRepoError)),
    (HubFailure.NO_REPOSITORY, _is(RepositoryNotFoundError)),
    (HubFailure.NO_REVISION, _is(RevisionNotFoundError)),
    (HubFailure.DENIED, _answers(*_DENIED)),
    (HubFailure.IMPOSSIBLE_NAME, _is(HFValidationError)),
    (
        HubFailure.UNREACHABLE,
        _is(LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, HTTP.TransportError),
    ),
    (HubFailure.NO_FILE, _is(EntryNotFoundError)),
)


def hub_failure(chain: Sequence[BaseException]) -> tuple[HubFailure, BaseException] | None:
    """The failure that an exception and its causes stand for, and the one of them that says so.

    Args:
        chain: From `errors.causes`.

    Returns:
        None where the hub's client raised none of them.
    """
    for rules, errors in ((_CONNECTION, _all_behind(chain)), (_RULES, chain)):
        for failure, applies in rules:
            for error in errors:
                if applies(error):
                    return failure, error
    return None


def _all_behind(chain: Sequence[BaseException]) -> list[BaseException]:
    """The exceptions, and all that was being handled when they were raised."""
    errors: list[BaseException] = []
    waiting = list(chain)
    while waiting:
        error = waiting.pop(0)
        if error not in errors:
            errors.append(error)
            waiting += [further for further in (error.__cause__, error.__context__) if further is not None]
    return errors


def _proxy_problem(error: BaseException, name: str) -> str:
    variables = [key for key in os.environ if key.upper() in PROXY_VARIABLES and os.environ[key]]
    advice = "run 'pip install socksio', or unset" if "socksio" in str(error) else "correct or unset"
    return (
        f"the hub cannot be asked for {name} through this machine's proxy ({first_line(error)}); {advice} "
        f"{' and '.join(variables) or 'its settings'}"
    )


def _busy(error: BaseException, name: str) -> str:
    more = f", or {LOG_IN}, which allows more requests" if _answers(429)(error) else ""
    return (
        f"the hub is too busy for {name}, or down for the moment ({first_line(error)}); the network is fine: run the "
        f"same command again in some minutes{more}"
    )


_CONNECTION_WORDS: Mapping[HubFailure, Callable[[BaseException, str], str]] = {
    HubFailure.ADDRESS: lambda error, name: (
        f"the hub cannot be asked for {name} at the address that HF_ENDPOINT gives ({first_line(error)}); correct it, "
        "as in HF_ENDPOINT=https://huggingface.co"
    ),
    HubFailure.PROXY: _proxy_problem,
    HubFailure.CERTIFICATE: lambda error, name: (
        f"the hub cannot be asked for {name}, because this machine does not trust the certificate that it is shown "
        f"({first_line(error)}), as where a company's network reads along; name the file with that network's "
        "certificates in SSL_CERT_FILE"
    ),
    HubFailure.BUSY: _busy,
}


def connection_problem(failure: HubFailure, error: BaseException, name: str) -> str | None:
    """What stands between this machine and the hub, and what to do, without a capital letter and the full stop.

    Args:
        failure: From `hub_failure`, with `error`.
        error: What says so.
        name: What was asked for.

    Returns:
        None for the other failures, which everybody words for what was asked for.
    """
    words = _CONNECTION_WORDS.get(failure)
    return None if words is None else words(error, name)

"""Every class of the hub's client that says why something cannot be had, in whatever it is wrapped."""

import ssl

import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tests.unit.models.hub_error import hub_error

from heretic.common.errors import causes
from heretic.common.hub_errors import (
    BUSY_STATUSES,
    HTTP,
    OUT_OF_REACH,
    HubAddressError,
    HubFailure,
    HubProxyError,
    connection_problem,
    hub_failure,
)
from heretic.models import load_errors

CASES: list[tuple[BaseException, HubFailure | None]] = [
    (hub_error(GatedRepoError, 403), HubFailure.GATED),
    (hub_error(RepositoryNotFoundError, 404), HubFailure.NO_REPOSITORY),
    (hub_error(RepositoryNotFoundError, 401), HubFailure.NO_REPOSITORY),
    (hub_error(RevisionNotFoundError, 404), HubFailure.NO_REVISION),
    (hub_error(HfHubHTTPError, 401), HubFailure.DENIED),
    (hub_error(HfHubHTTPError, 403), HubFailure.DENIED),
    *((hub_error(HfHubHTTPError, status), HubFailure.BUSY) for status in BUSY_STATUSES),
    (hub_error(HfHubHTTPError, 500), None),
    (HubAddressError("no scheme"), HubFailure.ADDRESS),
    (HTTP.UnsupportedProtocol("no scheme"), HubFailure.ADDRESS),
    (HubProxyError("no socksio"), HubFailure.PROXY),
    (HTTP.ProxyError("403"), HubFailure.PROXY),
    (ssl.SSLCertVerificationError("self-signed certificate"), HubFailure.CERTIFICATE),
    (HTTP.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"), HubFailure.CERTIFICATE),
    (HTTP.ReadTimeout("timed out"), HubFailure.UNREACHABLE),
    (HFValidationError("Repo id must be"), HubFailure.IMPOSSIBLE_NAME),
    (OfflineModeIsEnabled("offline"), HubFailure.UNREACHABLE),
    (LocalEntryNotFoundError("not cached"), HubFailure.UNREACHABLE),
    (ConnectionError("refused"), HubFailure.UNREACHABLE),
    (EntryNotFoundError("404 for config.json"), HubFailure.NO_FILE),
    (OSError("odd"), None),
]


@pytest.mark.parametrize(("error", "expected"), CASES)
def test_every_class_alone_and_inside_others(error: BaseException, expected: HubFailure | None) -> None:
    found = hub_failure([ValueError("outer"), error])
    assert found == (None if expected is None else (expected, error))


@pytest.mark.parametrize(("error", "expected"), CASES)
def test_a_lost_connection_is_the_last_explanation(error: BaseException, expected: HubFailure | None) -> None:
    """The client reports many refusals as a file that is not in the cache."""
    found = hub_failure([LocalEntryNotFoundError("not cached"), error])
    assert found is not None
    assert found[0] is (HubFailure.UNREACHABLE if expected in (None, HubFailure.NO_FILE) else expected)


@pytest.mark.parametrize("failure", HubFailure)
def test_every_failure_has_its_words(failure: HubFailure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what lies between this machine and the hub the same ones for models, prompts and uploads."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    problem = connection_problem(failure, ConnectionError("why"), "owner/name")
    assert (problem is None) == (failure in load_errors._BY_HUB_FAILURE)
    if problem is not None:
        assert failure in OUT_OF_REACH
        assert problem.startswith("the hub ")
        assert "owner/name" in problem
        assert "(why)" in problem


def test_a_reason_that_a_library_hides() -> None:
    """The datasets library ends its errors "from None"."""
    reason = HubAddressError("no scheme")

    def hide() -> None:
        try:
            raise reason
        except HubAddressError:
            raise ConnectionError("Couldn't reach the hub") from None

    with pytest.raises(ConnectionError) as raised:
        hide()
    assert hub_failure(causes(raised.value)) == (HubFailure.ADDRESS, reason)

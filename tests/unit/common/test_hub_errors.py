"""Every class of the hub's client that says why something cannot be had, in whatever it is wrapped."""

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

from heretic.common.hub_errors import HubFailure, hub_failure
from heretic.models import load_errors

CASES: list[tuple[BaseException, HubFailure | None]] = [
    (hub_error(GatedRepoError, 403), HubFailure.GATED),
    (hub_error(RepositoryNotFoundError, 404), HubFailure.NO_REPOSITORY),
    (hub_error(RepositoryNotFoundError, 401), HubFailure.NO_REPOSITORY),
    (hub_error(RevisionNotFoundError, 404), HubFailure.NO_REVISION),
    (hub_error(HfHubHTTPError, 401), HubFailure.DENIED),
    (hub_error(HfHubHTTPError, 403), HubFailure.DENIED),
    (hub_error(HfHubHTTPError, 503), None),
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


def test_every_failure_has_its_words_for_models() -> None:
    assert set(load_errors._BY_HUB_FAILURE) == set(HubFailure)

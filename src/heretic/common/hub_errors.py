"""What the hub's client raised, told apart once for models and prompts; each says it in its own words."""

from collections.abc import Callable, Sequence
from enum import Enum

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

LOG_IN = "run 'hf auth login' (formerly 'huggingface-cli login') or set HF_TOKEN"
"""The next step where the hub wants to know who asks."""

_DENIED = (401, 403)


class HubFailure(Enum):
    """Why something cannot be had from the hub."""

    GATED = "its conditions were not accepted"
    NO_REPOSITORY = "there is no such repository, or it is private"
    NO_REVISION = "the repository has no such branch, tag or commit"
    DENIED = "the hub refuses access"
    IMPOSSIBLE_NAME = "no repository can have that name"
    UNREACHABLE = "there is no connection, and no copy in the cache"
    NO_FILE = "the repository lacks a file"


def _is_denied(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    return isinstance(error, HfHubHTTPError) and response is not None and response.status_code in _DENIED


def _is(*classes: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, classes)


# In this order, whatever wraps what: a gated repository also counts as not found, one that is not found may be
# answered with 401, and any of them may be reported as a hub that cannot be reached.
_RULES: tuple[tuple[HubFailure, Callable[[BaseException], bool]], ...] = (
    (HubFailure.GATED, _is(GatedRepoError)),
    (HubFailure.NO_REPOSITORY, _is(RepositoryNotFoundError)),
    (HubFailure.NO_REVISION, _is(RevisionNotFoundError)),
    (HubFailure.DENIED, _is_denied),
    (HubFailure.IMPOSSIBLE_NAME, _is(HFValidationError)),
    (HubFailure.UNREACHABLE, _is(LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)),
    (HubFailure.NO_FILE, _is(EntryNotFoundError)),
)


def hub_failure(chain: Sequence[BaseException]) -> tuple[HubFailure, BaseException] | None:
    """The failure that an exception and its causes stand for, and the one of them that says so.

    Args:
        chain: From `errors.causes`.

    Returns:
        None where the hub's client raised none of them.
    """
    for failure, applies in _RULES:
        for error in chain:
            if applies(error):
                return failure, error
    return None

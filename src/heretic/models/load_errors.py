"""Why loading failed, and whether another dtype could mend it: pure functions of an exception."""

import errno

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
from safetensors import SafetensorError

from heretic.models.devices import is_out_of_memory

_LOG_IN = "run 'hf auth login' (formerly 'huggingface-cli login') or set HF_TOKEN"


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what caused it, outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def final_reason(error: BaseException, name: str) -> str | None:
    """A sentence with the next step where no dtype can mend the failure, else None.

    Args:
        error: What `from_pretrained` raised.
        name: The model, as the user typed it.
    """
    chain = _chain(error)
    for cause in chain:
        reason = _hub_reason(cause, name) or _file_reason(cause, name)
        if reason is not None:
            return reason
    return _message_reason(" ".join(str(cause) for cause in chain), error, name)


def _hub_reason(error: BaseException, name: str) -> str | None:
    # Gated before not found: the one is a kind of the other.
    if isinstance(error, GatedRepoError):
        return f"{name} is gated: accept its conditions on its page on the hub, then {_LOG_IN}."
    if isinstance(error, RepositoryNotFoundError):
        return f"There is no model {name} on the hub, or it is private: check the name, or {_LOG_IN}."
    if isinstance(error, RevisionNotFoundError):
        return f"{name} has no such revision on the hub; check --model-revision."
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError)):
        return (
            f"The hub cannot be reached and {name} is not in the local cache; check the network, or name a local folder "
            "('heretic --model demo' needs no network)."
        )
    if isinstance(error, EntryNotFoundError):
        return f"{name} lacks a file that a model needs on the hub ({_first_line(error)}); name another model."
    if isinstance(error, HFValidationError):
        return f"{name} is neither a folder nor a possible name on the hub; check it."
    if isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code in (401, 403):
        return f"The hub refuses access to {name}; {_LOG_IN}."
    return None


def _file_reason(error: BaseException, name: str) -> str | None:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full while {name} is loaded; free some space, or set HF_HOME to a larger disk."
    if isinstance(error, PermissionError):
        return f"A file of {name} cannot be read ({_first_line(error)}); check its permissions."
    if isinstance(error, SafetensorError):
        return f"A weight file of {name} is damaged ({_first_line(error)}); download the model again."
    if isinstance(error, ImportError):
        return f"{name} needs a package that is not installed ({_first_line(error)}); install it and run again."
    return None


def _message_reason(text: str, error: BaseException, name: str) -> str | None:
    lower = text.lower()
    if "trust_remote_code" in lower:
        return f"{name} brings its own Python code; read it, and if you trust it run again with --trust-remote-code."
    if "does not recognize this architecture" in lower or "unrecognized model" in lower:
        return f"The installed transformers does not know the architecture of {name}; update transformers."
    if "couldn't connect" in lower or "offline mode" in lower or "name resolution" in lower:
        return (
            f"The hub cannot be reached and {name} is not in the local cache; check the network, or name a local folder "
            "('heretic --model demo' needs no network)."
        )
    if "pytorch_model" in lower or "no file named" in lower or "safetensors" in lower:
        return (
            f"{name} has no safetensors weights that can be loaded ({_first_line(error)}); convert the model to "
            "safetensors or name another one."
        )
    if isinstance(error, OSError):
        return f"{name} cannot be loaded: {_first_line(error)}; check the name and the files."
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__


def short_reason(error: BaseException) -> str:
    """Why one dtype was rejected, in a few words."""
    return "out of memory" if is_out_of_memory(error) else _first_line(error)

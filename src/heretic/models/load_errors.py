"""Why loading failed, and whether another dtype could mend it: pure functions of an exception."""

import errno
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from heretic.common.errors import LONGEST_DETAIL, causes, first_line
from heretic.common.hub_errors import LOG_IN, HubFailure, connection_problem, hub_failure
from heretic.models.devices import is_out_of_memory

OUT_OF_MEMORY = "out of memory"
NOT_FINITE = "logits are not finite"

# Kernels of quantised layers assert what they do not support.
_DTYPE_FAILURES = (RuntimeError, ValueError, TypeError, ArithmeticError, AssertionError)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why an attempt failed.

    Attributes:
        reason: A sentence with the next step where it is final, else a few words.
        is_final: Whether no dtype can mend it.
    """

    reason: str
    is_final: bool


def diagnose(error: BaseException, name: str) -> Diagnosis | None:
    """Put what transformers raised into words.

    Args:
        error: The exception, with its causes.
        name: The model, as the user typed it.

    Returns:
        The diagnosis, or None for an exception that no known failure raises.
    """
    chain = causes(error)
    if any(is_out_of_memory(cause) for cause in chain):
        return Diagnosis(OUT_OF_MEMORY, is_final=False)
    final = _reason_by_class(chain, name) or _reason_by_message(chain, name)
    if final is not None:
        return Diagnosis(final, is_final=True)
    if type(error) is Exception:
        # What the tokenizers library, written in Rust, raises for all of its failures.
        return Diagnosis(f"The tokenizer of {name} cannot be read ({first_line(error)}); download it again.", True)
    if isinstance(error, (LookupError, AttributeError, RecursionError, struct.error)):
        # What reading a file with an unexpected content ends in.
        return Diagnosis(refused(name, f"{type(error).__name__}: {first_line(error)}"), is_final=True)
    if isinstance(error, OSError):
        return Diagnosis(f"{name} cannot be loaded ({first_line(error)}); check the name and its files.", is_final=True)
    return Diagnosis(first_line(error), is_final=False) if isinstance(error, _DTYPE_FAILURES) else None


def refused(name: str, detail: str) -> str:
    """What to say of a model whose files transformers cannot make sense of.

    Args:
        name: The model, as the user typed it.
        detail: What transformers says.
    """
    return (
        f"transformers {transformers.__version__} cannot make sense of {name} ({detail}); a newer one may know the "
        "model ('pip install -U transformers'), else its config.json or another of its files is damaged."
    )


def exhausted(name: str, rejected: Sequence[tuple[str, str]]) -> str:
    """What to say when the last dtype has been rejected: each one's reason, and what to try.

    Args:
        name: The model, as the user typed it.
        rejected: Pairs of dtype and reason.
    """
    reasons = "; ".join(f"{dtype}: {reason}" for dtype, reason in rejected)
    reasons_given = {reason for _dtype, reason in rejected}
    advice = "give others with --dtypes, or check the model's files"
    if any(reason.startswith(OUT_OF_MEMORY) for reason in reasons_given):
        advice = (
            "run 'heretic plan' to see what would fit, use --quantization bnb_4bit, name a smaller model, or spread it "
            "over several devices with --device-map and --max-memory"
        )
    elif reasons_given == {NOT_FINITE}:
        tried = {dtype for dtype, _reason in rejected}
        advice = "its weights may be damaged: download it again"
        if not tried & {"float32", "torch.float32"}:
            advice += ", or add float32 to --dtypes"
    return f"{name} works with no dtype ({reasons}); {advice}."


_Explanation = Callable[[BaseException, str], str]


def _unreachable(_error: BaseException, name: str) -> str:
    return (
        f"The hub cannot be reached and {name} is not in the local cache; check the network, or name a local folder "
        "('heretic --model demo' needs no network)."
    )


def _is_full_disk(error: BaseException) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or "no space left on device" in str(error).lower()


def _missing_package(error: BaseException, name: str) -> str:
    if "bitsandbytes" in str(error):
        return (
            "Quantization needs a working bitsandbytes; run 'pip install -U bitsandbytes' or use --quantization none."
        )
    return f"{name} needs a package that is not installed ({first_line(error)}); install it and run again."


_BY_HUB_FAILURE: Mapping[HubFailure, _Explanation] = {
    HubFailure.GATED: lambda _error, name: (
        f"{name} is gated: accept its licence on its page (https://huggingface.co/{name}), then {LOG_IN}."
    ),
    HubFailure.NO_REPOSITORY: lambda _error, name: (
        f"There is no model {name} on the hub, or it is private: check the name, or {LOG_IN}."
    ),
    HubFailure.NO_REVISION: lambda _error, name: (
        f"{name} has no such branch, tag or commit on the hub; check --model-revision."
    ),
    HubFailure.DENIED: lambda _error, name: f"The hub refuses access to {name}; {LOG_IN}.",
    HubFailure.IMPOSSIBLE_NAME: lambda _error, name: (
        f"{name} is neither a folder nor a possible name on the hub; name a model as owner/name."
    ),
    HubFailure.UNREACHABLE: _unreachable,
    HubFailure.NO_FILE: lambda error, name: (
        f"{name} lacks a file on the hub ({first_line(error)}); name another model."
    ),
}


_BY_CLASS: tuple[tuple[type[BaseException], _Explanation], ...] = (
    (
        PermissionError,
        lambda error, name: f"A file of {name} cannot be read ({first_line(error)}); check its permissions.",
    ),
    (
        SafetensorError,
        lambda error, name: f"A weight file of {name} is damaged ({first_line(error)}); download the model again.",
    ),
    # Two lines: which part of the configuration, and what is wrong with it.
    (StrictDataclassError, lambda error, name: refused(name, " ".join(str(error).split())[:LONGEST_DETAIL])),
    (ImportError, _missing_package),
)


def _reason_by_class(chain: Sequence[BaseException], name: str) -> str | None:
    for error in chain:
        if _is_full_disk(error):
            return (
                f"The disk is full while {name} is downloaded; free some space, or set HF_HOME to a folder on a larger "
                "disk."
            )
    failed = hub_failure(chain)
    if failed is not None:
        failure, error = failed
        problem = connection_problem(failure, error, name)
        return f"T{problem[1:]}." if problem is not None else _BY_HUB_FAILURE[failure](error, name)
    for kind, explain in _BY_CLASS:
        for error in chain:
            if isinstance(error, kind):
                return explain(error, name)
    return None


# Failures that transformers tells apart only in words.
_BY_PHRASE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("trust_remote_code",),
        "{name} brings its own Python code; read it, and if you trust it run again with --trust-remote-code.",
    ),
    (
        ("does not recognize this architecture",),
        "The installed transformers does not know the architecture of {name}; run 'pip install -U transformers'.",
    ),
    (
        ("should have a `model_type` key",),
        "The config.json of {name} does not say which architecture it has; name a transformers model.",
    ),
    (
        ("unrecognized configuration class",),
        "{name} is no model that generates text; name a causal or vision-language one.",
    ),
    (
        ("not a valid json",),
        "The config.json of {name} is no valid JSON ({detail}); download the model again.",
    ),
    (
        ("cannot be loaded with `safetensors`",),
        "{name} has no safetensors weights, and pickled ones can run any code when they are opened; convert the model, "
        "name another one, or, if you trust it, run again with --allow-pickle.",
    ),
    (
        ("no file named model", "does not appear to have a file named model", "does not appear to have files named"),
        "A file with the weights of {name} is missing ({detail}); it needs all of its .safetensors files.",
    ),
    (
        ("can't load image processor", "can't load processor", "unrecognized processing class"),
        "{name} lacks the processor files of a vision-language model; copy them from the model it was made from.",
    ),
    (
        ("ignore_mismatched_sizes", "size mismatch"),
        "The weights of {name} have other shapes than its config.json says; download the model again.",
    ),
    (
        ("no gpu found", "requires a gpu", "none of the available devices"),
        "This quantization does not work on the devices of this machine; use --quantization none.",
    ),
    (
        ("are dispatched on the cpu or the disk",),
        "{name} does not fit the devices even when quantised; name a smaller model.",
    ),
    (("couldn't connect", "offline mode", "name resolution"), _unreachable(OSError(), "{name}")),
)


def _reason_by_message(chain: Sequence[BaseException], name: str) -> str | None:
    for phrases, sentence in _BY_PHRASE:
        for error in chain:
            if any(phrase in str(error).lower() for phrase in phrases):
                return sentence.format(name=name, detail=first_line(error))
    return None

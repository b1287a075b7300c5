import errno
from itertools import pairwise

import pytest
import torch
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
from tests.unit.models.hub_error import hub_error

from heretic.models.load_errors import NOT_FINITE, OUT_OF_MEMORY, Diagnosis, diagnose, exhausted


def wrapped(*errors):
    """The first error, caused by the second, and so on."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


FINAL = {
    "repository": (
        wrapped(OSError("not a local folder"), hub_error(RepositoryNotFoundError, 404)),
        "There is no model",
    ),
    "gated counts as not found": (hub_error(GatedRepoError, 403), "accept its licence"),
    "gated behind a lost connection": (
        wrapped(LocalEntryNotFoundError("not cached"), hub_error(GatedRepoError, 403)),
        "accept its licence",
    ),
    "revision": (wrapped(OSError("x"), hub_error(RevisionNotFoundError, 404)), "check --model-revision"),
    "token refused": (wrapped(LocalEntryNotFoundError("x"), hub_error(HfHubHTTPError, 401)), "refuses access"),
    "server down": (wrapped(LocalEntryNotFoundError("x"), hub_error(HfHubHTTPError, 503)), "network is fine"),
    "offline mode": (OfflineModeIsEnabled("offline"), "cannot be reached"),
    "no connection": (ConnectionError("refused"), "cannot be reached"),
    "no connection, in words": (OSError("We couldn't connect to the hub"), "cannot be reached"),
    "impossible name": (HFValidationError("Repo id must be"), "owner/name"),
    "missing file": (EntryNotFoundError("404 for tokenizer.json"), "lacks a file"),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), "HF_HOME"),
    "disk, from the download library": (RuntimeError("Data processing error: No space left on device"), "HF_HOME"),
    "permissions": (PermissionError(errno.EACCES, "Permission denied"), "check its permissions"),
    "weights": (SafetensorError("Error while deserializing header"), "download the model again"),
    "package": (ImportError("requires the flash_attn package"), "install it"),
    "bitsandbytes": (ImportError("requires bitsandbytes"), "pip install -U bitsandbytes"),
    "remote code": (ValueError("set the option `trust_remote_code=True`"), "--trust-remote-code"),
    "architecture": (ValueError("Transformers does not recognize this architecture"), "pip install -U transformers"),
    "any other file problem": (OSError("odd"), r"cannot be loaded \(odd\)"),
    "tokenizer": (Exception("Error while initializing BPE"), "tokenizer"),
    "unexpected content": (KeyError("added_tokens"), "KeyError: 'added_tokens'"),
}


@pytest.mark.parametrize(("error", "sentence"), FINAL.values(), ids=FINAL.keys())
def test_failures_that_no_dtype_can_mend(error, sentence):
    diagnosis = diagnose(error, "owner/model")
    assert diagnosis.is_final
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(diagnosis.reason)
    assert "\n" not in diagnosis.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'\nmore"),
            "\"addmm_impl_cpu_\" not implemented for 'Half'",
        ),
        (torch.OutOfMemoryError("CUDA out of memory."), OUT_OF_MEMORY),
        (MemoryError(), OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), OUT_OF_MEMORY),
        (wrapped(OSError("cannot load"), OSError(errno.ENOMEM, "Cannot allocate memory")), OUT_OF_MEMORY),
        (wrapped(OSError("cannot load"), RuntimeError("XPU out of memory")), OUT_OF_MEMORY),
        (ValueError("unsupported dtype"), "unsupported dtype"),
        (AssertionError("N must be divisible by block_n"), "N must be divisible by block_n"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_failures_that_another_dtype_may_mend(error, reason):
    assert diagnose(error, "owner/model") == Diagnosis(reason, is_final=False)


def test_what_was_merely_being_handled_explains_nothing():
    error = RuntimeError("not implemented for 'Half'")
    error.__context__ = ImportError("flash_attn is not installed")
    assert diagnose(error, "owner/model") == Diagnosis("not implemented for 'Half'", is_final=False)


def test_what_no_known_failure_raises_is_left_alone():
    class Strange(Exception):
        pass

    assert diagnose(Strange("?"), "owner/model") is None


def test_a_chain_that_bites_its_tail_ends():
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert diagnose(first, "owner/model").reason == "first"


@pytest.mark.parametrize(
    ("reasons", "advice", "absent"),
    [
        ([OUT_OF_MEMORY, OUT_OF_MEMORY], "--max-memory", "damaged"),
        ([NOT_FINITE, OUT_OF_MEMORY], "--max-memory", "damaged"),
        ([NOT_FINITE, NOT_FINITE], "damaged", "--max-memory"),
        (["unsupported", NOT_FINITE], "--dtypes", "damaged"),
    ],
)
def test_the_last_rejection_lists_every_reason_and_fitting_advice(reasons, advice, absent):
    message = exhausted("owner/model", list(zip(["bfloat16", "float16"], reasons, strict=True)))
    assert f"bfloat16: {reasons[0]}; float16: {reasons[1]}" in message
    assert advice in message
    assert absent not in message


def test_a_dtype_that_was_tried_is_not_recommended():
    message = exhausted("owner/model", [("float16", NOT_FINITE), ("float32", NOT_FINITE)])
    assert "damaged" in message
    assert "add float32" not in message

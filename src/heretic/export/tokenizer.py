"""Saving a tokenizer so that it comes back the same, in transformers version 4 as well as 5.

Version 5 writes additional special tokens as ``"extra_special_tokens": [...]``. Version 4 expects a mapping under that
name and dies on a list, and it does not know version 5's name of the general tokenizer class. Both read
``additional_special_tokens`` as a list, named tokens under ``extra_special_tokens`` as a mapping, and the class name
``PreTrainedTokenizerFast``.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from heretic.common.errors import ExportError
from heretic.export.atomic import os_error_number
from heretic.models.loaded import LoadedModel

CONFIGURATION_NAME = "tokenizer_config.json"

_SAMPLES = (
    "Hello, how are you?",
    "  Two spaces,\ttab\nnew line\n\n",
    "Caf\u00e9 na\u00efve \u4f60\u597d \u043f\u0440\u0438\u0432\u0435\u0442 \U0001f642",
    "def add(a, b):\n    return a + b  # 1234567890",
)

_LOCAL_FACTS = ("is_local", "local_files_only")
"""How the tokenizer was loaded on this machine, which concerns nobody else."""


def portable_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer configuration in the form that transformers 4 and 5 both read."""
    result = {name: value for name, value in configuration.items() if name not in _LOCAL_FACTS}
    extra = result.pop("extra_special_tokens", None)
    named = dict(result.pop("model_specific_special_tokens", None) or {})
    if isinstance(extra, Mapping):
        named = {**extra, **named}
    elif extra:
        listed = list(result.get("additional_special_tokens") or [])
        result["additional_special_tokens"] = listed + [token for token in extra if token not in listed]
    if named:
        result["extra_special_tokens"] = named
    if result.get("tokenizer_class") == "TokenizersBackend":
        result["tokenizer_class"] = "PreTrainedTokenizerFast"
    return result


def save_tokenizer(loaded: LoadedModel, folder: Path) -> None:
    """Write tokenizer, chat template and, where there is one, processor; check that the tokenizer comes back the same.

    Raises:
        ExportError: The tokenizer that is read back differs.
        OSError: Writing failed.
    """
    if loaded.processor is not None:
        _write(loaded.processor, folder)
    _write(loaded.tokenizer, folder)
    path = folder / CONFIGURATION_NAME
    configuration = json.loads(path.read_text(encoding="utf-8"))
    # transformers writes the side only where the tokenizer was made with one, not where it was set later.
    configuration["padding_side"] = loaded.tokenizer.padding_side
    path.write_text(
        json.dumps(portable_configuration(configuration), indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        encoding="utf-8",
    )
    check_tokenizer(loaded.tokenizer, load_tokenizer(loaded.tokenizer, folder))


def _write(writer: Any, folder: Path) -> None:
    """Write a tokenizer or processor.

    Raises:
        OSError: Writing failed.
    """
    try:
        writer.save_pretrained(folder)
    except Exception as error:
        # The tokenizers library raises a bare Exception for a full disk, with the number in its text.
        number = os_error_number(error)
        if type(error) is not Exception or number is None:
            raise
        raise OSError(number, os.strerror(number)) from error


def load_tokenizer(original: PreTrainedTokenizerBase, folder: Path) -> PreTrainedTokenizerBase:
    """Load a saved tokenizer as its user will.

    Raises:
        ExportError: It cannot be loaded.
    """
    # A class from the model's own repository is not known to AutoTokenizer without running that code again.
    from_repository = type(original).__module__.startswith("transformers_modules")
    loader: Any = type(original) if from_repository else AutoTokenizer
    try:
        tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportError(
            f"The saved tokenizer cannot be loaded again ({error}); nothing was saved. "
            "Please report it with the model's name."
        ) from error
    return tokenizer


def check_tokenizer(original: PreTrainedTokenizerBase, reloaded: PreTrainedTokenizerBase) -> None:
    """Compare two tokenizers by what they do.

    Raises:
        ExportError: They differ; says in what.
    """
    special = list(original.all_special_tokens)
    samples = [*_SAMPLES, " ".join(["a", *special, "b"]), "".join(special)]
    difference = None
    if set(reloaded.all_special_tokens) != set(special):
        difference = "special tokens"
    elif len(reloaded) != len(original):
        difference = "vocabulary size"
    elif reloaded.padding_side != original.padding_side or reloaded.pad_token_id != original.pad_token_id:
        difference = "padding"
    elif reloaded.chat_template != original.chat_template:
        difference = "chat template"
    elif any(reloaded(sample)["input_ids"] != original(sample)["input_ids"] for sample in samples):
        difference = "token ids of a sample text"
    if difference is not None:
        raise ExportError(
            f"The saved tokenizer differs from the loaded one in its {difference}; nothing was saved. "
            "Please report it with the model's name."
        )

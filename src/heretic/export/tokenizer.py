"""Saving a tokenizer so that it comes back the same, in transformers version 4 as well as 5.

The files of the base are passed on as they are, since an edit changes none of them. Version 5 writes additional special
tokens as ``"extra_special_tokens": [...]``. Version 4 expects a mapping under that name and dies on a list, and it does
not know version 5's name of the general tokenizer class. Both read ``additional_special_tokens`` as a list, named
tokens under ``extra_special_tokens`` as a mapping, and the class name ``PreTrainedTokenizerFast``.
"""

import json
import os
import shutil
from collections.abc import Mapping, Set
from pathlib import Path
from types import MappingProxyType
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from heretic.common.errors import ExportError
from heretic.export.atomic import os_error_number
from heretic.export.base import GENERATION, copy_or_write, portable, write_table
from heretic.models.checkpoint import prepared_tokenizer
from heretic.models.loaded import LoadedModel
from heretic.models.model_files import CONFIGURATION as MODEL_CONFIGURATION
from heretic.models.model_files import read_json

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


def save_tokenizer(loaded: LoadedModel, folder: Path, base: Mapping[str, Path] = MappingProxyType({})) -> None:
    """Write tokenizer, chat template and, where there is one, processor; check that the tokenizer comes back the same.

    Args:
        loaded: What to save.
        folder: Where to; of a whole model it holds the configuration already.
        base: The original model's files, see `export.base.base_files`; without any, transformers' own are written.

    Raises:
        ExportError: The tokenizer that is read back differs.
        OSError: Writing failed.
    """
    before = set(folder.iterdir())
    if loaded.processor is not None:
        _write(loaded.processor, folder)
    _write(loaded.tokenizer, folder)
    path = folder / CONFIGURATION_NAME
    written = json.loads(path.read_text(encoding="utf-8"))
    files = {name: file for name, file in base.items() if name not in (MODEL_CONFIGURATION, GENERATION)}
    if files:
        _replace(before, files, folder, written)
    else:
        # transformers writes the side only where the tokenizer was made with one, not where it was set later.
        written["padding_side"] = loaded.tokenizer.padding_side
        write_table(path, dict(sorted(portable_configuration(written).items())))
    template = getattr(loaded.processor, "chat_template", None)
    check_tokenizer(loaded.tokenizer, prepared_tokenizer(load_tokenizer(loaded.tokenizer, folder)), template)


def _replace(before: Set[Path], files: Mapping[str, Path], folder: Path, written: Mapping[str, Any]) -> None:
    """Put the base's files in the place of those that transformers wrote, all but the model's own code."""
    for path in set(folder.iterdir()) - before:
        if path.is_file() and path.suffix != ".py" and path.name not in files:
            path.unlink()
    for name, file in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if name != CONFIGURATION_NAME:
            shutil.copyfile(file, folder / name)
            continue
        table = portable(portable_configuration(read_json(file)))
        if "auto_map" in table and "auto_map" in written:
            table["auto_map"] = written["auto_map"]
        if not (folder / MODEL_CONFIGURATION).is_file():
            # Beside an adapter nothing else says what kind of tokenizer this is.
            table.setdefault("tokenizer_class", portable_configuration(written).get("tokenizer_class"))
        copy_or_write(files, folder, name, table)


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


def check_tokenizer(
    original: PreTrainedTokenizerBase, reloaded: PreTrainedTokenizerBase, template: str | None = None
) -> None:
    """Compare two tokenizers by what they do; a chat template may also stand in the processor's files.

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
    elif (reloaded.chat_template or template) != original.chat_template:
        difference = "chat template"
    elif any(reloaded(sample)["input_ids"] != original(sample)["input_ids"] for sample in samples):
        difference = "token ids of a sample text"
    if difference is not None:
        raise ExportError(
            f"The saved tokenizer differs from the loaded one in its {difference}; nothing was saved. "
            "Please report it with the model's name."
        )

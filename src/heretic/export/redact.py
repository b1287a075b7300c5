"""Keeps secrets and paths of this machine out of everything that leaves it: manifest, card, error messages."""

import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from heretic.common.file_names import public_name
from heretic.common.redaction import MASK, SECRET_NAME, mask_secrets

_WHOLE_PATH = re.compile(r"(sqlite:///)?((?:~|[A-Za-z]:)?[/\\].+)", re.DOTALL)
_PATH_IN_TEXT = re.compile(r"(?<![^\s\"'`(=,])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\\"'`]+[/\\])+[^\s\"'`]*")


def redact(text: str) -> str:
    """A text without secrets, and with the home folder written as ``~``."""
    text = mask_secrets(text)
    home = os.path.expanduser("~")
    if len(home) > 1:
        text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text)
    return text


def for_others(text: str) -> str:
    """A text without secrets, in which absolute paths are what `public_name` makes of them."""
    text = mask_secrets(text)
    if (whole := _WHOLE_PATH.fullmatch(text)) is not None:
        return (whole[1] or "") + public_name(whole[2])
    return _PATH_IN_TEXT.sub(lambda match: public_name(match[0]), text)


def publishable(value: Any, text: Callable[[str], str] = redact) -> Any:
    """A value as plain JSON, with secrets masked at any depth, and every text as the function gives it.

    Raises:
        TypeError: A value is no JSON value, mapping, sequence, set, path or enumeration.
    """
    if isinstance(value, Mapping):
        return {
            str(name): MASK
            if item and isinstance(item, str) and SECRET_NAME.search(str(name))
            else publishable(item, text)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [publishable(item, text) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((publishable(item, text) for item in value), key=str)
    if isinstance(value, Enum):
        return publishable(value.value, text)
    if isinstance(value, (str, Path)):
        return text(str(value))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be written to the manifest")

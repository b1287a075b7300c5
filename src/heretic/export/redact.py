"""Keeps secrets and personal paths out of everything that leaves the machine: manifest, card, error messages."""

import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from heretic.common.redaction import MASK, SECRET_NAME, mask_secrets


def redact(text: str) -> str:
    """A text without secrets, and with the home folder written as ``~``."""
    text = mask_secrets(text)
    home = os.path.expanduser("~")
    if len(home) > 1:
        text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text)
    return text


def publishable(value: Any) -> Any:
    """A value as plain JSON, with secrets masked at any depth.

    Raises:
        TypeError: A value is no JSON value, mapping, sequence, set, path or enumeration.
    """
    if isinstance(value, Mapping):
        return {
            str(name): MASK if item and isinstance(item, str) and SECRET_NAME.search(str(name)) else publishable(item)
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [publishable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((publishable(item) for item in value), key=str)
    if isinstance(value, Enum):
        return publishable(value.value)
    if isinstance(value, (str, Path)):
        return redact(str(value))
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be written to the manifest")

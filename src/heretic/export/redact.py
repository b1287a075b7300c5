"""Keeps secrets and personal paths out of everything that leaves the machine: manifest, card, error messages."""

import os
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from huggingface_hub import get_token

MASK = "***"

_SECRET_NAME = re.compile(
    r"(^token$|(^|[_-])(hf[_-]?token|(access|auth|api)[_-]?(token|key)|password|passwd|secret)$)", re.IGNORECASE
)
# Greedy up to the last @, because people type passwords with @ and / unescaped: hiding a host beats showing a password.
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*):[^\s\"']*@")
_URL_TOKEN = re.compile(r"://[^/\s:@]{16,}@")
_QUERY_PASSWORD = re.compile(r"([?&][^=&\s]*(?:password|passwd|token|secret)[^=&\s]*=)[^&\s]+", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9_]{16,}")
_BEARER = re.compile(r"(Bearer\s+)\S+", re.IGNORECASE)


def _known_tokens() -> list[str]:
    """The hub tokens of this machine; short strings are no tokens and would mask ordinary words."""
    candidates = (os.environ.get("HF_TOKEN"), os.environ.get("HUGGING_FACE_HUB_TOKEN"), get_token())
    return [token for token in candidates if token is not None and len(token) >= 8]


def redact(text: str) -> str:
    """A text without hub tokens, without passwords in addresses, and with the home folder written as ``~``."""
    for token in _known_tokens():
        text = text.replace(token, MASK)
    text = _HUB_TOKEN.sub(MASK, text)
    text = _BEARER.sub(rf"\1{MASK}", text)
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _URL_TOKEN.sub(f"://{MASK}@", text)
    text = _QUERY_PASSWORD.sub(rf"\1{MASK}", text)
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
            str(name): MASK if item and isinstance(item, str) and _SECRET_NAME.search(str(name)) else publishable(item)
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

"""Checks of single values that a type alone cannot express; a message goes on from the name of the setting."""

import re
from math import isfinite
from typing import Any

DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
DEVICES = ("auto", "cpu", "cuda", "xpu", "mps", "npu", "hpu", "mlu", "musa", "sdaa")

_DEVICE = re.compile(rf"auto|({'|'.join(DEVICES[1:])})(:\d+)?")
_SIZE = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B", re.IGNORECASE)
_DATABASE_URL = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://.*", re.IGNORECASE | re.DOTALL)
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def check_text(value: str) -> str:
    """Refuse text without any visible character."""
    if not value.strip():
        raise ValueError("must be text that is not empty")
    return value


def check_dtype(value: str) -> str:
    """Refuse what is no floating-point type that a model can compute in."""
    if value not in DTYPES:
        raise ValueError(f"must be a list of number formats out of {', '.join(DTYPES)}")
    return value


def check_device(value: str) -> str:
    """Refuse unknown kinds of device; an index as in ``cuda:1`` is fine."""
    if not _DEVICE.fullmatch(value):
        raise ValueError(f"must be one of {', '.join(DEVICES)}, with an optional index as in cuda:1")
    return value


def check_size(value: str) -> str:
    """Refuse what is no amount of memory with a unit."""
    if not _SIZE.fullmatch(value):
        raise ValueError("must be a size with its unit, e.g. 5GB or 500MB")
    return value


def check_database_url(value: str) -> str:
    """Refuse what cannot be a SQLAlchemy URL, e.g. a bare file name."""
    if not _DATABASE_URL.fullmatch(value):
        raise ValueError("must be a database URL, e.g. sqlite:///heretic_study.db or postgresql://user@host/name")
    return value


def check_repository(value: str) -> str:
    """Refuse what cannot name a repository on the hub."""
    if not _REPOSITORY.fullmatch(value):
        raise ValueError("must be a repository on the hub, e.g. name/edited-model")
    return value


def with_text_keys(value: Any) -> Any:
    """Read the accelerator indices of a table as text, whatever the source calls them."""
    if isinstance(value, dict):
        return {str(key) if isinstance(key, int) else key: content for key, content in value.items()}
    return value


def with_numbers(value: Any) -> Any:
    """Read the entries of a list that came as text, e.g. from the command line, as numbers other than 0."""
    requirement = "must be a list of numbers other than 0, e.g. 1,-0.5"
    if not isinstance(value, list):
        raise ValueError(requirement)
    numbers: list[float] = []
    for entry in value:
        try:
            number = float(entry) if isinstance(entry, (str, int, float)) and not isinstance(entry, bool) else 0.0
        except (ValueError, OverflowError) as error:
            raise ValueError(requirement) from error
        if number == 0 or not isfinite(number):
            raise ValueError(requirement)
        numbers.append(number)
    return numbers

"""Checks of single values that a type alone cannot express; a message goes on from the name of the setting."""

import re
from math import isfinite
from typing import Any

DTYPES = ("auto", "bfloat16", "float16", "float32", "float64")
DEVICES = ("auto", "cpu", "cuda", "xpu", "mps", "npu", "hpu", "mlu", "musa", "sdaa")

_DEVICE = re.compile(rf"auto|({'|'.join(DEVICES[1:])})(:\d+)?")
_SIZE = re.compile(r"\d+(\.\d+)?\s*[KMGT]i?B", re.IGNORECASE)
_DURATION = re.compile(r"\s*(\d{1,9}(\.\d{1,9})?\s*[dhms]\s*)+", re.IGNORECASE)
_SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_DATABASE_URL = re.compile(r"[a-z][a-z0-9_]*(\+[a-z0-9_]+)?://.*", re.IGNORECASE | re.DOTALL)
_REVISION = re.compile(r"[^\W_][^\s\x00-\x1f\x7f~^:?*\[\\]{0,254}")
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


def is_unicode(value: str) -> bool:
    """Whether text can be written as UTF-8; bytes of the command line that are something else cannot."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


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


def check_duration(value: str) -> str:
    """Refuse what is no time with a unit, and none at all."""
    if not _DURATION.fullmatch(value) or seconds_of(value) <= 0:
        raise ValueError("must be a time with its unit, e.g. 90s, 30m, 2h or 1h30m")
    return value


def seconds_of(duration: str) -> float:
    """The seconds that a time with its unit stands for."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", duration.lower())
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def check_database_url(value: str) -> str:
    """Refuse what cannot be a SQLAlchemy URL, e.g. a bare file name."""
    if not _DATABASE_URL.fullmatch(value):
        raise ValueError("must be a database URL, e.g. sqlite:///heretic_study.db or postgresql://user@host/name")
    return value


def can_be_joined(url: str) -> bool:
    """Whether several runs can work on one study there: on servers whose advisory locks end with the connection."""
    return url.partition(":")[0].partition("+")[0].lower() == "postgresql"


def check_revision(value: str) -> str:
    """Refuse what git accepts as no name; the hub's client makes paths in its cache from it."""
    if not _REVISION.fullmatch(value) or ".." in value:
        raise ValueError("must be a branch, tag or commit, e.g. main")
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
    """Read the entries of a list as numbers where they are written as text, as on the command line."""
    return [_number(entry) for entry in value] if isinstance(value, list) else value


def _number(entry: Any) -> Any:
    if isinstance(entry, int) and not isinstance(entry, bool):
        return float(entry)
    if not isinstance(entry, str):
        return entry
    try:
        return float(entry)
    except ValueError:
        # Refused as it stands, together with the wrong values of the other sources.
        return entry


def check_weights(value: list[float]) -> list[float]:
    """Refuse weights that strengthen, or that leave the first direction out."""
    if any(not 0 <= weight <= 1 for weight in value) or (value and value[0] == 0):
        raise ValueError("must be a list of numbers from 0 to 1, the first above 0, e.g. 1,0.5")
    return value


def check_shares(value: list[float]) -> list[float]:
    """Refuse what does not say how two directions are mixed."""
    if len(value) != 2 or any(not 0 <= share <= 1 for share in value) or sum(value) == 0:
        raise ValueError("must be two numbers from 0 to 1, not both 0, e.g. 0.7,0.3")
    return value


def check_factors(value: list[float]) -> list[float]:
    """Refuse factors that are no numbers or leave something out."""
    if any(factor == 0 or not isfinite(factor) for factor in value):
        raise ValueError("must be a list of numbers other than 0, e.g. 1,-0.5")
    return value


def check_profile(value: list[list[float]]) -> list[list[float]]:
    """Refuse ranges of depth that are empty, out of order, or overlap."""
    end = 0.0
    for part in value:
        if len(part) != 3 or not end <= part[0] < part[1] <= 1 or not isfinite(part[2]):
            raise ValueError(
                "must be ranges of the depth 0 to 1 in ascending order, each [from, to, factor], "
                "e.g. [[0, 0.4, 0.5], [0.4, 1, 1]]"
            )
        end = part[1]
    return value

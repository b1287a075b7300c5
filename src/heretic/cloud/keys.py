"""Keys of providers and names that go to them: checked before anything else is done with them."""

import re
from collections.abc import Mapping
from pathlib import Path

from heretic.common.errors import ConfigurationError
from heretic.common.redaction import remember_secret

KEY_FILE = ".env"
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FOLDER = re.compile(r"/[A-Za-z0-9._/-]{1,200}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")


def setting(name: str, environment: Mapping[str, str], folder: Path) -> str | None:
    """A variable of the environment, else of the file .env in the working folder; None where neither has it.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    given = environment.get(name, "").strip()
    if given:
        return given
    # Commands that need no key wait for no parser.
    from dotenv import dotenv_values

    path = folder / KEY_FILE
    try:
        values = dotenv_values(path, interpolate=False) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{KEY_FILE} cannot be read; check the file and its permissions.") from error
    return (values.get(name) or "").strip() or None


def read_key(name: str, page: str, environment: Mapping[str, str], folder: Path) -> str:
    """A provider's key; it is masked from now on wherever it may be repeated.

    Args:
        name: The variable that holds it.
        page: Where a person makes one.
        environment: Variables.
        folder: The working folder.

    Raises:
        ConfigurationError: There is none, or it is none.
    """
    key = setting(name, environment, folder)
    if key is None:
        raise ConfigurationError(f"{name} is not set; make a key at {page} and put {name}=... into {KEY_FILE}.")
    remember_secret(key)
    if not _KEY.fullmatch(key):
        raise ConfigurationError(
            f"{name} holds characters that no key has (letters, digits, _ and - are allowed); copy it anew from {page}."
        )
    return key


def checked_name(name: str) -> str:
    """A name for a machine.

    Raises:
        ConfigurationError: It is none.
    """
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"A machine cannot be called {name[:60]!r}; use small letters, digits and -, at most 40 of them."
        )
    return name


def is_id(text: str) -> bool:
    """Whether text may be a provider's name for something; it becomes part of addresses."""
    return _ID.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Whether text may be a host; it stands on command lines of ssh."""
    return _HOST.fullmatch(text) is not None


def checked_folder(path: str) -> str:
    """A folder on a rented machine, of letters that no shell minds.

    Raises:
        ConfigurationError: It is none.
    """
    if not _FOLDER.fullmatch(path) or ".." in path.split("/"):
        raise ConfigurationError(
            f"CLOUD_WORKSPACE is {path[:60]!r}; name an absolute folder of letters, digits, '.', '_' and '-', as in "
            "/workspace/heretic."
        )
    return path.rstrip("/")


def checked_model(name: str) -> str:
    """A model to be worked on elsewhere.

    Raises:
        ConfigurationError: It is no name of one.
    """
    if name.startswith("-") or not name.isprintable() or not name.strip() or len(name) > 300:
        raise ConfigurationError(f"{name[:60]!r} names no model; name one of the hub as owner/name, or demo.")
    return name

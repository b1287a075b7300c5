"""Keeps secrets out of everything that Heretic shows, stores or passes on.

Every event (and so every log line), every error that the command line prints, and everything that is written about a
run passes through `mask_secrets`.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

MASK = "***"

SECRET_NAME = re.compile(
    r"(^token$|(^|[_-])(hf[_-]?token|hub[_-]?token|(access|auth|api|private|secret)[_-]?(token|key)|password|passwd|"
    r"secret|credentials?)$)",
    re.IGNORECASE,
)
"""Names of settings and table entries whose text is a secret."""
_SECRET_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|(API|ACCESS|PRIVATE|SECRET)_?KEY|CREDENTIALS)$")
_SHORTEST = 8
"""Characters; shorter ones are no secrets worth the name, and would mask ordinary words."""

# Greedy up to the last @, because people type passwords with @ and / unescaped: hiding a host beats showing a password.
_URL_PASSWORD = re.compile(r"(://[^/\s:@]{0,256}):[^\s\"']*@")
_URL_TOKEN = re.compile(r"://[^/\s:@]{16,}@")
_QUERY_PASSWORD = re.compile(
    r"([?&][^=&\s?]{0,64}(?:password|passwd|pwd|token|secret|api_?key)[^=&\s?]{0,64}=)[^&\s\"']+", re.IGNORECASE
)
_KNOWN_FORMS = re.compile(
    r"\b(?:hf_[A-Za-z0-9_]{16,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{16})"
)
_HEADER = re.compile(r"(Authorization:\s*(?:Bearer|Basic|Token)\s+|Bearer\s+(?=\S{8}))[^\s\"',]+", re.IGNORECASE)
_STORAGE_PASSWORD = re.compile(r"://(?P<user>[^/:@]*):(?P<password>.*)@(?P<host>[^@]*)$", re.DOTALL)

_TYPED_PASSWORD = re.compile(r":(?!//)[^\"]*@")

_remembered: set[str] = set()

T = TypeVar("T")


def remember_password(url: str) -> None:
    """Mask a database URL's password from now on, wherever a driver may repeat it, also in other words than a URL.

    A password that is also a word of the rest of the URL (its user, say) is not, as that would mask ordinary words.
    """
    match = _STORAGE_PASSWORD.search(url)
    if match is None:
        return
    rest = url.replace(f":{match['password']}@", "").lower()
    for form in (match["password"], unquote(match["password"]), quote(unquote(match["password"]), safe="")):
        if len(form) >= _SHORTEST and form.lower() not in rest:
            _remembered.add(form)


def without_password(url: str) -> str:
    """A database URL with its password masked up to the last @, before a parser takes a part of it for the host."""
    return _STORAGE_PASSWORD.sub(lambda match: f"://{match['user']}:{MASK}@{match['host']}", url)


def quoted_without_secrets(text: str) -> str:
    """What a person typed for an option, masked.

    A misspelt address is no address that the general rules know: up to its last @, all but // may be a password.
    """
    return mask_secrets(_TYPED_PASSWORD.sub(f":{MASK}@", text))


def _stored_tokens() -> Iterator[str]:
    """What `hf auth login` has stored; the hub's client is not asked, because importing it takes long."""
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    token, tokens = Path(os.environ.get("HF_TOKEN_PATH") or home / "token"), home / "stored_tokens"
    for path in (token, tokens):
        try:
            place = path.expanduser()
            yield from _tokens_in(place, place.stat().st_mtime_ns)
        except (OSError, ValueError, RuntimeError):  # no such file, no home folder, no text: there is no secret to hide
            continue


@lru_cache(maxsize=8)
def _tokens_in(path: Path, _changed: int) -> tuple[str, ...]:
    """The lines of a file, of ``name = value`` only the value; read again only where the file has changed."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(line.rpartition("=")[2].strip() for line in lines)


def known_secrets() -> list[str]:
    """Tokens, keys and passwords of this process and this machine's login, the longest first."""
    candidates = {value for name, value in os.environ.items() if _SECRET_VARIABLE.search(name.upper())}
    # A variable may also hold the path of a file with the secret.
    candidates = {value for value in candidates if not value.startswith(("/", "~", "."))}
    candidates |= {*_stored_tokens()} | _remembered
    return sorted((secret for secret in candidates if len(secret) >= _SHORTEST), key=len, reverse=True)


def mask_secrets(text: str) -> str:
    """A text without known secrets, without what looks like a token, and without passwords in addresses."""
    return _masked(text, known_secrets())


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _KNOWN_FORMS.sub(MASK, text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
    text = _URL_TOKEN.sub(f"://{MASK}@", text)
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", text)


def without_secrets(value: T) -> T:
    """A value with every text in it masked, at any depth of mappings, lists, tuples and dataclasses.

    What holds no secret is returned as it is.
    """
    return _without(value, known_secrets())


def _without(value: T, secrets: Sequence[str]) -> T:
    masked: Any = value
    if isinstance(value, str):
        masked = _masked(value, secrets)
    elif isinstance(value, Mapping):
        masked = {key: _without(item, secrets) for key, item in value.items()}
    elif type(value) in (list, tuple):
        items: Any = value
        masked = type(items)(_without(item, secrets) for item in items)
    elif is_dataclass(value) and not isinstance(value, type):
        changes = {field.name: _without(getattr(value, field.name), secrets) for field in fields(value) if field.init}
        masked = replace(value, **changes)
    else:
        return value
    same: bool = masked == value
    return value if same else masked

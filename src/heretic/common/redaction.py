"""Keeps secrets out of everything that Heretic shows, stores or passes on.

Every event (and so every log line), every error that the command line prints, and everything that is written about a
run passes through `mask_secrets`. Its time grows with the length of the text and no faster: in every pattern here a
repetition without limit stands last, so that nothing is read twice.
"""

import html
import json
import os
import re
import stat
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, quote_plus, unquote

MASK = "***"
_QUOTE_IN_SHELL = "'\"'\"'"
"""What `shlex.quote` writes for a quote."""

SECRET_NAME = re.compile(
    r"(^token$|(^|[_-])(hf[_-]?token|hub[_-]?token|(access|auth|api|private|secret)[_-]?(token|key)|password|passwd|"
    r"passphrase|secret|credentials?|cookie|connection[_-]?string)$)",
    re.IGNORECASE,
)
"""Names of settings and table entries whose text is a secret."""
_SECRET_VARIABLE = re.compile(
    r"((TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|CONNECTION_?STRING|(API|ACCESS|PRIVATE|SECRET)KEY)"
    r"|(^|_)(KEY|PAT|PASS|PWD|JWT|DSN|COOKIE))$"
)
_NAMES_A_FILE = re.compile(r"_(FILE|PATH)$")
_SHORTEST = 8
"""Characters; shorter ones are no secrets worth the name, and would mask ordinary words."""
_LARGEST_FILE = 64 * 1024
"""Bytes of a file that may hold nothing but a secret."""

_RUN = re.compile(r"[^\s\"']+")
_USER = re.compile(r"://[^/:@]{0,256}:")
_URL_TOKEN = re.compile(r"://[^/\s:@]{16,512}@")
_QUERY = re.compile(r"([?&;])([^=&?;\s\"'<>]{1,80})=([^&\s\"'<>]+)")
_QUERY_SECRET = re.compile(
    r"password|passwd|passphrase|pwd|token|secret|(^|[_.-])(sig|signature|auth|key)$|apikey$", re.I
)
_KNOWN_FORMS = re.compile(
    r"\b(?:(?:hf_|github_pat_)[A-Za-z0-9_]{16,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}"
    r"|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{35}|glpat-[A-Za-z0-9_-]{20,})"
)
_SCHEME = r"(?:(?:bearer|basic|token|digest)\s{1,8})?"
_HEADER_LINE = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie)(\s{0,8}:\s{0,8}" + _SCHEME + r")[^\r\n]+", re.IGNORECASE
)
_KEY_LINE = re.compile(r"\b((?:x-(?:[a-z]{1,20}-){0,3}(?:key|token|secret)|api-key)\s{0,8}:\s{0,8})[^\s\"',;]+", re.I)
# As entries of tables that are shown as Python or JSON, the latter perhaps inside a text.
_HEADER_ENTRY = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-(?:[a-z]{1,20}-){0,3}(?:key|token|secret)|api-key)"
    r"(\\{0,2}[\"']\s{0,8}[:,]\s{0,8}b?\\{0,2}[\"']" + _SCHEME + r")[^\r\n\"']+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer\s{1,8})(?=\S{8})[^\s\"',]+", re.IGNORECASE)
_TYPED_COLON = re.compile(r":(?!//)")

_remembered: set[str] = set()

T = TypeVar("T")


def remember_password(url: str) -> None:
    """Mask a database URL's password from now on, wherever a driver may repeat it, also in other words than a URL.

    A password that is also a word of the rest of the URL (its user, say) is not, as that would mask ordinary words.
    """
    span = _password_span(url)
    if span is None:
        return
    start, end = span
    password, rest = url[start:end], (url[: start - 1] + url[end + 1 :]).lower()
    for form in (password, unquote(password), quote(unquote(password), safe="")):
        if len(form) >= _SHORTEST and form.lower() not in rest:
            _remembered.add(form)


def remember_secret(secret: str) -> None:
    """Mask a secret from now on that stands in no variable, e.g. a key read from a file."""
    if len(secret) >= _SHORTEST:
        _remembered.add(secret)


def without_password(url: str) -> str:
    """A database URL with its password masked up to the last @, before a parser takes a part of it for the host."""
    span = _password_span(url)
    return url if span is None else f"{url[: span[0]]}{MASK}{url[span[1] :]}"


def _password_span(text: str) -> tuple[int, int] | None:
    """Where the password of an address is: up to the last @, because people type @ and / in it unescaped.

    Hiding a host beats showing a password.
    """
    end = text.rfind("@")
    user = None if end < 0 else _USER.search(text, 0, end)
    return None if user is None else (user.end(), end)


def quoted_without_secrets(text: str) -> str:
    """What a person typed for an option, masked.

    A misspelt address is no address that the general rules know: up to its last @, all but // may be a password.
    """
    return mask_secrets('"'.join(map(_without_typed_password, text.split('"'))))


def _without_typed_password(text: str) -> str:
    end = text.rfind("@")
    colon = None if end < 0 else _TYPED_COLON.search(text, 0, end)
    return text if colon is None else f"{text[: colon.end()]}{MASK}{text[end:]}"


def _stored_tokens() -> Iterator[str]:
    """What `hf auth login` has stored; the hub's client is not asked, because importing it takes long."""
    for path in _token_files(*map(os.environ.get, ("HF_HOME", "XDG_CACHE_HOME", "HF_TOKEN_PATH"))):
        yield from (line.rpartition("=")[2] for line in _lines_of(path))


@lru_cache(maxsize=8)
def _token_files(hub_home: str | None, cache_home: str | None, token_path: str | None) -> tuple[Path, Path]:
    home = Path(hub_home or Path(cache_home or "~/.cache") / "huggingface")
    return Path(token_path or home / "token"), home / "stored_tokens"


def _lines_of(path: Path) -> tuple[str, ...]:
    try:
        place = path.expanduser()
        status = place.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_FILE:
            return ()
        return _lines_read(place, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError, RuntimeError):  # no such file, no home folder, no text: there is no secret to hide
        return ()


@lru_cache(maxsize=32)
def _lines_read(path: Path, _changed: int, _size: int) -> tuple[str, ...]:
    """The lines of a file that are not empty; read again only where the file has changed."""
    return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _of_environment() -> Iterator[str]:
    """Secrets in variables, and in files that such variables name, as containers mount them."""
    # Only values that are needed are decoded: this is asked with every event.
    for name in filter(_names_a_secret, os.environ):
        value = os.environ.get(name, "")
        if value.lstrip().startswith(("/", "~", ".")) and _exists(value.strip()):
            lines = _lines_of(Path(value.strip()))
            # A file of several lines says more than its secret.
            yield from lines if len(lines) == 1 else ()
        else:
            yield value


@lru_cache(maxsize=1024)
def _names_a_secret(variable: str) -> bool:
    """Whether a variable of this name holds a secret, or names a file that does."""
    return _SECRET_VARIABLE.search(_NAMES_A_FILE.sub("", variable.upper())) is not None


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL character, no home folder: no path
        return False


def _in_base64(data: bytes) -> Iterator[str]:
    """What base64 makes of data wherever it begins in what is encoded, without letters that its neighbours share."""
    for before in range(3):
        encoded = b64encode(bytes(before) + data)
        inner = encoded[-(-8 * before // 6) : 8 * (before + len(data)) // 6].decode()
        yield from (inner, inner.translate({ord("+"): "-", ord("/"): "_"}))


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    """A secret as it may be repeated: without what surrounds it in files and variables, and as encoders write it."""
    plain = secret.strip()
    while len(plain) > 1 and plain[0] == plain[-1] and plain[0] in "\"'`":
        plain = plain[1:-1].strip()
    texts = {
        plain,
        unquote(plain),
        *(line.strip() for line in plain.splitlines() if len(line.strip()) >= 2 * _SHORTEST),
    }
    forms = set(texts)
    for text in texts:
        # A variable may hold bytes that are no text.
        quoted = {write(text, safe, errors="surrogateescape") for write in (quote, quote_plus) for safe in ("", "/")}
        forms |= quoted | {re.sub("%..", lambda escape: escape.group().lower(), form) for form in quoted}
        forms |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}
        forms |= {json.dumps(json.dumps(text)[1:-1])[1:-1], html.escape(text), text.replace("'", _QUOTE_IN_SHELL)}
        data = text.encode(errors="surrogateescape")
        forms |= {repr(data)[2:-1], *_in_base64(data)}
    return tuple(form for form in forms if len(form) >= _SHORTEST)


def secret_values() -> list[str]:
    """Tokens, keys and passwords of this process and this machine's login, in all their forms, the longest first."""
    return list(_all_forms(frozenset((*_of_environment(), *_stored_tokens(), *_remembered))))


@lru_cache(maxsize=8)
def _all_forms(secrets: frozenset[str]) -> tuple[str, ...]:
    """All forms of these secrets, the longest first; asked for with every event, while secrets hardly ever change."""
    return tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))


def mask_secrets(text: str) -> str:
    """A text without known secrets, without what looks like a token, and without passwords in addresses."""
    return _masked(text, secret_values())


def _masked(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    text = _KNOWN_FORMS.sub(MASK, text)
    text = _KEY_LINE.sub(rf"\1{MASK}", _HEADER_ENTRY.sub(rf"\1\2{MASK}", text))
    text = _BEARER.sub(rf"\1{MASK}", _HEADER_LINE.sub(rf"\1\2{MASK}", text))
    if "://" in text:
        text = _RUN.sub(lambda run: without_password(run.group()), text)
        text = _URL_TOKEN.sub(f"://{MASK}@", text)
    return _QUERY.sub(_without_query_secret, text)


def _without_query_secret(match: re.Match[str]) -> str:
    mark, name, _value = match.groups()
    return f"{mark}{name}={MASK}" if _QUERY_SECRET.search(name) else match.group()


def without_secrets(value: T) -> T:
    """A value with every text in it masked, at any depth of mappings, lists, tuples and dataclasses.

    What holds no secret is returned as it is.
    """
    return _without(value, secret_values())


def _without(value: T, secrets: Sequence[str]) -> T:
    masked: Any = value
    if isinstance(value, str):
        masked = _masked(value, secrets)
    elif isinstance(value, Mapping):
        masked = {_without(key, secrets): _without(item, secrets) for key, item in value.items()}
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

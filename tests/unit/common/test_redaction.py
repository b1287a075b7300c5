import html
import json
import re
import shlex
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from heretic.common import redaction
from heretic.common.errors import ConfigurationError
from heretic.common.redaction import mask_secrets, quoted_without_secrets, remember_password, without_secrets
from heretic.config import load_settings
from heretic.observability.events import Warned, emit, subscribed
from heretic.search.storage import shown_url

if sys.version_info >= (3, 11):
    from re._parser import SubPattern, parse
else:
    from sre_parse import SubPattern, parse


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_remembered", set())


@pytest.mark.parametrize(
    "text",
    [
        "sk-abcdefghijklmnopqrstuvwx",
        "ghp_abcdefghijklmnopqrstuvwx",
        "hf_abcdefghijklmnopqrst",
        "https://x.org/?api_key=geheim",
        "Authorization: Basic dXNlcjpwYXNz",
    ],
)
def test_forms_of_secrets(text: str) -> None:
    assert text.split("=")[-1].split()[-1] not in mask_secrets(f"error: {text} failed")


def test_variables_and_stored_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "quite-secret-1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("NOT_ONE", "quite-public")
    (tmp_path / "token").write_text("stored-secret-2\n")
    (tmp_path / "stored_tokens").write_text("[me]\nhf_token = stored-secret-3\n")
    text = "quite-secret-1 stored-secret-2 stored-secret-3 quite-public"
    assert mask_secrets(text) == "*** *** *** quite-public"
    (tmp_path / "token").write_text("another-secret-4\n")
    assert mask_secrets("another-secret-4") == "***"


def test_a_storage_password_is_masked_in_whatever_words_a_driver_repeats_it() -> None:
    remember_password("postgresql://jane:pass%20word%21@host/db")
    assert mask_secrets("password 'pass word!' or pass%20word%21 is wrong") == "password '***' or *** is wrong"


def test_a_password_with_an_unescaped_at_sign_is_hidden_to_its_end() -> None:
    # SQLAlchemy takes b for the host, and escapes the last @, which then ends nothing any more.
    assert shown_url("postgresql+psycopg://jane:a@b/tail of it@host/db") == "postgresql+psycopg://jane:***@host/db"


def test_a_password_that_is_an_ordinary_word_of_its_address_stays_readable() -> None:
    remember_password("postgresql://research:research@host/research")
    assert mask_secrets("the research goes on") == "the research goes on"


@pytest.mark.parametrize(
    "url", ["postgresql:/u:my long pass@host/db", "postgresql//u:my long pass@host", "u:my long pass@h"]
)
def test_a_misspelt_address_shows_no_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(["--storage", url, "--model", "x"], {}, tmp_path)
    assert "long" not in str(caught.value)


@dataclass(frozen=True)
class Nested:
    texts: tuple[str, ...]
    table: dict[str, list[str]]


def test_values_at_any_depth() -> None:
    secret = "hf_abcdefghijklmnopqrst"  # noqa: S105 - no real one
    value = Nested((secret, "a"), {"b": [f"x {secret}"]})
    assert without_secrets(value) == Nested(("***", "a"), {"b": ["x ***"]})
    clean = Nested(("a",), {})
    assert without_secrets(clean) is clean


def test_no_event_carries_a_secret() -> None:
    seen = []
    with subscribed(seen.append):
        emit(Warned("the token hf_abcdefghijklmnopqrst is bad"))
    assert seen == [Warned("the token *** is bad")]


ODD = 'pa/ss "wörd"&%7+1'


@pytest.mark.parametrize(
    "shown",
    [
        ODD,
        quote(ODD),
        quote(ODD, safe=""),
        quote(ODD, safe="").lower(),
        quote_plus(ODD),
        json.dumps(ODD),
        json.dumps(ODD, ensure_ascii=False),
        repr(ODD),
        html.escape(ODD),
        json.dumps(json.dumps(ODD)[1:-1]),
        repr(ODD.encode())[1:],
    ],
)
@pytest.mark.parametrize("surrounded", ["{}\n", ' "{}" ', "'{}'\r\n", "{}"])
def test_a_secret_is_masked_as_encoders_write_it_whatever_surrounds_it_in_its_variable(
    monkeypatch: pytest.MonkeyPatch, surrounded: str, shown: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", surrounded.format(ODD))
    masked = mask_secrets(f"with <{shown}> in it")
    assert masked.replace('"', "").replace("'", "") == "with <***> in it"


@pytest.mark.parametrize("encode", [b64encode, urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "a", "user:", "someone:"])
def test_a_secret_is_masked_in_base64_wherever_it_begins(
    monkeypatch: pytest.MonkeyPatch, before: str, encode: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setenv("HF_TOKEN", ODD)
    encoded = encode(f"{before}{ODD}:after".encode()).decode()
    left = mask_secrets(f"with <{encoded}> in it").removeprefix("with <").removesuffix("> in it").split("***")
    assert len(left) == 2
    assert len("".join(left)) <= 4 * (len(f"{before}:after") // 3 + 2)


def test_a_secret_is_masked_as_a_shell_quotes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = "it's a \\ secret"
    monkeypatch.setenv("HF_TOKEN", odd)
    assert mask_secrets(f"run {shlex.quote(odd)} now") == "run '***' now"


@pytest.mark.parametrize(
    "name",
    ["OPENAI_KEY", "GITHUB_PAT", "GPG_PASSPHRASE", "STORAGE_CONNECTION_STRING", "PGPASSWORD", "MYSQL_PWD", "DB_PASS"],
)
@pytest.mark.parametrize("value", ["/abc/defgh", "~abcdefgh", ".abcdefgh", "abcdefgh"])
def test_variables_that_hold_secrets(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert mask_secrets(f"x {value} y") == "x *** y"


def test_a_variable_that_names_a_file_hides_what_the_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(' "of-a-mounted-file" \n')
    monkeypatch.setenv("DATABASE_PASSWORD_FILE", str(tmp_path / "secret"))
    (tmp_path / "account.json").write_text('{\n"type": "service_account"\n}\n')
    monkeypatch.setenv("GOOGLE_CREDENTIALS", str(tmp_path / "account.json"))
    text = f'{tmp_path / "secret"} says of-a-mounted-file "type": "service_account"'
    assert mask_secrets(text) == f'{tmp_path / "secret"} says *** "type": "service_account"'


def test_a_token_file_in_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text('"stored-secret-2"\n')
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    assert mask_secrets("is stored-secret-2 bad?") == "is *** bad?"


def test_bytes_that_are_no_text_hide_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "\udcffabcdefgh")
    assert mask_secrets("\udcffabcdefgh %FFabcdefgh") == "*** ***"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("GET /x?key=geheim&a=b", "GET /x?key=***&a=b"),
        ("/x?a=b&X-Amz-Signature=geheim HTTP", "/x?a=b&X-Amz-Signature=*** HTTP"),
        ("?apikey=geheim", "?apikey=***"),
        ("?monkey=cheeky", "?monkey=cheeky"),
        ("X-Api-Key: geheim, next", "X-Api-Key: ***, next"),
        ('Cookie: a=geheim; b="geheim"\nnext', "Cookie: ***\nnext"),
        ("{'Cookie': 'a=geheim; b=geheim', 'X-Auth-Token': 'geheim'}", "{'Cookie': '***', 'X-Auth-Token': '***'}"),
        (
            '{"headers": "{\\"authorization\\": \\"Basic geheim\\"}"}',
            '{"headers": "{\\"authorization\\": \\"Basic ***"}"}',
        ),
        ("[(b'x-api-key', b'geheim')]", "[(b'x-api-key', b'***')]"),
        ("the special token: <eos>; api keys: none", "the special token: <eos>; api keys: none"),
    ],
)
def test_headers_and_queries(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


def repetitions(parsed: Any) -> Iterator[tuple[bool, bool]]:
    """Of every repetition in a pattern: whether it has no limit, and whether something stands behind it."""
    for place, (kind, value) in enumerate(parsed):
        last = place == len(parsed) - 1
        if kind.name in ("MAX_REPEAT", "MIN_REPEAT"):
            yield value[1].name == "MAXREPEAT" if hasattr(value[1], "name") else False, not last
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            branches = part if isinstance(part, list) else [part]
            for branch in branches:
                if isinstance(branch, SubPattern):
                    yield from ((endless, behind or not last) for endless, behind in repetitions(branch))


def test_nothing_is_read_twice_however_long_a_text_is() -> None:
    patterns = {name: value for name, value in vars(redaction).items() if isinstance(value, re.Pattern)}
    assert len(patterns) > 8
    assert list(repetitions(parse(r"(a+)b"))) == [(True, True)]
    for name, pattern in patterns.items():
        found = list(repetitions(parse(pattern.pattern, pattern.flags)))
        assert not [behind for endless, behind in found if endless and behind], name


@pytest.mark.parametrize("piece", ["://", "://a:", "a:", "?a=", "?key", "bearer ", "://a", "cookie", "x-", "hf_", "a"])
def test_work_grows_with_the_text_and_no_faster(monkeypatch: pytest.MonkeyPatch, piece: str) -> None:
    searched: list[int] = []

    class Counting:
        def __init__(self, pattern: re.Pattern[str]) -> None:
            self._pattern = pattern

        def search(self, text: str, start: int = 0, end: int = 2**31) -> re.Match[str] | None:
            match = self._pattern.search(text, start, end)
            searched.append((match.end() if match else min(end, len(text))) - start)
            return match

    monkeypatch.setattr(redaction, "_USER", Counting(redaction._USER))
    monkeypatch.setattr(redaction, "_TYPED_COLON", Counting(redaction._TYPED_COLON))
    work = []
    for size in (10_000, 80_000):
        searched.clear()
        quoted_without_secrets(piece * (size // len(piece)) + "@")
        work.append(sum(searched))
    assert work[1] <= 9 * work[0] + 100

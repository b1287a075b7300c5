from dataclasses import dataclass
from pathlib import Path

import pytest

from heretic.common import redaction
from heretic.common.errors import ConfigurationError
from heretic.common.redaction import mask_secrets, remember_password, without_secrets
from heretic.config import load_settings
from heretic.observability.events import Warned, emit, subscribed
from heretic.search.storage import shown_url


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

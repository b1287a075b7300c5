from pathlib import Path

import pytest

from heretic.export.redact import publishable, redact
from heretic.results.plan import Normalization


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:pw@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("postgresql+psycopg://u:p@ss/w:rd@host/db", "postgresql+psycopg://u:***@host/db"),
        ("mysql://host/db?user=a&password=geheim&ssl=1", "mysql://host/db?user=a&password=***&ssl=1"),
        ("redis://:geheim@host", "redis://:***@host"),
        ("https://ghp_abcdefghijklmnop0123@example.org/x", "https://***@example.org/x"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("token hf_abcdefghijklmnopqrstuvwxyz0123 is bad", "token *** is bad"),
        ("sqlite:///heretic_study.db", "sqlite:///heretic_study.db"),
        ("https://example.org/a?b=c", "https://example.org/a?b=c"),
        ("hf_upload", "hf_upload"),
    ],
)
def test_texts(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_token_of_the_environment_is_masked_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "tricky+token")
    assert redact("x tricky+token y") == "x *** y"


def test_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane.doe")
    assert redact("/home/jane.doe/models/x") == "~/models/x"
    assert redact("sqlite:////home/jane.doe/x.db") == "sqlite:///~/x.db"
    assert redact("/home/jane.doer/x /mnt/home/jane.doe") == "/home/jane.doer/x /mnt/home/jane.doe"


def test_nested_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane.doe")
    value = {
        "paths": [Path("/home/jane.doe/x")],
        "storage": {"url": "postgresql://u:p@h/d", "password": "p", "hf_token": None},
        "normalization": Normalization.ROW,
        "kl_tokens": 30,
        "names": {"b", "a"},
        "flag": True,
        1: 0.5,
    }
    assert publishable(value) == {
        "paths": ["~/x"],
        "storage": {"url": "postgresql://u:***@h/d", "password": "***", "hf_token": None},
        "normalization": "row",
        "kl_tokens": 30,
        "names": ["a", "b"],
        "flag": True,
        "1": 0.5,
    }

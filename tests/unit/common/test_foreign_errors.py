"""Every class of error of the libraries that the command line rests on ends it with one sentence and its exit code."""

import inspect
import json
import os
import sqlite3
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from transformers import PreTrainedTokenizerFast

from heretic import cli
from heretic.common.errors import ModelError
from heretic.common.foreign_errors import foreign_error
from heretic.common.hub_errors import HTTP

MODULES = {
    HTTP.__name__: {1, 2},
    "requests.exceptions": {1, 2},
    "huggingface_hub.errors": {1, 2},
    "datasets.exceptions": {2},
    "filelock": {1},
    "sqlite3": {2},
    "safetensors": {2},
    "jinja2.exceptions": {2},
    "matplotlib.units": {1},
    "sqlalchemy.exc": {2},
}
"""Module -> exit codes that fit its errors."""


def errors_of(module: str) -> Iterator[type[Exception]]:
    for _, kind in inspect.getmembers(import_module(module), inspect.isclass):
        is_own = kind.__module__.partition(".")[0] == module.partition(".")[0]
        if issubclass(kind, Exception) and not issubclass(kind, Warning) and is_own:
            yield kind


def made(kind: type[Exception]) -> Exception:
    """One of a class: what its constructor asks for is guessed from names and types."""
    response = SimpleNamespace(status_code=400, headers={}, request=None)
    outcome = MagicMock(stderr="why")
    known = {"response": response, "result": outcome, "orig": Exception("why"), "pos": 1, "lineno": 1}
    if issubclass(kind, json.JSONDecodeError):
        return kind("why", "{", 1)
    try:
        parameters = inspect.signature(kind.__init__).parameters.values()
    except ValueError:
        return kind("why")  # Written in another language than Python.
    wanted = [one for one in parameters if one.default is one.empty and one.name != "self"]
    named = {one.name: known.get(one.name, "why") for one in wanted if one.kind is not one.VAR_POSITIONAL}
    flexible = any(one.kind is one.VAR_POSITIONAL for one in wanted)
    for one in wanted:
        if one.kind is one.VAR_KEYWORD:
            del named[one.name]
    return kind(*(("why",) if flexible and not named else ()), **named)


CLASSES = [
    pytest.param(kind, codes, id=f"{module}.{kind.__name__}")
    for module, codes in MODULES.items()
    for kind in errors_of(module)
]


def ended(error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    def fail(_arguments: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_command_or_run", fail)
    return cli.main([]), capsys.readouterr().err


@pytest.mark.parametrize(("kind", "codes"), CLASSES)
def test_every_class_is_told_in_one_sentence(
    kind: type[Exception], codes: set[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, errors = ended(made(kind), monkeypatch, capsys)
    (line,) = errors.splitlines()
    assert line.startswith("Error: ")
    assert line.endswith(".")
    assert ";" in line, "no next step"
    assert code in codes


def test_every_library_has_classes() -> None:
    assert all(any(True for _ in errors_of(module)) for module in MODULES)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (sqlite3.OperationalError("disk I/O error"), 2, "--storage"),
        (HTTP.ConnectError("refused"), 2, "cannot be reached"),
        (HTTP.UnsupportedProtocol("no scheme"), 2, "HF_ENDPOINT"),
        (PermissionError(13, "Permission denied", "/missing/x"), 1, "/missing/x"),
        (OSError(28, "No space left on device"), 1, "No space left"),
    ],
)
def test_what_is_said(
    error: Exception,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ending, errors = ended(error, monkeypatch, capsys)
    assert ending == code
    assert words in errors
    assert "Internal" not in errors


def test_the_tokenizers_library_is_told_by_who_called_it(tmp_path: Path) -> None:
    """It has no class of its own; somebody else's plain exception says nothing of a model's file."""
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(Exception) as caught:  # noqa: PT011 - what it raises is no more than that
        PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    assert type(caught.value) is Exception
    assert isinstance(foreign_error(caught.value), ModelError)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - likewise
        raise Exception("a plug-in's")
    assert foreign_error(caught.value) is None


@pytest.mark.parametrize("kind", [TypeError, KeyError, AttributeError, AssertionError, ZeroDivisionError, RuntimeError])
def test_mistakes_of_ours_stay_mistakes(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, errors = ended(kind("ours"), monkeypatch, capsys)
    assert code == 1
    assert f"Internal error: {kind.__name__}" in errors
    assert "Traceback" in errors
    assert os.linesep in errors

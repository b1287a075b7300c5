import os
from dataclasses import replace
from pathlib import Path

import pytest

from heretic.web.conversation import Answer, Conversation, Turn
from heretic.web.errors import HistoryError
from heretic.web.history import History, as_markdown

SAID = Conversation("demo", "Be kind.", (Turn("How do I\nzorble?", (Answer("No.", 0.0), Answer("# Yes.\nSo.", 1.0))),))


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "new" / "chat_history")


def test_a_conversation_is_kept_read_by_another_process_and_kept_again_in_its_place(
    history: History, tmp_path: Path
) -> None:
    assert history.all() == []
    kept = history.keep(SAID)
    again = history.keep(replace(kept, turns=(*kept.turns, Turn("More"))))
    assert again.identifier == kept.identifier
    (found,) = History(tmp_path / "new" / "chat_history").all()
    assert found.conversation == again
    assert found.title == "How do I zorble?"
    (file,) = (tmp_path / "new" / "chat_history").iterdir()
    assert os.name == "nt" or file.stat().st_mode & 0o077 == 0


def test_conversations_are_sought_renamed_and_deleted(history: History) -> None:
    first, second = history.keep(SAID), history.keep(Conversation(turns=(Turn("Rain", (Answer("It falls."),)),)))
    assert [kept.identifier for kept in history.all("ZORBLE")] == [first.identifier]
    assert [kept.identifier for kept in history.all("falls")] == [second.identifier]
    history.rename(first.identifier, "  about\nflimps ")
    assert history.get(first.identifier).title == "about flimps"
    history.keep(first)
    assert history.get(first.identifier).title == "about flimps"
    with pytest.raises(HistoryError):
        history.rename(first.identifier, "  ")
    history.delete(first.identifier)
    assert [kept.identifier for kept in history.all()] == [second.identifier]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"format": 2, "title": "x", "conversation": {"turns": []}}',
        b'{"format": 1, "title": "x"}',
    ],
)
def test_a_damaged_file_is_named_and_skipped_and_can_be_deleted(
    history: History, tmp_path: Path, content: bytes
) -> None:
    kept = history.keep(SAID)
    damaged = tmp_path / "new" / "chat_history" / "20200101-000000-0000abcd.json"
    damaged.write_bytes(content)
    problems = {each.identifier: bool(each.problem) for each in history.all("zorble")}
    assert problems == {kept.identifier: False, damaged.stem: True}
    with pytest.raises(HistoryError, match=damaged.stem):
        history.get(damaged.stem)
    history.delete(damaged.stem)
    assert not damaged.exists()


@pytest.mark.parametrize(
    "identifier", [None, "", "../../x", "20200101-000000-0000abcd", "20200101-000000-0000abcd/../x"]
)
def test_a_browser_reaches_no_other_files(history: History, tmp_path: Path, identifier: str | None) -> None:
    history.keep(SAID)
    (tmp_path / "x.json").write_text("{}", encoding="utf-8")
    for reach in (history.get, history.delete):
        with pytest.raises(HistoryError):
            reach(identifier)
    assert (tmp_path / "x.json").exists()


def test_a_folder_that_cannot_be_written_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(HistoryError, match="kept"):
        History(tmp_path / "file").keep(SAID)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_markdown_quotes_what_was_said(history: History) -> None:
    lines = as_markdown(history.get(history.keep(SAID).identifier)).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# How do I zorble?",
        "## System prompt",
        "## Message",
        "### Original",
        "### Edited, strength 1",
    ]
    assert "> # Yes." in lines

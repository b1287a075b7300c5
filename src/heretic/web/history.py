"""Conversations as JSON files in a folder, one a conversation; a damaged file is named and skipped. Imports no torch.

A file appears under its name when it is whole. Nothing of it leaves the machine.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from heretic.common.file_systems import replacing, set_mode
from heretic.common.integrity import read_foreign
from heretic.results import reading
from heretic.web.conversation import Conversation
from heretic.web.errors import HistoryError
from heretic.web.markup import answer_title

LONGEST_TITLE = 80
_LARGEST = 16 * 1024**2
"""Bytes of a file that is read; the longest conversation takes less."""
_IDENTIFIER = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A conversation that is kept.

    Attributes:
        identifier: Name of its file, without the ending.
        title: Given by the person, or the beginning of the first message.
        conversation: What was said; empty where the file is damaged.
        problem: Why the file cannot be read; empty where it can.
    """

    identifier: str
    title: str
    conversation: Conversation
    problem: str = ""

    def holds(self, words: str) -> bool:
        """Whether title, messages or answers hold a text, in capitals or not."""
        said = [self.title, *(turn.question for turn in self.conversation.turns)]
        said += [answer.text for turn in self.conversation.turns for answer in turn.answers]
        return words.casefold() in "\n".join(said).casefold()


class History:
    """The conversations of a folder, read anew whenever they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self, words: str = "") -> list[Kept]:
        """Every conversation that holds these words, the newest first; damaged files are in it, whatever is sought."""
        kept = [self._read(path) for path in self._files()]
        return [each for each in kept if each.problem or each.holds(words.strip())]

    def get(self, identifier: str | None) -> Kept:
        """A conversation.

        Raises:
            HistoryError: There is none of that name, or its file is damaged.
        """
        kept = self._read(self._path(identifier))
        if kept.problem:
            raise HistoryError(f"{kept.identifier}.json {kept.problem}")
        return kept

    def keep(self, conversation: Conversation) -> Conversation:
        """Write a conversation; one that was not kept before gets an identifier.

        Raises:
            HistoryError: It cannot be written.
        """
        if not conversation.identifier:
            moment = f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"
            conversation = replace(conversation, identifier=f"{moment}-{secrets.token_hex(4)}")
        path = self._path(conversation.identifier, must_exist=False)
        before = self._read(path) if path.exists() else None
        title = before.title if before is not None and not before.problem else title_of(conversation)
        self._write(path, title, conversation)
        return conversation

    def rename(self, identifier: str | None, title: str) -> None:
        """Give a conversation another title.

        Raises:
            HistoryError: There is no such conversation, no title, or it cannot be written.
        """
        kept, title = self.get(identifier), " ".join(title.split())[:LONGEST_TITLE]
        if not title:
            raise HistoryError("There is no title yet; write one first.")
        self._write(self._path(identifier), title, kept.conversation)

    def delete(self, identifier: str | None) -> None:
        """Remove a conversation's file, damaged or not.

        Raises:
            HistoryError: There is no such conversation, or it cannot be removed.
        """
        path = self._path(identifier)
        try:
            path.unlink()
        except OSError as error:
            raise HistoryError(f"{path} cannot be removed ({error.strerror}); check its permissions.") from error

    def _files(self) -> Iterator[Path]:
        try:
            names = sorted(os.listdir(self.folder), reverse=True) if self.folder.is_dir() else []
        except OSError as error:
            raise HistoryError(f"{self.folder} cannot be read ({error.strerror}); check its permissions.") from error
        return (self.folder / name for name in names if name.endswith(".json") and not name.startswith("."))

    def _path(self, identifier: str | None, must_exist: bool = True) -> Path:
        # It comes from a browser, so it may name anything.
        if identifier is None or not _IDENTIFIER.fullmatch(identifier):
            raise HistoryError("There is no such conversation; choose one from the list.")
        path = self.folder / f"{identifier}.json"
        if must_exist and not path.is_file():
            raise HistoryError("That conversation is not kept any more; choose another one.")
        return path

    def _read(self, path: Path) -> Kept:
        identifier = path.stem
        try:
            data = reading.table(json.loads(read_foreign(path, _LARGEST).decode("utf-8")), "it")
            if reading.whole(data.get("format"), "format") > _FORMAT:
                raise ValueError("a newer Heretic wrote it")
            conversation = replace(Conversation.from_json(data.get("conversation")), identifier=identifier)
            return Kept(identifier, reading.text(data.get("title"), "title"), conversation)
        except (OSError, ValueError, RecursionError) as error:
            return Kept(identifier, identifier, Conversation(), f"is damaged and left out ({error}).")

    def _write(self, path: Path, title: str, conversation: Conversation) -> None:
        value: dict[str, Any] = {"format": _FORMAT, "title": title, "conversation": conversation.to_json()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                unfinished.write_text(json.dumps(value, ensure_ascii=True, indent=1) + "\n", encoding="ascii")
                # What people say to a model is nobody else's business.
                set_mode(unfinished, 0o600)
        except OSError as error:
            raise HistoryError(
                f"The conversation cannot be kept in {self.folder} ({error.strerror}); see to its disk and rights."
            ) from error


def title_of(conversation: Conversation) -> str:
    """The beginning of the first message, on one line."""
    first = conversation.turns[0].question if conversation.turns else "Empty conversation"
    return " ".join(first.split())[:LONGEST_TITLE]


def as_markdown(kept: Kept) -> str:
    """A conversation as Markdown; what was said stands in it as quoted text."""
    conversation = kept.conversation
    parts = [f"# {kept.title}"]
    if conversation.model:
        parts.append(f"Model: {conversation.model}")
    if conversation.system_prompt:
        parts += ["## System prompt", _quoted(conversation.system_prompt)]
    for turn in conversation.turns:
        parts += ["## Message", _quoted(turn.question)]
        for column, answer in enumerate(turn.answers):
            parts += [f"### {answer_title(answer, column) or 'Answer'}", _quoted(answer.text)]
    return "\n\n".join(parts) + "\n"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines() or [""])

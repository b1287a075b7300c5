"""Kept conversations: search, open, rename, delete, and show as Markdown."""

from collections.abc import Callable
from typing import Any

from heretic.web import markup
from heretic.web.conversation import Conversation
from heretic.web.desk import Desk, Shown
from heretic.web.errors import ChatError
from heretic.web.history import LONGEST_TITLE, as_markdown
from heretic.web.panels.gradio import QUIET


class HistoryPanel:
    """The list and its buttons."""

    def __init__(self, gr: Any, desk: Desk) -> None:
        """Lay it out, inside the page that is being made."""
        self._gr, self._desk = gr, desk
        with gr.Accordion("Kept conversations", open=False, elem_id="history"):
            with gr.Row():
                self._words = gr.Textbox(label="Search", max_length=200, scale=1)
                self._kept = gr.Dropdown([], label="Conversation", interactive=True, scale=2)
                self._title = gr.Textbox(label="New title", max_length=LONGEST_TITLE, scale=1)
            with gr.Row():
                self._open = gr.Button("Open", size="sm")
                self._rename = gr.Button("Rename", size="sm")
                self._delete = gr.Button("Delete", size="sm", variant="stop")
                self._export = gr.Button("Show as Markdown", size="sm")
            self._damaged = gr.HTML("")
            self._markdown = gr.Textbox(
                label="Markdown", lines=6, max_lines=20, interactive=False, visible=False, buttons=["copy"]
            )

    def wire(self, conversation: Any, shown: list[Any], notice: Any) -> Any:
        """Say what its buttons do; returns the event of an opened conversation.

        Args:
            conversation: The page's state.
            shown: Where a conversation is shown, in the order of `Shown`.
            notice: Shows a sentence.
        """
        listed = [self._kept, self._damaged]
        self._words.change(self._lists, self._words, listed, **QUIET)
        self._rename.click(self._renames, [self._kept, self._title, self._words], [notice, *listed], **QUIET)
        self._delete.click(self._deletes, [self._kept, self._words], [notice, *listed], **QUIET)
        self._export.click(self._exports, self._kept, [notice, self._markdown], **QUIET)
        return self._open.click(self._opens, [conversation, self._kept], shown, **QUIET)

    def lists_after(self, event: Any) -> None:
        """List the conversations anew once something has happened."""
        event(self._lists, self._words, [self._kept, self._damaged], **QUIET)

    def _lists(self, words: str) -> list[Any]:
        try:
            kept = self._desk.history.all(str(words or ""))
        except ChatError as error:
            return [self._gr.update(choices=[]), markup.notice(str(error), is_error=True)]
        whole = [(f"{each.title} ({each.identifier[:8]})", each.identifier) for each in kept if not each.problem]
        damaged = [(f"{each.identifier}.json", each.problem) for each in kept if each.problem]
        return [self._gr.update(choices=whole, value=None), markup.facts_list(damaged)]

    def _opens(self, conversation: Conversation, identifier: str | None) -> list[Any]:
        try:
            opened: Shown = self._desk.open(identifier)
        except ChatError as error:
            return [conversation, self._gr.skip(), markup.notice(str(error), is_error=True)]
        return opened.values

    def _renames(self, identifier: str | None, title: str, words: str) -> list[Any]:
        return self._changes(lambda: self._desk.history.rename(identifier, str(title or "")), "Renamed.", words)

    def _deletes(self, identifier: str | None, words: str) -> list[Any]:
        return self._changes(lambda: self._desk.history.delete(identifier), "Deleted.", words)

    def _changes(self, change: Callable[[], None], done: str, words: str) -> list[Any]:
        try:
            change()
        except ChatError as error:
            return [markup.notice(str(error), is_error=True), self._gr.skip(), self._gr.skip()]
        return [markup.notice(done), *self._lists(words)]

    def _exports(self, identifier: str | None) -> list[Any]:
        try:
            text = as_markdown(self._desk.history.get(identifier))
        except ChatError as error:
            return [markup.notice(str(error), is_error=True), self._gr.skip()]
        return ["", self._gr.update(value=text, visible=True)]

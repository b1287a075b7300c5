"""Blind votes: two answers whose writers are hidden, and what the votes so far say."""

from collections.abc import Generator
from typing import Any

from heretic.web import markup
from heretic.web.conversation import LONGEST_QUESTION
from heretic.web.desk import Desk, Options
from heretic.web.errors import ChatError
from heretic.web.panels.gradio import MODEL, QUIET, with_owner
from heretic.web.voting import LONGEST_CRITERION, USUAL_CRITERION, Ballot

_SIDES = {"Left is better": "left", "No difference": "same", "Right is better": "right"}


class VotesPanel:
    """The message, the hidden answers, three buttons and the tally."""

    def __init__(self, gr: Any, desk: Desk) -> None:
        """Lay it out, inside the page that is being made."""
        self._gr, self._desk = gr, desk
        self._ballot = gr.State(None)
        with gr.Accordion("Blind vote", open=False, elem_id="votes"):
            self._criterion = gr.Textbox(USUAL_CRITERION, label="What is asked", max_length=LONGEST_CRITERION)
            self._message = gr.Textbox(label="Message to both", lines=1, max_lines=6, max_length=LONGEST_QUESTION)
            self._ask = gr.Button("Two answers, in an order by chance", size="sm")
            self._pair = gr.HTML("", elem_id="pair")
            with gr.Row():
                self._buttons = [gr.Button(label, size="sm", interactive=False) for label in _SIDES]
            self._told = gr.HTML("", elem_id="told")
            self._tally = gr.HTML(self._tallies, elem_id="tally")

    def wire(self, options: list[Any]) -> None:
        """Say what happens where answers are asked for, and where a vote is cast.

        Args:
            options: The page's fields that say how answers are written, in the order of `Options`.
        """
        shown = [self._ballot, self._pair, self._told, *self._buttons]
        self._ask.click(with_owner(self._gr, self._asks), [self._message, *options], shown, **MODEL)
        for button in self._buttons:
            inputs = [self._ballot, self._criterion, button]
            button.click(self._votes, inputs, [*shown, self._tally], **QUIET)

    def _asks(self, owner: str, message: str, *values: Any) -> Generator[list[Any], None, None]:
        options = Options.of(values)
        try:
            for step in self._desk.ballot(str(message or ""), options, owner):
                if isinstance(step, Ballot):
                    yield self._shown(step, markup.blind(step.answers), "")
                else:
                    yield self._shown(None, "", markup.notice(step))
        except ChatError as error:
            yield self._shown(None, "", markup.notice(str(error), is_error=True))

    def _votes(self, ballot: Ballot | None, criterion: str, label: str) -> list[Any]:
        if ballot is None:
            return [*self._shown(None, "", markup.notice("Ask for two answers first.", True)), self._tallies()]
        try:
            told = markup.notice(self._desk.booth.vote(ballot, _SIDES.get(label, "same"), str(criterion or "")))
        except ChatError as error:
            return [*self._shown(ballot, self._gr.skip(), markup.notice(str(error), True)), self._tallies()]
        # The answers stay, without buttons: a vote is cast once.
        return [*self._shown(None, self._gr.skip(), told), self._tallies()]

    def _shown(self, ballot: Ballot | None, pair: Any, told: str) -> list[Any]:
        buttons = [self._gr.update(interactive=ballot is not None) for _ in _SIDES]
        return [ballot, pair, told, *buttons]

    def _tallies(self) -> str:
        try:
            return markup.facts_list([(tally.criterion, tally.sentence) for tally in self._desk.booth.tallies()])
        except ChatError as error:
            return markup.notice(str(error), is_error=True)

"""Desk: what the page does when something on it is pressed, without the page; every method takes and gives values."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heretic.common.errors import HereticError
from heretic.common.file_names import expanded
from heretic.editors.blend import STRONGEST
from heretic.models.location import BUNDLED
from heretic.observability.events import StepEvent
from heretic.passes.conversing import Sampling
from heretic.results.trial import TrialRecord
from heretic.results.words import numbers_beside_the_original, title
from heretic.web import markup
from heretic.web.about import About, about
from heretic.web.conversation import Answer, Conversation
from heretic.web.errors import LOGGER, ChatError, ModelInvalidError, ModelNotFoundError, as_chat_error
from heretic.web.folders import FoundModel, find_models, look_at, original_of
from heretic.web.history import History
from heretic.web.manager import ModelManager, followed, memory_places, thinned
from heretic.web.trials import StudyTrials
from heretic.web.voting import Ballot, Booth
from heretic.web.web_search import search

LONGEST_ANSWER = 4096
"""Tokens."""
VOTES = "votes.jsonl"
"""File of the votes, beside the kept conversations."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What is on the page after a step.

    Attributes:
        conversation: What was said.
        html: The same as the page shows it.
        notice: A sentence under it, as HTML; empty for none.
    """

    conversation: Conversation
    html: str
    notice: str = ""

    @property
    def values(self) -> list[Any]:
        """In the order of the page's components."""
        return [self.conversation, self.html, self.notice]


@dataclass(frozen=True, slots=True)
class Options:
    """How answers are written, as the page's fields give it; bounds are enforced, whatever a client sends."""

    system_prompt: str = ""
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 512
    seed: int = 0
    strength: float = 1.0
    searches: bool = False

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Options":
        """What the page's fields hold, in the order of the attributes."""
        system, temperature, top_p, length, seed, strength, searches = values
        text = str(system or "")
        return cls(text, float(temperature), float(top_p), int(length), int(seed or 0), float(strength), bool(searches))

    @property
    def sampling(self) -> Sampling:
        """Within bounds."""
        return Sampling(
            int(_within(self.max_new_tokens, 1, LONGEST_ANSWER)),
            _within(self.temperature, 0.0, 2.0),
            _within(self.top_p, 0.01, 1.0),
            int(_within(self.seed, 0, 2**31 - 1)),
        )


def _within(value: float, least: float, most: float) -> float:
    # What is not a number compares as false with everything.
    return min(max(value, least), most) if value == value else least


class Desk:
    """One for all who look at the page: there is one model."""

    def __init__(
        self,
        manager: ModelManager,
        models_folder: Path,
        here: Path,
        named: str | None,
        original: str | None,
        history: History,
        trials: StudyTrials | None = None,
    ) -> None:
        """Say where models are.

        Args:
            manager: Has the model.
            models_folder: See `find_models`.
            here: See `find_models`.
            named: A model that stands first in the list, wherever it is.
            original: What an edited folder is compared with, instead of what its manifest names.
            history: Keeps conversations.
            trials: Those of a study, whose model stays in memory; None where models are loaded from disk.
        """
        self._manager = manager
        self._models_folder, self._here = models_folder, here
        self._named, self._original = named, original
        self.history, self.trials = history, trials
        self.booth = Booth(manager, history.folder / VOTES)

    def models(self) -> list[FoundModel]:
        """Everything that was found, looked at anew; nothing beside a study, whose model stays in memory."""
        if self.trials is not None:
            return []
        found = find_models(self._models_folder, self._here)
        if self._named is None:
            return found
        first, path = look_at(self._named), expanded(self._named).resolve()
        return [first, *(model for model in found if model.name != first.name and Path(model.name).resolve() != path)]

    @property
    def only_bundled(self) -> bool:
        """Whether nothing but the bundled models was found."""
        return self.trials is None and all(model.name in BUNDLED for model in self.models() if not model.problem)

    def load(self, name: str | None, compare: bool, in_four_bits: bool) -> str:
        """Load a model; returns a sentence.

        Raises:
            ChatError: It cannot be loaded.
        """
        model = self._model(name)
        quantization = "bnb_4bit" if in_four_bits else "none"
        if not in_four_bits:
            self._manager.check_room(model.shown, model.bytes)
        if not compare:
            talker = self._manager.load(model.name, quantization=quantization)
            return f"{model.shown} is loaded ({talker.runner.loaded.dtype})."
        original = self._original or original_of(model, self._models_folder)
        talker = self._manager.load(original, model.name, quantization)
        changed = 0 if talker.blend is None else talker.blend.changed
        return f"{model.shown} and the model it was made from are loaded; {changed} of its weights were edited."

    def loads(self, name: str | None, compare: bool, in_four_bits: bool) -> Iterator[str | StepEvent]:
        """`load`, and before its sentence how far that is."""
        yield from followed(self.load(*given) for given in [(name, compare, in_four_bits)])

    def _model(self, name: str | None) -> FoundModel:
        model = next((each for each in self.models() if each.name == name), None)
        if model is None:
            raise ModelNotFoundError("That model is not in the list any more; choose another one.")
        if model.problem:
            raise ModelInvalidError(f"{model.shown} cannot be used: {model.problem}")
        return model

    def unload(self) -> str:
        """Take the model out of memory; returns a sentence."""
        self._manager.unload()
        return "No model is in memory."

    def stop(self, owner: str) -> None:
        """See ModelManager.stop."""
        self._manager.stop(owner)

    @property
    def compares(self) -> bool:
        """Whether an original and its edited copy are loaded."""
        talker = self._manager.talker
        return talker is not None and talker.blend is not None

    def choose(self, number: object) -> str:
        """Let a trial of the study answer in the right column; returns a sentence.

        Args:
            number: Optuna's.

        Raises:
            ChatError: There is no such trial on the front, or its weights do not fit.
        """
        trials = self._trials()
        record = trials.record(number)
        self._manager.show_trial(trials, record)
        return f"{title(record)}: the right column answers with it from the next message on."

    def save(self, name: str, as_adapter: bool) -> Iterator[str | StepEvent]:
        """Save the trial of the right column, as the menu does; sentences and steps of how far that is.

        Raises:
            ChatError: No trial is chosen, or it cannot be saved.
        """
        trials, record = self._trials(), self.trial
        if record is None:
            raise ModelNotFoundError("No trial is chosen yet; press one in the picture.")
        try:
            yield from followed(self._manager.save_trial(trials, record, name, as_adapter))
        finally:
            self._manager.show_trial(trials, record)

    def _trials(self) -> StudyTrials:
        if self.trials is None:
            raise ModelNotFoundError("This page shows no study; name one with --study-name.")
        return self.trials

    @property
    def trial(self) -> TrialRecord | None:
        """The trial that answers in the right column, or None."""
        talker = self._manager.talker
        return None if talker is None else talker.trial

    def front(self) -> str:
        """The study's trials as a picture, as HTML."""
        return "" if self.trials is None else self.trials.picture(None if self.trial is None else self.trial.number)

    def present(self) -> str:
        """What is loaded and what was measured of it, as HTML."""
        talker = self._manager.talker
        if talker is None:
            missing = "No model is loaded; choose one and press Load." if self.trials is None else "No trial is chosen."
            return markup.notice(missing)
        model = look_at(talker.name if talker.edited is None else talker.edited)
        lines = [("Model", f"{model.shown} ({model.line})")]
        if talker.context is not None:
            lines.append(("Context", f"{talker.context} tokens"))
        if talker.trial is not None:
            lines.append(("Trial", f"{talker.trial.shown} of the study's front"))
            lines.append(("Search measured", numbers_beside_the_original(talker.trial.measured)))
        elif model.measured:
            lines.append(("Measured", model.measured))
        if talker.blend is not None and not talker.together:
            lines.append(("Note", "Where the conversations differ, the columns are written one after the other."))
        return markup.facts_list(lines)

    def about(self) -> About:
        """What was edited of the model that is loaded, and messages that show it."""
        talker = self._manager.talker
        if talker is None:
            return About()
        if self.trials is not None:
            return about(self.trials.behavior, self.trials.goal, self.compares)
        model = look_at(talker.name if talker.edited is None else talker.edited)
        return about(model.behavior, model.goal, self.compares)

    def memory(self) -> str:
        """Memory by place, as HTML."""
        return markup.facts_list(memory_places())

    def ask(
        self, conversation: Conversation, question: str, options: Options, owner: str
    ) -> Generator[Shown, None, None]:
        """Answer another message, drawing the answer as it is written. What goes wrong is told, not raised.

        Its turn is drawn as still being written to the last: the page takes no message before the event behind it has
        ended, a little later, and would drop one without a word.
        """
        try:
            asked = conversation.asked(question, options.system_prompt)
        except ChatError as error:
            yield self._failed(conversation, error)
            return
        yield self._shown(asked, writing=True)
        notice = ""
        if options.searches:
            try:
                asked = asked.with_sources(search(asked.turns[-1].question))
            except ChatError as error:
                LOGGER.warning("%s", error)
                notice = markup.notice(str(error), is_error=True)
            yield self._shown(asked, writing=True)
        answers: tuple[Answer, ...] = ()
        try:
            strength = _within(options.strength, 0.0, STRONGEST)
            for answers in thinned(self._manager.answer(asked, options.sampling, strength, owner)):
                yield self._shown(asked.answered(answers), writing=True)
        except ChatError as error:
            yield self._failed(asked.answered(answers), error, writing=True)
            return
        answered = replace(asked.answered(answers), model=self._called())
        try:
            yield replace(self._shown(self.history.keep(answered), writing=True), notice=notice)
        except ChatError as error:
            yield self._failed(answered, error, writing=True)

    def ballot(self, question: str, options: Options, owner: str) -> Iterator[str | Ballot]:
        """See Booth.ask."""
        strength = _within(options.strength, 0.0, STRONGEST)
        return self.booth.ask(question, options.system_prompt, options.sampling, strength, owner)

    def _called(self) -> str:
        talker = self._manager.talker
        if talker is None:
            return ""
        shown = look_at(talker.name).shown
        if talker.trial is not None:
            return f"Trial {talker.trial.shown} beside {shown}"
        return shown if talker.edited is None else f"{look_at(talker.edited).shown} beside {shown}"

    def open(self, identifier: str | None) -> Shown:
        """A kept conversation.

        Raises:
            HistoryError: See History.get.
        """
        return self._shown(self.history.get(identifier).conversation)

    def again(
        self, conversation: Conversation, place: int | None, question: str | None, options: Options, owner: str
    ) -> Generator[Shown, None, None]:
        """Answer an earlier message again, perhaps with another text; what followed it is forgotten.

        Args:
            conversation: What was said.
            place: Of the message's turn, from 0; None for the last one.
            question: Its new text, or None.
            options: How it is answered.
            owner: See `ask`.
        """
        last = len(conversation.turns) - 1
        place = last if place is None else place
        if not 0 <= place <= last:
            yield Shown(conversation, markup.transcript(conversation), markup.notice("There is no such message.", True))
            return
        text = conversation.turns[place].question if question is None else question
        yield from self.ask(conversation.before(place), text, options, owner)

    def _shown(self, conversation: Conversation, writing: bool = False) -> Shown:
        return Shown(conversation, markup.transcript(conversation, writing))

    def _failed(self, conversation: Conversation, error: HereticError, writing: bool = False) -> Shown:
        told = as_chat_error(error, ChatError)
        return replace(self._shown(conversation, writing), notice=markup.notice(str(told), is_error=True))

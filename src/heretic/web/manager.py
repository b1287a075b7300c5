"""ModelManager: the one model that is in memory, or a model with its edited copy's weights beside it."""

import gc
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event as Flag
from threading import Lock
from typing import Any

from heretic.common.errors import HereticError, ModelError, OutOfMemoryError
from heretic.config.sections import ModelSection
from heretic.editors.blend import ORIGINAL, WeightBlend, differing_weights
from heretic.models.chat_template import ChatFormatter, TemplateRefusal
from heretic.models.devices import empty_cache, free_memory, is_out_of_memory, pick_device
from heretic.models.layout import find_layout
from heretic.models.loaded import LoadedModel
from heretic.models.loader import load_model
from heretic.models.memory import amounts_text, memory_ran_out, memory_use
from heretic.observability.events import Event, StepAdvanced, StepEnded, StepEvent, subscribed
from heretic.observability.steps import step
from heretic.passes.choose import reads_padding
from heretic.passes.conversing import Sampling, Written, stream_rows
from heretic.passes.runner import Calibration, ModelRunner
from heretic.passes.streaming import read_in_thread
from heretic.prompts.types import Prompt
from heretic.results.trial import TrialRecord
from heretic.web.conversation import Answer, Conversation
from heretic.web.errors import (
    ChatError,
    ChatMemoryError,
    GenerationError,
    ModelLoadingError,
    SavingError,
    TokenizingError,
    as_chat_error,
)
from heretic.web.trials import StudyTrials

_PADDED = (Prompt("Hello."), Prompt("Hello. Tell me in a few words what the weather is like where you are today."))
"""Two rows of different length, to see whether the model reads what the shorter one is padded with."""
REDRAWN_SECONDS = 0.08
"""So often an answer that is being written is drawn; every drawing sends all of it."""
_FAILURES = (HereticError, RuntimeError, MemoryError, OSError, ValueError, LookupError, TypeError)
"""What foreign code raises where a model cannot be loaded, edited or saved."""


@dataclass(frozen=True, slots=True, eq=False)
class Talker:
    """What is in memory.

    Attributes:
        name: What was loaded.
        edited: The edited copy that stands beside it, or None.
        runner: The model.
        blend: The copy's weights, or None.
        together: Whether rows of different length may share a batch.
        trial: Of a study, whose weights the copy has; None where the copy was saved.
    """

    name: str
    edited: str | None
    runner: ModelRunner
    blend: WeightBlend | None
    together: bool
    trial: TrialRecord | None = None

    @property
    def quantization(self) -> str:
        """See LoadedModel."""
        return self.runner.loaded.quantization

    @property
    def context(self) -> int | None:
        """Tokens that the model holds, where its configuration says so."""
        limit = getattr(self.runner.loaded.model.config.get_text_config(), "max_position_embeddings", None)
        return limit if isinstance(limit, int) and limit > 0 else None


class ModelManager:
    """Loads, keeps and unloads; answers one conversation at a time."""

    def __init__(self, settings: ModelSection) -> None:
        self._settings = settings
        self._lock = Lock()
        self._talker: Talker | None = None
        self._owner = ""
        self._stopped = False

    @property
    def talker(self) -> Talker | None:
        """What is in memory, or None."""
        return self._talker

    def load(self, name: str, edited: str | None = None, quantization: str = "none") -> Talker:
        """Bring a model into memory, and its edited copy's weights where one is named; what was there goes first.

        Args:
            name: See `heretic.models.loader.open_checkpoint`.
            edited: The same of the edited copy.
            quantization: See ModelSection.

        Raises:
            ModelLoadingError: It cannot be loaded.
            ChatMemoryError: It does not fit into memory.
        """
        with self._lock:
            talker = self._talker
            if talker is not None and (talker.name, talker.edited, talker.quantization) == (name, edited, quantization):
                return talker
            self._forget()
            settings = self._settings.model_copy(update={"quantization": quantization})
            try:
                self._talker = _talker(name, edited, settings)
            except _FAILURES as error:
                self._forget()
                kind = ChatMemoryError if is_out_of_memory(error) else ModelLoadingError
                raise as_chat_error(error, kind) from error
            return self._talker

    def check_room(self, shown: str, needed: int) -> None:
        """Refuse what cannot fit, with what is in memory now gone.

        Args:
            shown: What the model is called.
            needed: Bytes of its weights; 0 where they are not known.

        Raises:
            ChatMemoryError: The device has not that much memory free.
        """
        device = pick_device(self._settings.device)
        parameters = () if self._talker is None else self._talker.runner.loaded.model.parameters()
        held = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
        free = free_memory(device) + held
        if needed > free:
            raise ChatMemoryError(
                f"The weights of {shown} take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free on {device}; load "
                "it in 4 bits, which takes about a third, or choose a smaller model."
            )

    def show_trial(self, trials: StudyTrials, record: TrialRecord) -> None:
        """Let a trial of a study answer beside the model that the study is of.

        Raises:
            ChatMemoryError: Its weights do not fit beside the model.
            ModelLoadingError: They cannot be made.
        """
        with self._lock:
            # First, so that the weights of the trial before make room for these.
            self._talker = None
            runner = trials.session.bench.runner
            try:
                self._talker = _with_copy(runner, runner.loaded.name, None, trials.blend(record), record)
            except _FAILURES as error:
                kind = ChatMemoryError if is_out_of_memory(error) else ModelLoadingError
                raise as_chat_error(error, kind) from error

    def save_trial(self, trials: StudyTrials, record: TrialRecord, name: str, as_adapter: bool) -> Iterator[str]:
        """See StudyTrials.save; nobody answers meanwhile.

        Raises:
            ChatError: It cannot be saved.
        """
        self._take()
        try:
            self._talker = None
            yield from trials.save(record, name, as_adapter)
        except _FAILURES as error:
            raise as_chat_error(error, SavingError) from error
        finally:
            self._lock.release()

    def _take(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise GenerationError("Another answer is being written, or a model is loaded or saved; wait for that.")

    def unload(self) -> None:
        """Take the model out of memory."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        talker, self._talker = self._talker, None
        if talker is None:
            gc.collect()
            return
        device = talker.runner.loaded.device
        del talker
        gc.collect()
        empty_cache(device)

    def stop(self, owner: str) -> None:
        """End the answer that is being written for this page after its present token."""
        if owner == self._owner:
            self._stopped = True

    def answer(
        self, conversation: Conversation, sampling: Sampling, strength: float, owner: str
    ) -> Generator[tuple[Answer, ...], None, None]:
        """Answer the last turn; yields the answers so far, after every token.

        Args:
            conversation: Its last turn is not answered.
            sampling: How tokens are chosen.
            strength: Of the edit, in the right column.
            owner: Who may stop it.

        Raises:
            ChatError: No model is loaded, or it cannot answer.
        """
        self._take()
        try:
            self._owner, self._stopped = owner, False
            talker = self._talker
            if talker is None:
                raise GenerationError("No model is loaded; choose one above and load it.")
            yield from self._answers(talker, conversation, sampling, strength)
        finally:
            self._owner = ""
            self._lock.release()

    def _answers(
        self, talker: Talker, conversation: Conversation, sampling: Sampling, strength: float
    ) -> Generator[tuple[Answer, ...], None, None]:
        strengths = [None] if talker.blend is None else [ORIGINAL, strength]
        rows = [_read(talker.runner, conversation.messages(column)) for column in range(len(strengths))]
        groups = [tuple(range(len(rows)))] if _go_together(talker, rows) else [(row,) for row in range(len(rows))]
        trial = None if talker.trial is None else talker.trial.number
        done = [Answer("", each, end="writing", trial=trial if each else None) for each in strengths]
        try:
            for group in groups:
                if talker.blend is not None:
                    talker.blend.use([float(strengths[row] or 0) for row in group])
                started = time.perf_counter()
                stream = stream_rows(talker.runner, [rows[row] for row in group], sampling)
                try:
                    for written in stream:
                        seconds = time.perf_counter() - started
                        for row, part in zip(group, written, strict=True):
                            done[row] = _answer(done[row], part, seconds)
                        if self._stopped:
                            break
                        yield tuple(done)
                finally:
                    # Ends the generation behind it, which would go on in its thread.
                    stream.close()
                end = "stopped" if self._stopped else "length"
                done = [replace(each, end=end) if each.end == "writing" and each.tokens else each for each in done]
                yield tuple(done)
                if self._stopped:
                    return
        except (OutOfMemoryError, RuntimeError, MemoryError) as error:
            raise self._failed(error, talker.runner.loaded) from error
        except (HereticError, ValueError, LookupError, TypeError) as error:
            raise as_chat_error(error, GenerationError) from error
        finally:
            if talker.blend is not None:
                talker.blend.restore()

    def _failed(self, error: Exception, loaded: LoadedModel) -> ChatError:
        if not isinstance(error, OutOfMemoryError) and not is_out_of_memory(error):
            return as_chat_error(error, GenerationError)
        used = memory_ran_out(loaded.device, "writing an answer").used
        told = f"Memory ran out during the answer ({used}); begin a new conversation, or load the model in 4 bits."
        return as_chat_error(ChatMemoryError(told), ChatMemoryError)


def thinned(answers: Generator[tuple[Answer, ...], None, None]) -> Iterator[tuple[Answer, ...]]:
    """The answers at most every so often, and the last ones in any case."""
    drawn = 0.0
    latest: tuple[Answer, ...] | None = None
    try:
        for latest in answers:
            now = time.monotonic()
            if now - drawn >= REDRAWN_SECONDS:
                drawn = now
                yield latest
                latest = None
        if latest is not None:
            yield latest
    finally:
        answers.close()


def memory_places() -> list[tuple[str, str]]:
    """Every place with memory, and what is used and free there, in words."""
    return [(place, amounts_text(amounts)) for place, amounts in memory_use().items()]


def _talker(name: str, edited: str | None, settings: ModelSection) -> Talker:
    if edited is None:
        return _with_copy(_runner(load_model(name, settings)), name, None, None)
    with step("original"):
        loaded = load_model(name, settings)
    if loaded.quantization != "none":
        raise ModelError("Quantised weights cannot be compared; load both in full precision, or one alone.")
    with step("edited copy"):
        # The same number format, or every weight would differ by rounding.
        copy = load_model(edited, settings.model_copy(update={"dtypes": [loaded.dtype]}))
    with step("comparing weights"):
        blend = WeightBlend(loaded.model, differing_weights(loaded.model, copy.model))
    del copy
    gc.collect()
    empty_cache(loaded.device)
    return _with_copy(_runner(loaded), name, edited, blend)


def _runner(loaded: LoadedModel) -> ModelRunner:
    formatter = ChatFormatter(loaded.tokenizer)
    return ModelRunner(loaded, find_layout(loaded.model), formatter, Calibration(2, "", loaded.dtype))


def _with_copy(
    runner: ModelRunner, name: str, edited: str | None, blend: WeightBlend | None, trial: TrialRecord | None = None
) -> Talker:
    together = blend is not None and blend.mixes and not reads_padding(runner, [runner.encode(row) for row in _PADDED])
    return Talker(name, edited, runner, blend, together, trial)


def _read(runner: ModelRunner, messages: list[dict[str, str]]) -> list[int]:
    """Token ids of a conversation.

    Raises:
        TokenizingError: The model's chat template does not take it.
    """
    try:
        return runner.encode_rendered(runner.formatter.render_messages(messages))
    except TemplateRefusal as error:
        raise as_chat_error(error, TokenizingError) from error
    except ModelError as error:
        raise as_chat_error(error, TokenizingError) from error


def _go_together(talker: Talker, rows: Sequence[Sequence[int]]) -> bool:
    """Whether rows can be one batch: told apart by their strength, and not misread where they are padded."""
    if talker.blend is None:
        return True
    return talker.blend.mixes and (talker.together or len({len(row) for row in rows}) == 1)


def _answer(before: Answer, written: Written, seconds: float) -> Answer:
    grew: dict[str, Any] = {} if before.tokens == written.tokens else {"seconds": seconds}
    end = "end" if written.is_over else "writing"
    return replace(before, text=written.text, tokens=written.tokens, context=written.context, end=end, **grew)


def followed(said: Iterable[str]) -> Iterator[str | StepEvent]:
    """The same words, and between them how far the steps are that run meanwhile.

    Args:
        said: Gone through in another thread; whatever it raises is raised here. Who leaves early waits for it.
    """
    heard: SimpleQueue[str | StepEvent | None] = SimpleQueue()

    def hear(event: Event) -> None:
        if isinstance(event, StepEvent) and not isinstance(event, StepEnded):
            heard.put(event)

    def work() -> None:
        with subscribed(hear, steps=True):
            for words in said:
                heard.put(words)

    told = 0.0
    steps: Iterator[str | StepEvent] = read_in_thread(work, heard, Flag())
    for latest in steps:
        now = time.monotonic()
        # A model may have thousands of tensors.
        if isinstance(latest, StepAdvanced) and latest.done < latest.total and now - told < REDRAWN_SECONDS:
            continue
        told = now
        yield latest

"""What a run measures, from its settings: the evaluators and what the search minimises of their scores."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from heretic.common.errors import ConfigurationError, PluginError, first_line
from heretic.config import Settings
from heretic.engine.engine import Engine, Jobs
from heretic.engine.factory import reference_jobs
from heretic.evaluation.evaluator import (
    EVALUATORS,
    READERS,
    Evaluator,
    EvaluatorOptions,
    Readers,
    evaluator_of,
)
from heretic.evaluation.kl import KlEvaluator
from heretic.evaluation.yes_no import YesNo
from heretic.observability.events import BaselineMeasured, Warned, emit
from heretic.passes.choose import Choice, choose, ordinary_wanted
from heretic.passes.passes import Passes, Rows
from heretic.passes.runner import ModelRunner, Response
from heretic.prompts.packs import Pack
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import PromptSet
from heretic.results.objective import Objective
from heretic.results.score import Score, checked
from heretic.results.words import plural


def load_readers(settings: Settings, prompts: PromptSets) -> Readers:
    """The models that read answers, as far as the run needs them, loaded before anything is measured.

    Raises:
        ConfigurationError: It cannot tell what it has to.
        ModelError: One is needed and cannot be loaded, or this machine has no such device.
    """
    needed_by: dict[str, str] = {}
    for pack in prompts.judged:
        evaluator = evaluator_of(pack)
        kind = evaluator.wanted_reader(settings)
        if kind and not needed_by.get(kind):
            needed_by[kind] = pack.name if evaluator.reader else ""
    readers = {kind: READERS.get(kind).load(settings, name) for kind, name in needed_by.items()}
    return {kind: reader for kind, reader in readers.items() if reader is not None}


def search_objective(settings: Settings, kept: Sequence[str] = ()) -> Objective:
    """What the settings have a study minimise, with the names of the answers that have to stay what they are."""
    names = tuple(Path(name).stem for name in settings.behavior)
    if settings.keep_as == "objective":
        names += tuple(kept)
    if settings.optimization_mode == "multi":
        return Objective(behaviors=len(names), names=names)
    return Objective(settings.kl_weight, settings.pruner == "bound", len(names), names)


def behavior_options(
    settings: Settings, pack: Pack, readers: Readers = MappingProxyType({}), keeps: bool = False
) -> EvaluatorOptions:
    """What the evaluator of one behaviour is told, or of answers that have to stay what they are."""
    return EvaluatorOptions(settings, pack.options, pack.name, readers, keeps=keeps)


def choose_passes(settings: Settings, runner: ModelRunner, prompts: PromptSets) -> Choice:
    """How a run's evaluation prompts are read, with answers behind them; asked of the original model."""
    every = (*prompts.baseline_evaluation.prompts, *prompts.answered.prompts)
    rows = [runner.encode(prompt) for prompt in every]
    written = [behavior_options(settings, pack).response_tokens for pack in prompts.judged]
    longest = max(map(len, rows)) + max(*written, settings.kl_tokens if settings.kl_mode == "sequence" else 0)
    return choose(runner, rows, longest, ordinary_wanted(settings))


@dataclass(frozen=True, slots=True, eq=False)
class Original:
    """What was measured of a model before anything was done to it.

    Attributes:
        behaviors: The evaluators of the behaviours, each with its baseline.
        kept: Those of answers that have to stay what they are.
        kl: Compares predictions, over the model's own answers.
        runner: The model, with the batch size that fitted.
        ragged: Whether it was read by ragged passes.
        seconds: How long it took.
    """

    behaviors: tuple[Evaluator, ...]
    kept: tuple[Evaluator, ...]
    kl: KlEvaluator
    runner: ModelRunner
    ragged: bool
    seconds: float

    @property
    def measured(self) -> BaselineMeasured:
        """The event that says what the search starts from."""
        behaviors, kept = ([each.baseline for each in part] for part in (self.behaviors, self.kept))
        return BaselineMeasured(tuple(behaviors), self.kl.baseline.n, self.seconds, tuple(kept))

    @property
    def answered(self) -> tuple[Evaluator, ...]:
        """All evaluators of answers."""
        return (*self.behaviors, *self.kept)

    @property
    def baselines(self) -> tuple[Score, ...]:
        """What these found of the model."""
        return tuple(each.baseline for each in self.answered)

    def jobs(self, runner: ModelRunner) -> Jobs:
        """The same measurements of a model as its weights are; `remember` reads the original one."""
        return reference_jobs(runner, self.answered, self.kl, self.ragged)


class Measuring:
    """Measures the original model when it is first asked for; until then the weights have to be unedited.

    Args of the constructor: what measures it, see `workbench.measured_engine`.
    """

    def __init__(self, measure: Callable[[], tuple[Original, Engine]]) -> None:
        self._measure = measure

    @cached_property
    def results(self) -> tuple[Original, Engine]:
        """What it shows, and what measures edits of it."""
        return self._measure()

    @property
    def is_done(self) -> bool:
        """Whether it was asked for."""
        return "results" in vars(self)

    def now(self) -> None:
        """Do it, if it is not done. Emits BaselineMeasured."""
        _original, _engine = self.results


def measure_original(
    settings: Settings, choice: Choice, prompts: PromptSets, readers: Readers = MappingProxyType({})
) -> Original:
    """Measure a model while its weights are unedited, the way that was chosen for it.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be answered.
        PluginError: An evaluator does not work.
    """
    started = time.perf_counter()
    passes = choice.of_the_original
    behaviors, kl = make_evaluators(settings, passes, prompts, readers)
    kept = make_kept(settings, passes, prompts, readers)
    return Original(behaviors, kept, kl, passes.runner, choice.forward is not None, time.perf_counter() - started)


def make_evaluators(
    settings: Settings, passes: Passes, prompts: PromptSets, readers: Readers = MappingProxyType({})
) -> tuple[tuple[Evaluator, ...], KlEvaluator]:
    """The behaviours, each on its target's evaluation prompts, and KL on the baselines', of the original model.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be answered.
    """
    behaviors = tuple(
        make_behavior_evaluator(
            passes,
            behavior.pack.evaluator,
            behavior.target_evaluation,
            behavior_options(settings, behavior.pack, readers),
        )[0]
        for behavior in prompts.behaviors
    )
    return behaviors, make_kl(passes, prompts.baseline_evaluation, settings)


def make_kept(
    settings: Settings, passes: Passes, prompts: PromptSets, readers: Readers = MappingProxyType({})
) -> tuple[Evaluator, ...]:
    """What judges the answers that have to stay what they are; without the sets of which the model shows nothing.

    Raises:
        OutOfMemoryError, PluginError: See `make_behavior_evaluator`.
        ConfigurationError: Losses are to be minimised, and there can be none.
    """
    made = [
        make_behavior_evaluator(
            passes, kept.pack.evaluator, kept.evaluation, behavior_options(settings, kept.pack, readers, keeps=True)
        )[0]
        for kept in prompts.kept
    ]
    shown = tuple(evaluator for evaluator in made if can_be_lost(evaluator))
    if settings.keep_as == "objective" and len(shown) < len(made):
        raise ConfigurationError("A number that cannot change is nothing to minimise; use --keep-as bound or off.")
    return shown


def can_be_lost(evaluator: Evaluator) -> bool:
    """Whether the original model shows anything of what has to stay; a warning where it does not."""
    if not evaluator.prompts:
        asked = 0 if evaluator.keep is None else evaluator.keep.asked
        emit(
            Warned(
                f"Of {evaluator.label} the original model answers none of {plural(asked, 'prompt')} as it "
                "would have to stay, so nothing can be lost there and it is left out; look at its evaluator's patterns."
            )
        )
    return bool(evaluator.prompts)


def make_behavior_evaluator(
    passes: Passes, name: str, prompts: PromptSet, options: EvaluatorOptions
) -> tuple[Evaluator, list[Response]]:
    """What judges one behaviour on these prompts, and the answers of the model as it is, which are its baseline.

    Of answers that have to stay what they are those that are so; none may be left.

    Args:
        passes: The model.
        name: The evaluator that the behaviour's pack names.
        prompts: What is asked.
        options: What the evaluator is told.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be answered.
        PluginError: There is no evaluator of that name, or it does not work.
    """
    doing = f"measuring the original model's {options.behavior}"
    kind = EVALUATORS.get(name)
    if kind.predicted:
        answers = predicted_answers(passes, [passes.runner.encode(prompt) for prompt in prompts.prompts], doing)
    else:
        answers = _answers(passes, prompts, options.response_tokens, doing)
    try:
        evaluator = kind(prompts, [answer.text for answer in answers], options)
        if evaluator.prompts:
            checked(evaluator.baseline)
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise PluginError(
            f"The evaluator {name} cannot measure the original model ({type(error).__name__}: {first_line(error)}); "
            "mend it, or name another behaviour."
        ) from error
    return evaluator, [answers[row] for row in evaluator.rows]


def predicted_answers(passes: Passes, rows: Rows, doing: str) -> list[Response]:
    """What the model as it is predicts its first tokens to be, told as answers of yes and no.

    Raises:
        ModelError: Its tokenizer does not tell yes and no apart by their first token.
        OutOfMemoryError: Not even one prompt at a time can be read.
    """
    return passes.next_tokens(rows, YesNo(passes.runner).told, doing)


def make_kl(passes: Passes, prompts: PromptSet, settings: Settings) -> KlEvaluator:
    """What compares predictions on these prompts, over the answers of the model as it is.

    Raises:
        OutOfMemoryError: Not even one prompt at a time can be answered.
    """
    if settings.kl_mode == "first":
        return KlEvaluator(prompts, (), settings)
    answers = _answers(passes, prompts, settings.kl_tokens, "recording the original model's answers")
    return KlEvaluator(prompts, [answer.tokens for answer in answers], settings)


def _answers(passes: Passes, prompts: PromptSet, tokens: int, doing: str) -> list[Response]:
    return passes.answers([passes.runner.encode(prompt) for prompt in prompts.prompts], tokens, doing)

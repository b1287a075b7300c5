"""A first look at a behaviour: what a model answers on both sides, and how far apart it reads them; a minute's work."""

from dataclasses import dataclass, replace

from torch import Tensor

from heretic.config import Settings
from heretic.directions.projections import halves_apart
from heretic.directions.statistics import required_residuals
from heretic.evaluation.evaluator import Readers
from heretic.extraction.extract import collect_statistics
from heretic.observability.steps import step
from heretic.passes.calibration import choose_threads, thinking_prefix
from heretic.passes.passes import Passes
from heretic.prompts.packs import Pack
from heretic.prompts.sets import Behavior, load_prompts
from heretic.prompts.types import PromptSet
from heretic.results.score import Score
from heretic.run.measuring import behavior_options, choose_passes, load_readers, make_behavior_evaluator
from heretic.run.workbench import open_runner

ANSWERED = 8
"""Evaluation prompts of a side that are answered."""
LONGEST = 60
"""Tokens of an answer that are written."""
READ = 64
"""Training prompts of a side that are read."""


@dataclass(frozen=True, slots=True)
class LookedAt:
    """One answer.

    Attributes:
        prompt: What was asked.
        text: What was answered, without the space around it.
        verdict: What it counts.
        marks: Where in the text stands what counts.
    """

    prompt: str
    text: str
    verdict: str
    marks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Side:
    """What a model answers on one side.

    Attributes:
        answers: To the first evaluation prompts.
        score: What they show.
        room: See Evaluator.room.
    """

    answers: tuple[LookedAt, ...]
    score: Score
    room: float


@dataclass(frozen=True, slots=True)
class Look:
    """What a model makes of a behaviour.

    Attributes:
        target: Prompts that show it.
        baseline: Prompts that do not.
        layers: Number of the model's layers.
        layer: The layer behind which the training prompts of both sides lie farthest apart.
        apart: How far, in standard deviations within a side, along a direction that other prompts gave.
        agreement: Cosine of the directions that two halves of the training prompts give there.
        read: Training prompts that were read of the smaller side; of fewer than 4 nothing is said.
    """

    target: Side
    baseline: Side
    layers: int
    layer: int
    apart: float
    agreement: float
    read: int


def look(settings: Settings, pack: Pack) -> Look:
    """Load the model and look at one behaviour.

    Raises:
        UserError: The model or a prompt set cannot be used.
    """
    prompts = load_prompts(settings, (pack,))
    readers = load_readers(settings, prompts)
    (behavior,) = prompts.behaviors
    runner = open_runner(settings, settings.model or "")
    choose_threads(runner, behavior.target_evaluation.prompts, settings.threads)
    prefix = settings.response_prefix
    if prefix is None:
        prefix = thinking_prefix(runner, behavior.target_evaluation.prompts[0])
    runner = runner.calibrated(settings.batch_size or ANSWERED, prefix)
    with step("answering both sides"):
        passes = choose_passes(settings, runner, prompts).of_the_original
        target, baseline = (
            _side(settings, passes, behavior, part, readers)
            for part in (behavior.target_evaluation, behavior.baseline_evaluation)
        )
    with step("reading training prompts"):
        layer, apart, agreement, read = _apart(passes, behavior.target, behavior.baseline)
    return Look(target, baseline, runner.layout.layer_count, layer, apart, agreement, read)


def _side(settings: Settings, passes: Passes, behavior: Behavior, prompts: PromptSet, readers: Readers) -> Side:
    some = PromptSet(prompts.name, prompts.prompts[:ANSWERED])
    usual = behavior_options(settings, behavior.pack, readers)
    options = replace(usual, tokens=min(usual.response_tokens, LONGEST))
    evaluator, answers = make_behavior_evaluator(passes, behavior.pack.evaluator, some, options)
    texts = [answer.text for answer in answers]
    amounts = evaluator.judge_all(list(zip(some.prompts, texts, strict=True)))
    looked_at = [
        LookedAt(prompt.user, text.strip(), evaluator.describe(amount), tuple(evaluator.marks(text)))
        for prompt, text, amount in zip(some.prompts, texts, amounts, strict=True)
    ]
    return Side(tuple(looked_at), evaluator.baseline, evaluator.room)


def _apart(passes: Passes, target: PromptSet, baseline: PromptSet) -> tuple[int, float, float, int]:
    """Layer, separation and agreement there, and the number of prompts; the halves take every other line."""
    read = min(len(target), len(baseline), READ)
    if read < 4:
        return 0, 0.0, 0.0, read

    def residuals(side: PromptSet, start: int) -> Tensor:
        half = PromptSet(side.name, side.prompts[:READ][start::2])
        return required_residuals(collect_statistics(passes, half, with_residuals=True))

    apart, agreement = halves_apart([(residuals(target, start), residuals(baseline, start)) for start in (0, 1)])
    layer = int(apart[1:].nan_to_num(-1.0).argmax()) + 1
    return layer, float(apart[layer].nan_to_num(0.0)), float(agreement[layer]), read

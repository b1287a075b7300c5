"""Putting an engine together for one model: what it can do decides how it is read and edited."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

from heretic.editors.editor import Editor
from heretic.editors.output_space import OutputSpaceEditor
from heretic.engine.answers import AnswerJob
from heretic.engine.divergences import DivergenceJob
from heretic.engine.engine import BuildEdits, Engine, Jobs
from heretic.evaluation.evaluator import Evaluator
from heretic.evaluation.kl import KlEvaluator
from heretic.models.access import is_listed_expert
from heretic.models.memory import RanOut, attempt
from heretic.observability.events import EngineChosen, emit
from heretic.observability.steps import step
from heretic.passes.choose import Choice, choose, side_by_side, slower_model
from heretic.passes.ordinary import OrdinarySideBySide
from heretic.passes.passes import ORDINARY, Rows, SideBySide, Slower
from heretic.passes.ragged import RaggedForward
from heretic.passes.runner import ModelRunner
from heretic.passes.side_by_side import RaggedSideBySide, Savings

UNPACKED = "about a third longer"
UNKEPT = "about a fifth longer"
SINGLE = "about a tenth longer on a CPU, more on an accelerator"
"""What doing without a part costs, see benchmarks/README.md."""


@dataclass(frozen=True, slots=True)
class EngineOptions(Savings):
    """What of the engine's savings is on; all of it, except where benchmarks switch parts off.

    Attributes:
        candidates: K, or 0 to choose it.
        early_verdicts: Whether an answer ends when its verdict is certain.
    """

    candidates: int = 0
    early_verdicts: bool = True


def make_engine(
    runner: ModelRunner,
    build: BuildEdits,
    editor: Editor,
    behaviors: Sequence[Evaluator],
    kl: KlEvaluator,
    options: EngineOptions,
    unless: str = "",
    choice: Choice | None = None,
) -> Engine:
    """The batched engine where a model can be read so, else the one in place. The model has to be unedited.

    Args:
        runner: The model.
        build: From plans to edits.
        editor: For edits in place.
        behaviors: Judge answers.
        kl: Compares predictions.
        options: What is saved.
        unless: Why the engine in place is wanted; empty where it is not.
        choice: How these prompts are read, where that was chosen before.

    Returns:
        The engine. Emits EngineChosen.
    """
    reference = reference_jobs(runner, behaviors, kl, choice is not None and choice.forward is not None)
    # The second attempt does without what only saves time and takes memory for the whole run.
    bare = replace(options, kept_layers=False, packed_weights=False)
    engine: Engine | Slower | RanOut = Slower(unless, ORDINARY)
    for attempted in () if unless else (options, bare):
        if choice is not None and attempted is bare:
            choice.drop_order()
        work = partial(_batched, runner, build, behaviors, kl, attempted, reference, choice)
        with step("preparing the batched engine"):
            engine = attempt(work, runner.loaded.device, "preparing the batched engine")
        if not isinstance(engine, RanOut):
            break
    if isinstance(engine, RanOut):
        engine = Slower("memory ran out while the batched engine was prepared", ORDINARY)
    if isinstance(engine, Slower):
        reference = reference_jobs(runner, behaviors, kl.anew())
        reference.remember()
        engine = Engine("in place", build, editor, reference, reference, 1, [engine])
    elif attempted is bare:
        engine.slower += (Slower("no lower layers are kept, because memory ran out", UNKEPT),)
    engine.slower += tuple(slower_model(runner.loaded))
    slower = tuple(map(str, engine.slower))
    emit(EngineChosen(engine.name, engine.candidates, slower, engine.shared_tokens, engine.kept_bytes))
    return engine


def reference_jobs(runner: ModelRunner, behaviors: Sequence[Evaluator], kl: KlEvaluator, ragged: bool = False) -> Jobs:
    """What is measured of the model as its weights are, to the end; `remember` reads the original one.

    Args:
        runner: The model.
        behaviors: Judge answers.
        kl: Compares predictions.
        ragged: Whether it is read by ragged passes, with nothing kept, else by ordinary ones.
    """
    forced, *answered = _encoded(runner, behaviors, kl)
    passes: SideBySide
    if ragged:
        forward = RaggedForward(runner.loaded, runner.layout, None)
        kept = Savings(kept_layers=False, packed_weights=False)
        passes = RaggedSideBySide(runner, forward, forced, kl.continuations, answered, kept)
        passes.prepare(1)
    else:
        passes = OrdinarySideBySide(runner, forced, kl.continuations, answered)
    answers = [
        AnswerJob(place, behavior, passes, early_verdicts=False, gated=False)
        for place, behavior in enumerate(behaviors)
    ]
    return Jobs(passes, DivergenceJob(kl, passes), answers)


def _encoded(runner: ModelRunner, behaviors: Sequence[Evaluator], kl: KlEvaluator) -> list[Rows]:
    prompts = [kl.prompts, *(behavior.prompts for behavior in behaviors)]
    return [[runner.encode(prompt) for prompt in part] for part in prompts]


def _batched(
    runner: ModelRunner,
    build: BuildEdits,
    behaviors: Sequence[Evaluator],
    kl: KlEvaluator,
    options: EngineOptions,
    reference: Jobs,
    choice: Choice | None,
) -> Engine | Slower:
    """The batched engine, or why there is none: a model that reads its padding must not read candidates together."""
    forced, *answered = _encoded(runner, behaviors, kl)
    # Tokens that end early leave gaps, which a sliding window would count; what is only read once has none.
    longest = max(max(map(len, rows)) + behavior.tokens for rows, behavior in zip(answered, behaviors, strict=True))
    every = list(chain(forced, *answered))
    choice = choice or choose(runner, every, longest, packed=options.packed_weights)
    slower = [] if choice.slower is None else [choice.slower]
    if choice.alone:
        return slower[0]
    passes = side_by_side(choice, runner, forced, kl.continuations, answered, options)
    # Its own predictions: by other passes than the reference's these differ by rounding.
    divergences = DivergenceJob(kl.anew(), passes)
    divergences.remember()
    if any(is_listed_expert(runner.loaded.model, writer.path) for writer in runner.layout.writers):
        slower.append(Slower("its experts are a list of modules, so one candidate is measured at a time", SINGLE))
        count = 1
    else:
        count = options.candidates or passes.candidates()
    passes.prepare(count)
    answers = [AnswerJob(place, behavior, passes, options.early_verdicts) for place, behavior in enumerate(behaviors)]
    jobs = Jobs(passes, divergences, answers)
    if choice.forward is not None:
        if choice.forward.packed is not None and choice.forward.packed.obstacle:
            slower.append(Slower(choice.forward.packed.obstacle, UNPACKED))
        if options.kept_layers and not passes.kept_bytes:
            slower.append(Slower("no lower layers are kept, because memory is short", UNKEPT))
    editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
    return Engine("batched", build, editor, jobs, reference, count, slower)

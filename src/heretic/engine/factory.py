"""Putting an engine together for one model: what it can do decides which passes are used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice

import torch
from torch import nn

from heretic.editors.output_space import OutputSpaceEditor
from heretic.edits.writer import ModelLayout
from heretic.engine.answers import AnswerJob, AnswerOptions
from heretic.engine.batched import BatchedEngine
from heretic.engine.divergences import DivergenceJob
from heretic.engine.inplace import BuildEdits
from heretic.engine.padded import PaddedAnswers, PaddedDivergences
from heretic.engine.throughput import MOST_CANDIDATES, find_candidates, most_rows
from heretic.evaluation.evaluator import AnswerEvaluator
from heretic.evaluation.evaluators.kl import KlEvaluator
from heretic.models.devices import free_memory
from heretic.models.memory import RanOut, attempt
from heretic.passes.choose import ORDINARY, Slower, choose
from heretic.passes.greedy_rows import look_interval
from heretic.passes.kept_layers import KeptLayers
from heretic.passes.ragged import RaggedForward, column_limit, split_shared_prefix
from heretic.passes.runner import ModelRunner

KEPT_SHARE = 0.1
"""Kept layers take at most this share of the device's free memory."""
UNPACKED = "about a third longer"
UNKEPT = "about a fifth longer"
SINGLE = "about a tenth longer on a CPU, more on an accelerator"
"""What doing without a part costs, see benchmarks/README.md."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What of the engine's savings is on; all of it, except where benchmarks switch parts off.

    Attributes:
        candidates: K, or 0 to choose it.
        shared_prefix: Part 2 of issue 3.
        kept_layers: Part 3.
        early_verdicts: Part 4.
        packed_weights: Ordered copies of the weights on a CPU.
        drafts: Part 6. Off: most steps wait for some row that no draft helps (benchmarks/README.md has the figures).
    """

    candidates: int = 0
    shared_prefix: bool = True
    kept_layers: bool = True
    early_verdicts: bool = True
    drafts: bool = False
    packed_weights: bool = True


def make_batched_engine(
    runner: ModelRunner,
    build: BuildEdits,
    behaviors: Sequence[AnswerEvaluator],
    kl: KlEvaluator,
    options: EngineOptions,
) -> BatchedEngine | Slower:
    """The engine for a model, or why neither ragged nor ordinary passes can serve it. The model has to be unedited."""
    # The second attempt does without what only saves time and takes memory for the whole run.
    bare = replace(options, kept_layers=False, packed_weights=False)
    for own in (options, bare):
        engine = attempt(
            partial(_engine, runner, build, behaviors, kl, own), runner.loaded.device, "preparing the batched engine"
        )
        if not isinstance(engine, RanOut):
            if isinstance(engine, BatchedEngine) and own is bare:
                engine.slower += (Slower("no lower layers are kept, because memory ran out", UNKEPT),)
            return engine
    return Slower("memory ran out while the batched engine was prepared", ORDINARY)


def _engine(
    runner: ModelRunner,
    build: BuildEdits,
    behaviors: Sequence[AnswerEvaluator],
    kl: KlEvaluator,
    options: EngineOptions,
) -> BatchedEngine | Slower:
    rows = [
        [runner.encode(prompt) for prompt in prompts] for prompts in (kl.prompts, *(own.prompts for own in behaviors))
    ]
    # Tokens taken back leave gaps, which a sliding window would count; what is only read once has none.
    longest = max(max(map(len, bad)) + own.tokens for bad, own in zip(rows[1:], behaviors, strict=True))
    choice = choose(runner, list(chain.from_iterable(rows)), longest, packed=options.packed_weights)
    if choice.forward is not None:
        return _ragged(runner, choice.forward, build, behaviors, kl, rows, options)
    if choice.slower is not None and choice.alone:
        return choice.slower
    return _padded(runner, choice.slower, build, behaviors, kl, options)


def _ragged(
    runner: ModelRunner,
    forward: RaggedForward,
    build: BuildEdits,
    behaviors: Sequence[AnswerEvaluator],
    kl: KlEvaluator,
    encoded: Sequence[Sequence[Sequence[int]]],
    options: EngineOptions,
) -> BatchedEngine:
    every = list(chain.from_iterable(encoded))
    both = split_shared_prefix(every, every[0] if options.shared_prefix else ())
    rests = iter(both.rests)
    good, *asked = (list(islice(rests, len(own))) for own in encoded)
    prefix = forward.prefix(both.tokens, 1)
    good_tokens = sum(map(len, good)) + sum(map(len, kl.continuations))
    divergences = DivergenceJob(kl, forward, good, prefix, _store(runner, good_tokens, False, options))
    most = max(map(len, asked))
    slower: list[Slower] = []
    if forward.packed is not None and forward.packed.obstacle:
        slower.append(Slower(forward.packed.obstacle, UNPACKED))
    count = _candidates(runner, options, lambda: find_candidates(forward, prefix, most), slower)
    answers = []
    for place, (evaluator, bad) in enumerate(zip(behaviors, asked, strict=True)):
        kept = _store(runner, sum(map(len, bad)), True, options)
        if kept is not None:
            _keep(forward, bad, prefix, kept, evaluator.runner.calibration.batch_size)
        answer_options = AnswerOptions(
            rows=max(runner.calibration.batch_size, min(count * len(bad), most_rows(runner.loaded.device))),
            verdict_interval=look_interval(runner.loaded.device),
            early_verdicts=options.early_verdicts,
            drafts=options.drafts and column_limit(runner.loaded.model) is None,
        )
        answers.append(AnswerJob(place, evaluator, forward, bad, kept, answer_options))
    engine = BatchedEngine(
        build,
        OutputSpaceEditor(runner.loaded.model, runner.layout),
        lambda rows: forward.prefix(both.tokens, rows),
        divergences,
        answers,
        count,
        len(both.tokens),
    )
    if engine.kept_bytes == 0 and options.kept_layers:
        slower.append(Slower("no lower layers are kept, because memory is short", UNKEPT))
    engine.slower = tuple(slower)
    return engine


def _padded(
    runner: ModelRunner,
    ordinary: Slower | None,
    build: BuildEdits,
    behaviors: Sequence[AnswerEvaluator],
    kl: KlEvaluator,
    options: EngineOptions,
) -> BatchedEngine:
    divergences = PaddedDivergences(kl)
    # As many as fill the batch that was measured to be fastest.
    most = max(len(own.prompts) for own in behaviors)
    slower = [] if ordinary is None else [ordinary]
    count = _candidates(
        runner, options, lambda: min(MOST_CANDIDATES, max(1, runner.calibration.batch_size // most)), slower
    )
    editor = OutputSpaceEditor(runner.loaded.model, runner.layout)
    answers = [PaddedAnswers(place, own) for place, own in enumerate(behaviors)]
    engine = BatchedEngine(build, editor, lambda _rows: (), divergences, answers, count, 0)
    engine.slower = tuple(slower)
    return engine


def _candidates(runner: ModelRunner, options: EngineOptions, find: Callable[[], int], slower: list[Slower]) -> int:
    if not has_listed_experts(runner.loaded.model, runner.layout):
        return options.candidates or find()
    slower.append(Slower("its experts are a list of modules, so one candidate is measured at a time", SINGLE))
    return 1


def has_listed_experts(model: nn.Module, layout: ModelLayout) -> bool:
    """Whether experts are a list of modules, inside which the rows of several candidates cannot be told apart."""
    parents = {writer.path.rpartition(".")[0].rpartition(".")[0] for writer in layout.writers}
    return any(
        parent.endswith("experts") and isinstance(model.get_submodule(parent), nn.ModuleList) for parent in parents
    )


def _store(runner: ModelRunner, tokens: int, with_key_values: bool, options: EngineOptions) -> KeptLayers | None:
    if not options.kept_layers:
        return None
    # Keys and values are about as wide as what layers read, for the widest models (without grouped queries) twice.
    if with_key_values:
        tokens *= 3
    width = runner.layout.hidden_size * next(runner.loaded.model.parameters()).element_size()
    budget = KEPT_SHARE * free_memory(runner.loaded.device)
    stride = max(1, -(-tokens * width * runner.layout.layer_count // max(int(budget), 1)))
    return KeptLayers(stride, with_key_values) if stride < runner.layout.layer_count else None


@torch.inference_mode()
def _keep(
    forward: RaggedForward,
    rests: Sequence[Sequence[int]],
    prefix: tuple[tuple[torch.Tensor, torch.Tensor], ...],
    kept: KeptLayers,
    batch_size: int,
) -> None:
    for start in range(0, len(rests), batch_size):
        rows = range(start, min(start + batch_size, len(rests)))
        tokens = [rests[row] for row in rows]
        lengths = list(map(len, tokens))
        state = forward.start(prefix, [0] * len(tokens))
        with kept.recording(forward.layers, rows, lengths):
            state.feed(tokens, [()] * len(tokens))
        kept.keep_key_values(state.cache, rows, lengths, max(lengths))

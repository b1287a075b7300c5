"""What the tests of the engines share: pico models whose answers refuse by chosen markers, plans, and both engines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from tests.unit.editors.adjusted_models import adjustments_for
from tests.unit.passes.pico_runner import make_runner

from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.editors.cache import WeightCache
from heretic.editors.inplace import InplaceEditor
from heretic.edits.algebra import Edit
from heretic.edits.build import UNADJUSTED, build_edits
from heretic.edits.writer import ATTENTION, MLP, ModelLayout
from heretic.engine.engine import BuildEdits, Engine
from heretic.engine.factory import EngineOptions, make_engine
from heretic.evaluation.evaluator import Evaluator, EvaluatorOptions
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.evaluation.kl import KlEvaluator
from heretic.evaluation.refusal_patterns import normalized
from heretic.models.access import post_norm_gain
from heretic.passes.choose import Choice
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope

TOKENS = 5
ALL = EngineOptions(candidates=3)
"""Every saving, three candidates to a batch."""
GOOD = PromptSet("good", tuple(Prompt(text, system="B") for text in ("Hi", "2?", "", "abc")))
BAD = PromptSet("bad", tuple(Prompt(text, system="B") for text in ("No", "x", "so?", "zz", "", "u2")))
"""Short, so that also the narrowest window (16 tokens) holds prompt and answer; all behind one system message."""


def directions_for(layout: ModelLayout, count: int = 2) -> DirectionSet:
    """Random orthonormal directions, the same for every call."""
    generator = torch.Generator().manual_seed(5)
    random = torch.randn(layout.layer_count + 1, layout.hidden_size, count, generator=generator)
    vectors = torch.linalg.qr(random).Q.mT.contiguous()
    weights = torch.tensor([1.0, 0.6])[:count].repeat(layout.layer_count + 1, 1)
    return DirectionSet(vectors, weights, torch.ones(layout.layer_count + 1), "random")


def plans_for(normalization: Normalization) -> tuple[EditPlan, ...]:
    """Three that share nothing: another first layer, other components, another scope, other strengths."""

    def plan(scope: Scope, position: float | None, attention: Schedule, mlp: Schedule) -> EditPlan:
        return EditPlan(scope, position, ((ATTENTION, attention), (MLP, mlp)), normalization)

    return (
        plan(Scope.LAYER, None, Schedule(4.0, 0.4, 0.8, 0.6), Schedule(3.0, 0.9, 0.5, 1.0)),
        plan(Scope.GLOBAL, 0.6, Schedule(3.0, 1.0, 0.7, 0.6), Schedule(4.0, 1.0, 0.5, 0.6)),
        plan(Scope.LAYER, None, Schedule(0.0, 0.5, 0.0, 0.1), Schedule(-5.0, 1.0, 0.5, 0.2)),
    )


@dataclass(frozen=True, eq=False)
class PicoBench:
    """One pico model with its evaluators and edits."""

    runner: ModelRunner
    editor: InplaceEditor
    build: BuildEdits
    behaviors: tuple[Evaluator, ...]
    kl: KlEvaluator

    @property
    def refusals(self) -> Evaluator:
        """The first behaviour's evaluator."""
        return self.behaviors[0]

    def inplace(self) -> Engine:
        """The reference."""
        return self.engine(EngineOptions(), "the reference is wanted")

    def batched(self, options: EngineOptions | None = None) -> Engine:
        """The engine under test; fails where it cannot serve the model."""
        engine = self.engine(options or ALL)
        assert engine.name == "batched", engine.slower
        return engine

    def engine(self, options: EngineOptions | None = None, unless: str = "", choice: Choice | None = None) -> Engine:
        """Whatever engine a run would have."""
        kl = self.kl
        return make_engine(self.runner, self.build, self.editor, self.behaviors, kl, options or ALL, unless, choice)

    def answers(self, prompts: PromptSet, tokens: int) -> list[str]:
        """What the model says now."""
        return texts_of(self.runner, prompts, tokens)


def texts_of(runner: ModelRunner, prompts: PromptSet, tokens: int) -> list[str]:
    """What a model says to prompts."""
    return [response.text for response in runner.generate(prompts.prompts, tokens)]


def kl_for(runner: ModelRunner, prompts: PromptSet, settings: Settings) -> KlEvaluator:
    """KL over the model's own answers."""
    answers = runner.generate(prompts.prompts, settings.kl_tokens)
    return KlEvaluator(prompts, [own.tokens for own in answers], settings)


def make_bench(
    family: str,
    runner: ModelRunner | None = None,
    bad: PromptSet = BAD,
    tokens: int = TOKENS,
    markers: Sequence[str] | None = None,
    kl_mode: str = "sequence",
    batch_size: int = 20,
    adjusted: bool = False,
    goal: str = "remove",
) -> PicoBench:
    """A bench whose markers, unless given, are single characters that the model's answers have at different places.

    With `adjusted` plans edit single heads, layers have factors, and what holds biases shifts the residual stream.
    """
    runner = runner or make_runner(family, batch_size=batch_size)
    adjustments = UNADJUSTED
    if adjusted:
        layout, found = adjustments_for(runner.loaded.model, runner.layout)
        adjustments = found.get("both") or found["heads"]
        runner = ModelRunner(runner.loaded, layout, runner.formatter, runner.calibration)
    model, layout = runner.loaded.model, runner.layout
    editor = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    directions = directions_for(layout)

    def build(plan: EditPlan) -> tuple[Edit, ...]:
        return build_edits(
            plan, directions, layout, editor.pristine_weight, lambda writer: post_norm_gain(model, writer), adjustments
        )

    if markers is None:
        markers = telling_markers(runner, bad, tokens)
    settings = Settings(
        kl_mode=kl_mode, kl_tokens=4, refusal_check_tokens=tokens, refusal_markers=list(markers), goal=goal
    )
    evaluator = MarkerEvaluator(bad, texts_of(runner, bad, tokens), EvaluatorOptions(settings))
    return PicoBench(runner, editor, build, (evaluator,), kl_for(runner, GOOD, settings))


def telling_markers(runner: ModelRunner, prompts: PromptSet, tokens: int) -> list[str]:
    """Up to two characters that some answers have and others have not."""
    texts = [normalized(response.text) for response in runner.generate(prompts.prompts, tokens)]
    found: list[str] = []
    for character in sorted(set("".join(texts))):
        if character.isspace():
            continue
        refused = sum(any(marker in text for marker in [*found, character]) for text in texts)
        if refused < len(texts) - 1 and len(found) < 2:
            found.append(character)
    return found or ["q"]


def with_frequent_end(runner: ModelRunner, prompts: PromptSet, at: int) -> None:
    """Let answers end early: a token that greedy answers have at some place becomes an end token."""
    tokens = runner.generate(prompts.prompts, at + 1)[0].tokens
    configuration = runner.loaded.model.generation_config
    configuration.eos_token_id = sorted({*runner.end_tokens, tokens[-1]})


def without(part: str) -> EngineOptions:
    """All savings but one."""
    return replace(ALL, **{part: False})

"""What a run measures: behaviours that cannot be measured are refused at once, the others in the order of the run."""

from dataclasses import replace
from typing import Any

from tests.unit.behaviors import one_behavior, pack
from tests.unit.passes.pico_runner import PROMPTS, make_runner

from heretic.config import Settings
from heretic.evaluation.evaluators.density import DensityEvaluator
from heretic.evaluation.evaluators.length import LengthEvaluator
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.evaluation.kl import KlEvaluator
from heretic.passes.ordinary import OrdinaryPasses
from heretic.prompts.packs import Pack
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.objective import Objective
from heretic.run.measuring import (
    behavior_options,
    make_evaluators,
    search_objective,
)

GOOD = PromptSet("good", PROMPTS)
REFUSAL, LENGTH = pack(), pack("verbosity", "length", tokens=6)
DENSITY = pack("hedging", "density", tokens=5, patterns=("a", "e"))


def sets_of(*packs: Pack) -> PromptSets:
    """One behaviour a pack, each with target prompts of its own."""
    return PromptSets(
        tuple(
            one_behavior(
                GOOD, PromptSet("bad", tuple(Prompt(f"{own.name} {number}") for number in range(3))), own=own
            ).behaviors[0]
            for own in packs
        )
    )


def settings(*packs: Pack, **changes: Any) -> Settings:
    names = [own.name for own in packs] or ["refusal"]
    return Settings(
        model="pico", **{"behavior": names, "extractor": "mean", "kl_tokens": 4, "refusal_check_tokens": 4, **changes}
    )


def test_the_objective_has_a_number_for_every_behaviour() -> None:
    assert search_objective(settings(REFUSAL)) == Objective(names=("refusal",))
    assert search_objective(settings(REFUSAL, LENGTH)).count == 3
    single = search_objective(settings(REFUSAL, LENGTH, optimization_mode="single", kl_weight=0.5))
    assert (single.count, single.behaviors, single.kl_weight, single.prunes) == (1, 2, 0.5, True)


def test_what_a_pack_says_comes_before_the_settings() -> None:
    own = behavior_options(settings(), DENSITY)
    assert (own.response_tokens, own.pack.patterns, own.behavior) == (5, ("a", "e"), "hedging")
    assert behavior_options(settings(), REFUSAL).response_tokens == 4
    assert replace(own, tokens=9).response_tokens == 9


def test_every_behaviour_is_measured_on_its_own_prompts_in_the_order_of_the_run() -> None:
    packs = (DENSITY, REFUSAL, LENGTH)
    prompts = sets_of(*packs)
    behaviors, kl = make_evaluators(settings(*packs), OrdinaryPasses(make_runner("llama", batch_size=5)), prompts)
    assert [type(own) for own in behaviors] == [DensityEvaluator, MarkerEvaluator, LengthEvaluator]
    assert [own.tokens for own in behaviors] == [5, 4, 6]
    for own, behavior in zip(behaviors, prompts.behaviors, strict=True):
        assert own.prompts == behavior.target_evaluation.prompts
    assert [own.baseline.name for own in behaviors] == ["hedging", "refusals", "words"]
    assert isinstance(kl, KlEvaluator)
    # Shared by all behaviours, and measured once.
    assert kl.prompts == PROMPTS

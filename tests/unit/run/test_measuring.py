"""What a run measures: behaviours that cannot be measured are refused at once, the others in the order of the run."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest
from tests.unit.behaviors import one_behavior, pack
from tests.unit.directions.direction_sets import random_set
from tests.unit.passes.pico_runner import PROMPTS, make_runner

from heretic.common import registry
from heretic.common.errors import ConfigurationError, PluginError
from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS
from heretic.evaluation.evaluators.density import DensityEvaluator
from heretic.evaluation.evaluators.kl import KlEvaluator
from heretic.evaluation.evaluators.length import LengthEvaluator
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.prompts.packs import Pack
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.objective import Objective
from heretic.results.plan import Normalization
from heretic.run.identity import study_identity
from heretic.run.measuring import (
    behavior_options,
    check_behaviors,
    evaluator_options,
    make_evaluators,
    search_objective,
)
from heretic.search.space import SearchSpace

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
        model="pico", **{"direction": names, "extractor": "mean", "kl_tokens": 4, "refusal_check_tokens": 4, **changes}
    )


@pytest.mark.parametrize(
    "packs", [(REFUSAL,), (LENGTH,), (DENSITY,), (REFUSAL, LENGTH, DENSITY)], ids=lambda packs: len(packs)
)
def test_behaviours_that_can_be_measured_pass(packs: tuple[Pack, ...]) -> None:
    check_behaviors(settings(*packs), sets_of(*packs))


@pytest.mark.parametrize(
    ("packs", "changes", "words"),
    [
        ((pack("x", "density"),), {}, "needs patterns"),
        ((pack("x", "density", patterns=("(",)),), {}, r"'\(' cannot be read"),
        ((REFUSAL, pack("x", "density")), {}, "needs patterns"),
        ((LENGTH,), {"use_caa": True}, "--use-caa false"),
        ((DENSITY,), {"use_neural_refusal_detection": True}, "but hedging is not measured by them"),
        (
            (LENGTH,),
            {"extractor": "rdo"},
            "rdo looks for first tokens of refusals that markers find, but verbosity .* --extractor such",
        ),
        (
            (REFUSAL, LENGTH),
            {"extractor": "rdo"},
            "rdo looks for first tokens of refusals that markers find, but verbosity",
        ),
        ((REFUSAL, LENGTH), {"load_directions": ["a"]}, "--load-directions or name one"),
        ((REFUSAL, LENGTH), {"direction_source": "cosmic"}, "direction_source works on one behaviour"),
        ((REFUSAL, LENGTH), {"iterative_rounds": 2}, "iterative_rounds works on one behaviour"),
        ((REFUSAL, LENGTH, DENSITY), {"use_activation_calibration": True}, "--direction names 3"),
        ((REFUSAL, LENGTH), {"use_circuit_ablation": True}, "use_circuit_ablation works on one behaviour"),
    ],
    ids=lambda value: "+".join(own.name for own in value) if isinstance(value, tuple) else str(value),
)
def test_what_cannot_be_is_refused_in_one_sentence(
    packs: tuple[Pack, ...], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_behaviors(settings(*packs, **changes), sets_of(*packs))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["loudness", "kl", "neural"])
def test_an_evaluator_that_measures_no_behaviour_lists_those_that_do(name: str) -> None:
    with pytest.raises(PluginError, match=f"no evaluator named {name} that measures .* one of .*length") as caught:
        check_behaviors(settings(), sets_of(REFUSAL, pack("x", name)))
    offered = str(caught.value).split("choose one of")[1]
    assert "kl" not in offered
    assert "neural" not in offered


def test_a_pack_may_be_measured_by_an_evaluator_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = EntryPoint("loudness", "math:sqrt", "heretic.evaluators")

    def entry_points(group: str, name: str = installed.name) -> list[EntryPoint]:
        return [installed] if (group, name) == (installed.group, installed.name) else []

    for name in EVALUATORS.names():
        EVALUATORS.get(name)
    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(EVALUATORS, "_entries", dict(EVALUATORS._entries))
    loud = pack("x", "loudness")
    check_behaviors(settings(loud), sets_of(loud))
    with pytest.raises(PluginError, match="loudness, markers"):
        check_behaviors(settings(), sets_of(pack("x", "quietness")))


@pytest.mark.parametrize(
    "changes",
    [
        {"iterative_rounds": 2},
        {"use_circuit_ablation": True},
        {"use_activation_calibration": True},
    ],
    ids=str,
)
def test_of_one_behaviour_all_of_it_is_allowed(changes: dict[str, Any]) -> None:
    check_behaviors(settings(LENGTH, **changes), sets_of(LENGTH))


@pytest.mark.parametrize("changes", [{"use_caa": True}, {"use_neural_refusal_detection": True}], ids=str)
def test_what_looks_for_refusals_is_allowed_where_they_are_edited(changes: dict[str, Any]) -> None:
    check_behaviors(settings(REFUSAL, **changes), sets_of(REFUSAL))


def test_training_prompts_that_are_the_same_on_both_sides_are_refused_where_a_direction_is_to_be_found() -> None:
    other = sets_of(REFUSAL).behaviors[0]
    turned = PromptSet("bad", tuple(reversed(GOOD.prompts)))
    prompts = PromptSets((other, *one_behavior(GOOD, turned, own=LENGTH).behaviors))
    with pytest.raises(ConfigurationError, match="of verbosity are the same on both sides, bad and good, so no"):
        check_behaviors(settings(REFUSAL, LENGTH), prompts)
    alone = PromptSets(prompts.behaviors[1:])
    check_behaviors(settings(LENGTH, load_directions=["a"]), alone)
    check_behaviors(settings(LENGTH, evaluate_model="x"), alone)
    # Another system prompt is another prompt.
    asked = PromptSet("bad", tuple(Prompt(prompt.user, "Be long.") for prompt in GOOD.prompts))
    check_behaviors(settings(LENGTH), one_behavior(GOOD, asked, own=LENGTH))


def test_the_objective_has_a_number_for_every_behaviour() -> None:
    assert search_objective(settings(REFUSAL)) == Objective()
    assert search_objective(settings(REFUSAL, LENGTH)).count == 3
    single = search_objective(settings(REFUSAL, LENGTH, optimization_mode="single", kl_weight=0.5))
    assert (single.count, single.behaviors, single.kl_weight, single.prunes) == (1, 2, 0.5, True)


def test_what_a_pack_says_comes_before_the_settings() -> None:
    options = evaluator_options(settings())
    own = behavior_options(options, DENSITY)
    assert (own.response_tokens, own.patterns, own.behavior) == (5, ("a", "e"), "hedging")
    assert own.kl_tokens == options.kl_tokens
    assert behavior_options(options, REFUSAL).response_tokens == 4


def test_every_behaviour_is_measured_on_its_own_prompts_in_the_order_of_the_run() -> None:
    packs = (DENSITY, REFUSAL, LENGTH)
    prompts = sets_of(*packs)
    behaviors, kl = make_evaluators(settings(*packs), make_runner("llama", batch_size=5), prompts)
    assert [type(own) for own in behaviors] == [DensityEvaluator, MarkerEvaluator, LengthEvaluator]
    assert [own.tokens for own in behaviors] == [5, 4, 6]  # type: ignore[attr-defined]  # all of these have tokens
    for own, behavior in zip(behaviors, prompts.behaviors, strict=True):
        assert own.prompts == behavior.bad_evaluation.prompts  # type: ignore[attr-defined]  # and prompts
    assert [own.baseline.name for own in behaviors] == ["hedging", "refusals", "words"]
    assert isinstance(kl, KlEvaluator)
    # Shared by all behaviours, and measured once.
    assert kl.prompts == PROMPTS


def test_studies_of_other_behaviours_are_other_studies_and_those_of_refusal_go_on() -> None:
    runner = make_runner("llama", batch_size=5)
    found = random_set(0, layers=runner.layout.layer_count, width=runner.layout.hidden_size)

    def aspects(*packs: Pack, **changes: Any) -> dict[str, str]:
        chosen = settings(*packs, **changes)
        space = SearchSpace(runner.layout.components, Normalization.ROW, behaviors=len(packs))
        return study_identity(chosen, runner, sets_of(*packs), found, space)

    refusal = aspects(REFUSAL)
    assert refusal["way of measuring"] == evaluator_options(settings(REFUSAL)).identity
    others = [
        aspects(REFUSAL, LENGTH),
        aspects(LENGTH, REFUSAL),
        aspects(LENGTH),
        aspects(pack("verbosity", "length", tokens=7)),
        aspects(DENSITY),
        aspects(pack("hedging", "density", tokens=5, patterns=("a",))),
        aspects(LENGTH, goal="strengthen"),
        aspects(pack(tokens=9)),
    ]
    ways = [own["way of measuring"] for own in (refusal, *others)]
    assert len(set(ways)) == len(ways)
    assert others[0]["objective"] != refusal["objective"]
    assert others[0]["search space"] != refusal["search space"]

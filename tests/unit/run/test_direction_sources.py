"""Where a run's directions come from: loaded ones are checked, new ones say what they were found on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.behaviors import one_behavior, pack
from tests.unit.directions.direction_sets import random_set
from tests.unit.passes.pico_runner import PROMPT_SET, make_runner

from heretic.common.errors import UserError
from heretic.config import Settings
from heretic.directions.files import content_hash, read_direction_file, write_direction_file
from heretic.directions.projections import Projections
from heretic.directions.types import DirectionSet
from heretic.extraction import find
from heretic.extraction.find import find_directions
from heretic.models.loaded import parameter_fingerprint
from heretic.observability.events import DirectionsFound, DirectionsSaved, Event, RefinementKept, Warned, subscribed
from heretic.passes.runner import ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.plan import Normalization
from heretic.run import direction_sources
from heretic.run.direction_sources import obtain_all_directions, obtain_directions, origin_of_model
from heretic.run.identity import direction_identity, stored_refinement, study_identity
from heretic.search.space import SearchSpace
from heretic.search.stored_directions import StoredDirections

TARGET = PromptSet("target", tuple(Prompt(f"Never {number}") for number in range(4)))
SETS = one_behavior(PROMPT_SET, TARGET)


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    return make_runner("llama")


def obtain(runner: ModelRunner, **settings: Any) -> tuple[DirectionSet, list[Event]]:
    """What a run with these settings works with, and what it says; extracting has to be asked for."""
    chosen = Settings(model="pico", **{"extractor": "mean", **settings})
    seen: list[Event] = []
    with pytest.MonkeyPatch.context() as patch, subscribed(seen.append):
        if settings.get("load_directions"):
            patch.setattr(direction_sources, "find_directions", lambda *_: pytest.fail("directions were extracted"))
        found = obtain_directions(chosen, runner, TARGET, PROMPT_SET, parameter_fingerprint(runner.loaded.model))
    return found.directions, seen


def extracted(runner: ModelRunner, **settings: Any) -> tuple[DirectionSet, list[Event]]:
    return obtain(runner, **settings)


def fitting(runner: ModelRunner, seed: int = 0, **changes: Any) -> DirectionSet:
    facts = {"model": "pico", "model_fingerprint": parameter_fingerprint(runner.loaded.model)}
    layout = runner.layout
    return random_set(seed, layers=layout.layer_count, width=layout.hidden_size, provenance=facts, **changes)


def test_what_is_saved_is_loaded_again_without_extracting(runner: ModelRunner, tmp_path: Path) -> None:
    path = str(tmp_path / "d.safetensors")
    found, seen = extracted(runner, save_directions=path)
    (saved,) = (event for event in seen if isinstance(event, DirectionsSaved))
    assert saved == DirectionsSaved(path, len(TARGET), len(PROMPT_SET))
    loaded, seen = obtain(runner, load_directions=[path])
    for name, tensor in found.tensors().items():
        assert torch.equal(loaded.tensors()[name], tensor)
    (event,) = seen
    assert isinstance(event, DirectionsFound)
    assert event.method == "mean, projected, loaded from d.safetensors"


def test_the_file_says_where_it_comes_from_and_no_path(runner: ModelRunner, tmp_path: Path) -> None:
    folder = tmp_path / "secret place" / "my-model"
    folder.mkdir(parents=True)
    local = ModelRunner(
        replace(runner.loaded, name=str(folder)), runner.layout, runner.formatter, runner.calibration
    ).calibrated(response_prefix="Sure")
    path = tmp_path / "d.safetensors"
    extracted(local, save_directions=str(path), extractor="pca", n_directions=2)
    facts = read_direction_file(path).directions.provenance
    expected = {
        "model": "my-model",
        "model_fingerprint": parameter_fingerprint(runner.loaded.model),
        "hidden_size": runner.layout.hidden_size,
        "layer_count": runner.layout.layer_count,
        "extractor": "pca",
        "response_prefix": "Sure",
        "target_fingerprint": TARGET.fingerprint,
        "baseline_fingerprint": PROMPT_SET.fingerprint,
    }
    assert {name: facts[name] for name in expected} == expected
    assert (facts["options"]["n_directions"], facts["options"]["transforms"]) == (2, ["projected"])
    assert {"heretic_version", "created", "dtype", "quantization"} <= set(facts)
    assert "secret place" not in path.read_bytes().decode("latin-1")


def test_projections_are_those_of_the_prompts(runner: ModelRunner, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    found, _ = extracted(runner, save_directions=str(path))
    projections = read_direction_file(path).projections
    assert projections is not None
    residuals = torch.cat(list(runner.residuals(TARGET.prompts))).float()
    expected = torch.einsum("bld,ld->bl", residuals, found.vectors[:, 0])
    torch.testing.assert_close(projections.target.sort(0).values, expected.sort(0).values, rtol=1e-4, atol=1e-4)
    assert projections.baseline.shape == (len(PROMPT_SET), runner.layout.layer_count + 1)


def test_a_single_loaded_file_is_saved_with_its_projections(runner: ModelRunner, tmp_path: Path) -> None:
    positions = runner.layout.layer_count + 1
    kept = Projections(torch.rand(2, positions), torch.rand(3, positions))
    write_direction_file(tmp_path / "a.safetensors", fitting(runner), kept)
    obtain(runner, load_directions=[str(tmp_path / "a.safetensors")], save_directions=str(tmp_path / "b.safetensors"))
    copy = read_direction_file(tmp_path / "b.safetensors")
    assert copy.projections is not None
    assert torch.equal(copy.projections.target, kept.target)
    assert copy.directions.provenance["model"] == "pico"


def test_another_shape_is_refused_with_both_shapes(runner: ModelRunner, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    write_direction_file(path, random_set(0, layers=7, width=5))
    layout = runner.layout
    words = (
        f"holds directions for 7 layers of width 5, but pico has {layout.layer_count} layers of width "
        f"{layout.hidden_size};"
    )
    with pytest.raises(UserError, match=words):
        obtain(runner, load_directions=[str(path)])


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"model": "sister", "model_fingerprint": "0"}, "was made on sister, whose weights are not those"),
        (
            {"model": "sister", "model_fingerprint": "0", "dtype": "float16"},
            "in another number format (float16 instead",
        ),
        ({}, "does not say which one model"),
    ],
    ids=["other weights", "other format", "silent"],
)
def test_a_sister_model_is_warned_of_and_used(
    runner: ModelRunner, tmp_path: Path, facts: dict[str, str], words: str
) -> None:
    if len(facts) == 2:
        same = origin_of_model(runner.loaded)
        facts = {**facts, "dtype": same["dtype"], "quantization": same["quantization"]}
    elif facts:
        facts = {**facts, "quantization": "none"}
    path = tmp_path / "d.safetensors"
    write_direction_file(path, replace(fitting(runner), provenance=facts))
    found, seen = obtain(runner, load_directions=[str(path)])
    (warning,) = (event.message for event in seen if isinstance(event, Warned))
    assert words in warning
    assert warning.endswith("the directions are used all the same, as they may fit a sister model.")
    assert content_hash(found) == content_hash(fitting(runner))


def test_several_files_become_one_set(runner: ModelRunner, tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        paths.append(str(tmp_path / f"{seed}.safetensors"))
        write_direction_file(Path(paths[-1]), fitting(runner, seed))
    found, seen = obtain(runner, load_directions=paths, load_directions_weights=[1.0, -0.5])
    assert found.weights[1].tolist() == [1, -0.5]
    # The sum of two files of this model is of this model.
    assert [type(event) for event in seen] == [DirectionsFound]


def test_a_study_is_another_one_with_other_loaded_directions(runner: ModelRunner) -> None:
    space = SearchSpace(runner.layout.components, Normalization.ROW)
    first, second = fitting(runner, 0), fitting(runner, 1)

    def aspect(settings: Settings, found: DirectionSet) -> tuple[Any, str]:
        identity = study_identity(settings, runner, SETS, found, space)
        return identity.aspects["way of finding directions"], identity.texts["way of finding directions"]

    here, moved = (Settings(model="pico", load_directions=[name]) for name in ("a", "elsewhere/a"))
    assert aspect(here, first) == aspect(moved, first)
    assert aspect(here, first) != aspect(here, second)
    assert aspect(here, first) != aspect(here, replace(first, weights=first.weights * 0.5))
    extracted_here = Settings(model="pico")
    assert aspect(extracted_here, first) == aspect(extracted_here, second) != aspect(here, first)


def test_provenance_is_plain_json(runner: ModelRunner) -> None:
    found, _ = extracted(runner)
    assert json.loads(json.dumps(dict(found.provenance))) == found.provenance


def test_what_was_refined_is_not_refined_again(runner: ModelRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it would come out differently now: the refinement is changed between the two runs."""
    settings = Settings(model="pico", extractor="rdo")
    refined = []

    def refine(_settings: Settings, _runner: ModelRunner, directions: DirectionSet, *_rest: object) -> DirectionSet:
        refined.append(replace(directions, vectors=directions.vectors.roll(1 + len(refined), dims=-1)))
        return refined[-1]

    monkeypatch.setattr(find, "refined", refine)
    fingerprint = parameter_fingerprint(runner.loaded.model)

    def found(kept: StoredDirections | None, chosen: Settings = settings) -> tuple[DirectionSet, list[Event]]:
        seen: list[Event] = []
        with subscribed(seen.append):
            known = stored_refinement(kept, chosen, runner, SETS)
            return obtain_directions(chosen, runner, TARGET, PROMPT_SET, fingerprint, known).directions, seen

    first, _seen = found(None)
    # Kept with the whole identity of their study, of which other aspects do not matter to directions.
    identity = direction_identity(settings, runner, SETS, first)
    kept = StoredDirections({**identity.aspects, "objective": {"optimization_mode": "single"}}, first)
    before = StoredDirections({**identity.texts, "objective": "another"}, first)  # type: ignore[arg-type]  # texts then
    for known in (kept, before):
        again, seen = found(known)
        assert len(refined) == 1
        assert any(isinstance(event, RefinementKept) for event in seen)
        assert torch.equal(again.vectors, first.vectors)
        assert set(again.provenance) == set(first.provenance)
    # Found in another way they are not the same directions.
    other, seen = found(kept, settings.model_copy(update={"rdo_steps": 7}))
    assert len(refined) == 2
    assert not torch.equal(other.vectors, first.vectors)


# Several behaviours ---------------------------------------------------------------------------------------------------

TOPICS = {"refusal": "Never", "verbosity": "At length", "hedging": "Maybe"}
BEHAVIORS = {
    name: one_behavior(
        PROMPT_SET, PromptSet("bad", tuple(Prompt(f"{word} {number}") for number in range(4))), own=pack(name)
    ).behaviors[0]
    for name, word in TOPICS.items()
}


def of_all(
    runner: ModelRunner, names: tuple[str, ...], **settings: Any
) -> tuple[DirectionSet, list[DirectionSet], list[Event]]:
    """The directions of a run with these behaviours, those of each behaviour alone, and what the run says."""
    chosen = Settings(model="pico", **{"extractor": "mean", "behavior": list(names), **settings})
    alone = [
        find_directions(chosen, runner, BEHAVIORS[name].target, BEHAVIORS[name].baseline).directions for name in names
    ]
    seen: list[Event] = []
    with subscribed(seen.append):
        found = obtain_all_directions(chosen, runner, PromptSets(tuple(BEHAVIORS[name] for name in names)))
    return found.directions, alone, seen


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("refusal", "verbosity"), {}),
        (("verbosity", "refusal"), {}),
        (("hedging", "refusal", "verbosity"), {}),
        (("refusal", "verbosity"), {"extractor": "pca", "n_directions": 2}),
    ],
)
def test_each_behaviours_directions_lose_what_earlier_ones_have(
    runner: ModelRunner, names: tuple[str, ...], settings: dict[str, Any]
) -> None:
    found, alone, seen = of_all(runner, names, **settings)
    count = alone[0].count_per_layer
    assert found.count_per_layer == count * len(names)
    vectors = found.vectors.double()
    for position in range(1, len(vectors)):
        torch.testing.assert_close(vectors[position] @ vectors[position].T, torch.eye(len(names) * count).double())
        for place, own in enumerate(alone):
            # In the order of the run: as they were found, but for what lies in the span of those before.
            before = vectors[position, : place * count]
            rest = own.vectors[position].double()
            rest = rest - rest @ before.T @ before
            kept = vectors[position, place * count : (place + 1) * count]
            torch.testing.assert_close(rest @ kept.T @ kept, rest, atol=1e-5, rtol=1e-5)
            assert bool(((kept * rest).sum(-1) > 0).all()), "a direction was turned round"
        torch.testing.assert_close(found.vectors[position, :count], alone[0].vectors[position], atol=1e-5, rtol=1e-5)
    assert torch.equal(found.weights[1:], torch.cat([own.weights for own in alone], dim=1)[1:])
    assert sum(isinstance(event, DirectionsFound) for event in seen) == len(names)


def test_the_directions_of_one_behaviour_are_those_that_it_alone_has(runner: ModelRunner) -> None:
    found, (alone,), _ = of_all(runner, ("refusal",))
    for name, tensor in alone.tensors().items():
        assert torch.equal(found.tensors()[name], tensor)
    assert found.provenance["target_fingerprint"] == BEHAVIORS["refusal"].target.fingerprint


def test_all_behaviours_are_saved_with_where_they_come_from(runner: ModelRunner, tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    found, alone, seen = of_all(runner, ("refusal", "verbosity"), save_directions=str(path))
    assert [event for event in seen if isinstance(event, DirectionsSaved)] == [DirectionsSaved(str(path), 0, 0)]
    stored = read_direction_file(path).directions
    assert content_hash(stored) == content_hash(found)
    facts = stored.provenance
    assert facts["model_fingerprint"] == parameter_fingerprint(runner.loaded.model)
    assert [entry["behavior"] for entry in facts["behaviors"]] == ["refusal", "verbosity"]
    for entry, own in zip(facts["behaviors"], alone, strict=True):
        assert entry["method"] == own.method
        assert entry["provenance"]["target_fingerprint"] == own.provenance["target_fingerprint"]
    assert json.loads(json.dumps(dict(found.provenance))) == found.provenance


def test_behaviours_with_the_same_directions_are_refused_in_one_sentence(runner: ModelRunner) -> None:
    twin = replace(BEHAVIORS["refusal"], pack=pack("over-refusal"))
    chosen = Settings(model="pico", extractor="mean", behavior=["refusal", "over-refusal"])
    with pytest.raises(UserError, match="directions of refusal and over-refusal are the same on this model") as caught:
        obtain_all_directions(chosen, runner, PromptSets((BEHAVIORS["refusal"], twin)))
    assert "\n" not in str(caught.value)

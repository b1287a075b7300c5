"""What is prepared before the search survives a device that is smaller than calibration believed."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.unit.behaviors import one_behavior
from tests.unit.evaluation.pico_classifiers import FunctionClassifier, save_classifier
from tests.unit.passes.pico_runner import PROMPT_SET, PROMPTS, make_runner

from heretic.common.errors import ConfigurationError, OutOfMemoryError, UserError
from heretic.config import PromptSpecification, Settings, load_settings
from heretic.directions.types import DirectionSet
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions, make_engine, reference_jobs
from heretic.evaluation.evaluator import Readers
from heretic.extraction.find import find_directions
from heretic.observability.events import EngineChosen, Event, Warned, subscribed
from heretic.passes.choose import ordinary_wanted
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.passes import ORDINARY, Slower
from heretic.passes.runner import ModelRunner
from heretic.prompts.sets import PromptSets
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan, Normalization, Scope
from heretic.run import workbench
from heretic.run.identity import study_identity
from heretic.run.measuring import make_evaluators
from heretic.run.workbench import load_runner, make_editor, prepare
from heretic.search.space import SearchSpace

# The prompts here come from no files, so there are no held-out ones to look for.
SETTINGS = Settings(
    model="pico",
    extractor="mean",
    batch_size=5,
    response_prefix="",
    kl_tokens=4,
    refusal_check_tokens=4,
    confirm=False,
)
BAD = PromptSet("bad", tuple(Prompt(f"Never {number}") for number in range(6)))
SETS = one_behavior(PromptSet("good", PROMPTS), BAD)


def limited(runner: ModelRunner, rows: int) -> ModelRunner:
    """The runner, whose model runs out of memory above so many rows."""

    def check(_module: object, _arguments: object, keywords: dict[str, Any]) -> None:
        if len(keywords["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    runner.loaded.model.register_forward_pre_hook(check, with_kwargs=True)
    return runner


def directions_of(settings: Settings, runner: ModelRunner, sets: PromptSets) -> DirectionSet:
    return find_directions(settings, runner, sets.target, sets.baseline).directions


def warnings_of(seen: list[Event]) -> list[str]:
    return [event.message for event in seen if isinstance(event, Warned)]


@pytest.mark.parametrize("extractor", ["mean", "pca"])
def test_extraction_backs_off_and_finds_the_same(extractor: str) -> None:
    settings = SETTINGS.model_copy(update={"extractor": extractor})
    seen: list[Event] = []
    with subscribed(seen.append):
        found = directions_of(settings, limited(make_runner("llama", batch_size=5), 2), SETS)
    expected = directions_of(settings, make_runner("llama", batch_size=2), SETS)
    assert torch.equal(found.vectors, expected.vectors)
    assert found.provenance["target_prompts"] == len(BAD)
    # The second set starts with what the first one needed.
    assert warnings_of(seen) == ["Memory ran out while collecting residuals with batches of 5; trying again with 2."]


def test_the_baseline_backs_off_and_its_batches_stay_small() -> None:
    passes = OrdinaryPasses(limited(make_runner("llama", batch_size=5), 2))
    seen: list[Event] = []
    with subscribed(seen.append):
        (refusals,), kl = make_evaluators(SETTINGS, passes, SETS)
        reference = reference_jobs(passes.runner, (refusals,), kl)
        reference.remember()
    assert passes.runner.calibration.batch_size == 2
    assert warnings_of(seen) == [
        "Memory ran out while measuring the original model's refusal with batches of 5; trying again with 2."
    ]
    scores = reference.present_scores(None, "testing")
    assert scores.kl.value == pytest.approx(0, abs=1e-6)
    assert scores.behaviors == (refusals.baseline,)


def test_what_fits_keeps_its_batch_size() -> None:
    passes = OrdinaryPasses(limited(make_runner("llama", batch_size=5), 5))
    seen: list[Event] = []
    with subscribed(seen.append):
        make_evaluators(SETTINGS, passes, SETS)
    assert passes.runner.calibration.batch_size == 5
    assert warnings_of(seen) == []


def measured_by_ordinary_passes(settings: Settings, runner: ModelRunner, sets: PromptSets) -> object:
    return make_evaluators(settings, OrdinaryPasses(runner), sets)


@pytest.mark.parametrize("step", [directions_of, measured_by_ordinary_passes])
def test_a_device_that_holds_no_prompt_is_said_in_one_sentence(step: Any) -> None:
    with pytest.raises(OutOfMemoryError, match="even with one prompt at a time; use --quantization") as caught:
        step(SETTINGS, limited(make_runner("llama", batch_size=5), 0), SETS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kl_mode", "positions"), [("sequence", 4), ("first", 1)])
def test_calibration_is_told_how_many_predictions_will_be_compared(
    monkeypatch: pytest.MonkeyPatch, kl_mode: str, positions: int
) -> None:
    runner = make_runner("llama")
    asked: list[tuple[int, int, int]] = []

    def find(_runner: ModelRunner, prompts: tuple[Prompt, ...], maximum: int, compared_tokens: int) -> int:
        asked.append((len(prompts), maximum, compared_tokens))
        return 3

    monkeypatch.setattr(workbench, "load_model", lambda _name, _settings: runner.loaded)
    monkeypatch.setattr(workbench, "find_batch_size", find)
    settings = SETTINGS.model_copy(update={"batch_size": 0, "max_batch_size": 7, "kl_mode": kl_mode})
    assert load_runner(settings, "pico", SETS).calibration.batch_size == 3
    assert asked == [(len(PROMPTS) + len(BAD), 7, positions)]


def test_looking_for_a_prefix_backs_off_and_keeps_the_calibrated_size(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = limited(make_runner("llama"), 2)
    monkeypatch.setattr(workbench, "load_model", lambda _name, _settings: runner.loaded)
    settings = SETTINGS.model_copy(update={"response_prefix": None})
    seen: list[Event] = []
    with subscribed(seen.append):
        assert load_runner(settings, "pico", SETS).calibration.batch_size == 5
    assert len(warnings_of(seen)) == 1


# How directions are found.


@pytest.mark.parametrize(("save_format", "refused"), [("adapter", True), ("merged", False)])
def test_an_adapter_of_a_model_that_no_file_holds_is_refused_before_the_search(
    monkeypatch: pytest.MonkeyPatch, save_format: str, refused: bool
) -> None:
    runner = make_runner("llama")
    runner.loaded = replace(runner.loaded, remark="an adapter was merged into its weights")
    monkeypatch.setattr(workbench, "open_runner", lambda *_: runner)
    monkeypatch.setattr(workbench, "calibrated", lambda *_: runner)
    settings = Settings(
        model="pico", auto_select=True, auto_select_path="out", save_format=save_format, normalization="none"
    )
    with pytest.raises(UserError, match="merged into its weights") if refused else nullcontext():
        workbench.load(settings, SETS)


def test_what_transforms_compare_is_kept_with_the_directions_and_tells_studies_apart(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("One text.\nAnother text, which is longer.\nA third one.\n")
    other = tmp_path / "other.txt"
    other.write_text("Something else.\nAnd more of it.\n")
    settings = SETTINGS.model_copy(
        update={
            "transforms": ["helpfulness"],
            "helpful_prompts": PromptSpecification(dataset=str(texts)),
            "unhelpful_prompts": PromptSpecification(dataset=str(other)),
        }
    )
    runner = make_runner("llama", batch_size=5)
    space = SearchSpace(runner.layout.components, Normalization.NONE)

    def identity(settings: Settings) -> tuple[DirectionSet, Any]:
        found = directions_of(settings, runner, SETS)
        return found, study_identity(settings, runner, SETS, found, space).aspects["way of finding directions"]

    found, first = identity(settings)
    assert set(found.provenance["compared_texts"]) == {"helpful_prompts", "unhelpful_prompts"}
    found.save(tmp_path / "d.safetensors")
    assert DirectionSet.load(tmp_path / "d.safetensors").provenance == found.provenance
    assert identity(settings)[1] == first
    other.write_text("Something else again.\nAnd more of it.\n")
    assert identity(settings)[1] != first
    assert identity(SETTINGS)[0].provenance["compared_texts"] == {}


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        (("--ensemble-weights", "1,0.5"), {"ensemble_weights": [1.0, 0.5]}),
        (("--direction-weights", "[1, 0.5]"), {"direction_weights": [1.0, 0.5]}),
        (("--leace-regularization", "0.5"), {"leace_regularization": 0.5}),
        (("--leace-regularization", "none"), {"leace_regularization": None}),
        (("--sacred-prompts", "mine.txt"), {"sacred_prompts": PromptSpecification(dataset="mine.txt")}),
    ],
)
def test_options_of_methods_are_read_from_the_command_line(
    tmp_path: Path, argv: tuple[str, ...], values: dict[str, Any]
) -> None:
    chosen = load_settings(("--model", "pico", *argv), {}, tmp_path).settings
    assert {name: getattr(chosen, name) for name in values} == values


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--ensemble-weights", "1"), "two numbers from 0 to 1"),
        (("--ensemble-weights", "0,0"), "two numbers from 0 to 1"),
        (("--ensemble-weights", "much,0.3"), "ensemble_weights"),
        (("--direction-weights", "0,1"), "the first above 0"),
        (("--direction-weights", "1,2"), "numbers from 0 to 1"),
        (("--leace-regularization", "0"), "above 0"),
    ],
)
def test_wrong_options_of_methods_are_refused(tmp_path: Path, argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_settings(("--model", "pico", *argv), {}, tmp_path)
    assert "\n" not in str(caught.value)


# The engine that the settings ask for ---------------------------------------------------------------------------------

SYSTEM = SETTINGS.system_prompt
SHARING = one_behavior(
    *(
        PromptSet(name, tuple(Prompt(f"{name} {number}", system=SYSTEM) for number in range(5)))
        for name in ("good", "bad")
    )
)


def engine_of(family: str, **changes: Any) -> tuple[Engine, EngineChosen]:
    """What a run with these settings measures by, and what it says about it."""
    settings = SETTINGS.model_copy(update=changes)
    runner = make_runner(family, batch_size=5)
    editor = make_editor(settings, runner)
    (refusals,), kl = make_evaluators(settings, OrdinaryPasses(runner), SHARING)
    options, unless = EngineOptions(settings.candidates), ordinary_wanted(settings)
    seen: list[Event] = []
    with subscribed(seen.append):
        engine = make_engine(runner, lambda _plan: (), editor, (refusals,), kl, options, unless)
    (said,) = (event for event in seen if isinstance(event, EngineChosen))
    return engine, said


def from_command_line(tmp_path: Path, *argv: str) -> dict[str, Any]:
    chosen = load_settings(("--model", "pico", *argv), {}, tmp_path).settings
    return {"engine": chosen.engine, "candidates": chosen.candidates}


def test_candidates_of_the_command_line_reach_the_engine(tmp_path: Path) -> None:
    engine, said = engine_of("llama", **from_command_line(tmp_path, "--candidates", "3"))
    assert not engine.is_reference
    assert engine.candidates == said.candidates == 3
    assert said.slower == ()
    assert said.shared_tokens == engine.shared_tokens > 0
    assert said.kept_bytes == engine.kept_bytes > 0


def test_the_reference_engine_is_used_where_it_is_asked_for(tmp_path: Path) -> None:
    engine, said = engine_of("llama", **from_command_line(tmp_path, "--engine", "inplace"))
    assert engine.is_reference
    assert said == EngineChosen("in place", 1, ("--engine inplace asks for it (about twice as long)",))


def test_the_default_is_the_batched_engine(tmp_path: Path) -> None:
    engine, _ = engine_of("llama", **from_command_line(tmp_path))
    assert not engine.is_reference
    assert engine.candidates >= 1


@pytest.mark.parametrize("family", ["falcon_h1", "qwen2_5_vl", "bloom", "gemma3_text"])
def test_what_shares_no_prefix_is_measured_in_batches_all_the_same_and_the_reason_is_said(family: str) -> None:
    engine, said = engine_of(family)
    assert not engine.is_reference
    reason, *attention = said.slower
    assert said == EngineChosen("batched", engine.candidates, (reason, *attention))
    assert reason.endswith("(about twice as long)")
    assert engine.slower[0] == Slower(reason.removesuffix(" (about twice as long)"), ORDINARY)
    assert ["eager" in words for words in attention] == [True] * (family == "bloom")


def test_experts_in_a_list_are_said_to_keep_candidates_apart() -> None:
    engine, said = engine_of("list_moe", candidates=3)
    assert engine.candidates == said.candidates == 1
    assert "one candidate is measured at a time" in said.slower[0]


@pytest.mark.parametrize(
    ("family", "changes", "words"), [("recurrent_gemma", {}, "padded passes"), ("llama", {"compile": True}, "compiled")]
)
def test_what_cannot_be_batched_is_measured_in_place_and_the_reason_is_said(
    family: str, changes: dict[str, Any], words: str
) -> None:
    engine, said = engine_of(family, **changes)
    assert engine.is_reference
    assert (said.name, said.candidates) == ("in place", 1)
    (reason,) = said.slower
    assert words in reason


@pytest.mark.parametrize(("argv", "word"), [(("--engine", "fast"), "engine"), (("--candidates", "-1"), "candidates")])
def test_other_values_are_refused(tmp_path: Path, argv: tuple[str, ...], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        load_settings(("--model", "pico", *argv), {}, tmp_path)


# A classifier beside the markers --------------------------------------------------------------------------------------


def measured_by(classifier: FunctionClassifier | None, **changes: Any) -> Any:
    """How a run with these settings measures, as a stored study remembers it."""
    settings = SETTINGS.model_copy(update=changes)
    runner = make_runner("llama", batch_size=5)
    space = SearchSpace(runner.layout.components, Normalization(settings.normalization))
    ones = torch.ones(runner.layout.layer_count + 1, 1)
    directions = DirectionSet(torch.zeros(len(ones), 1, runner.layout.hidden_size), ones, ones[:, 0], "none")
    readers: Readers = {} if classifier is None else {"classifier": classifier}
    return study_identity(settings, runner, SETS, directions, space, readers).aspects["way of measuring"]


def test_a_study_remembers_the_classifier_that_measured_it() -> None:
    first, other = (FunctionClassifier(lambda *_: 0.0, identity=name) for name in ("1", "2"))
    changes = {"use_neural_refusal_detection": True, "neural_detection_model": "a/b"}
    seen = [
        measured_by(None),
        measured_by(first, **changes),
        measured_by(other, **changes),
        measured_by(first, **changes, neural_detection_threshold=0.7),
    ]
    assert all(seen[first] != seen[other] for first in range(4) for other in range(first))
    # Where it could not be loaded, markers measured; and how it computes changes nothing.
    assert measured_by(None, **changes) == seen[0]
    how = {"neural_detection_batch_size": 3, "neural_detection_device": "cpu", "neural_detection_model": "elsewhere"}
    assert measured_by(first, **(changes | how)) == seen[1]


def test_the_classifier_counts_in_both_engines() -> None:
    """One that takes everything for a refusal."""
    changes = {"refusal_markers": ["no answer says this"], "use_neural_refusal_detection": True}
    settings = SETTINGS.model_copy(update=changes)
    classifier = FunctionClassifier(lambda *_: 1.0)
    runner = make_runner("llama", batch_size=5)
    (refusals,), kl = make_evaluators(settings, OrdinaryPasses(runner), SHARING, {"classifier": classifier})
    assert refusals.baseline.value == len(SHARING.target_evaluation)
    editor = make_editor(settings, runner)
    engine = make_engine(runner, lambda _plan: (), editor, (refusals,), kl, EngineOptions())
    assert not engine.is_reference
    plan = EditPlan(Scope.LAYER, None, ())
    (found,) = engine.measure([plan], [0], Gate())
    assert found.scores.behaviors[0] == refusals.baseline
    assert found.scores.behaviors[0].answers.reader == "function"


def test_a_classifier_that_cannot_serve_stops_the_run_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_classifier(tmp_path, ("happy", "sad"))
    monkeypatch.setattr(workbench, "open_runner", None)
    settings = SETTINGS.model_copy(
        update={"use_neural_refusal_detection": True, "neural_detection_model": str(tmp_path), "device": "cpu"}
    )
    with pytest.raises(ConfigurationError, match="happy, sad"):
        prepare(settings, SETS)


@pytest.mark.parametrize("obstacle", [None, "No working C++ compiler"])
def test_a_model_that_cannot_be_compiled_is_measured_as_without_compiling(
    monkeypatch: pytest.MonkeyPatch, obstacle: str | None
) -> None:
    read: list[bool] = []

    def compiling(_model: Any, reading: Any) -> str | None:
        reading()
        read.append(True)
        return obstacle

    monkeypatch.setattr(workbench, "compile_obstacle", compiling)
    prompts: Any = SimpleNamespace(target_evaluation=PROMPT_SET)
    settings = Settings(model="pico").model_copy(update={"compile": True})
    seen: list[Event] = []
    with subscribed(seen.append):
        used = workbench.with_compiled(settings, make_runner("llama"), prompts)
    assert used.compile is (obstacle is None)
    assert [type(event) for event in seen] == [Warned] * (obstacle is not None)
    assert read == [True]

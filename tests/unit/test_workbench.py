"""What is prepared before the search survives a device that is smaller than calibration believed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.models.pico_runner import PROMPTS, make_runner

from heretic import workbench
from heretic.config import Settings, load_settings
from heretic.directions.types import DirectionSet
from heretic.engine.batched import BatchedEngine
from heretic.engine.inplace import InplaceEngine
from heretic.engine.measurement import Engine
from heretic.errors import ConfigurationError, OutOfMemoryError
from heretic.models.runner import ModelRunner
from heretic.observability.events import EngineChosen, Event, Warned, subscribed
from heretic.prompts.types import Prompt, PromptSet
from heretic.workbench import PromptSets, extract_directions, load_runner, make_editor, make_engine, make_evaluators

SETTINGS = Settings(model="pico", batch_size=5, response_prefix="", kl_tokens=4, refusal_check_tokens=4)
BAD = PromptSet("bad", tuple(Prompt(f"Never {number}") for number in range(6)))
SETS = PromptSets(PromptSet("good", PROMPTS), BAD, PromptSet("good", PROMPTS), BAD)


def limited(runner: ModelRunner, rows: int) -> ModelRunner:
    """The runner, whose model runs out of memory above so many rows."""

    def check(_module: object, _arguments: object, keywords: dict[str, Any]) -> None:
        if len(keywords["input_ids"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    runner.loaded.model.register_forward_pre_hook(check, with_kwargs=True)
    return runner


def warnings_of(seen: list[Event]) -> list[str]:
    return [event.message for event in seen if isinstance(event, Warned)]


@pytest.mark.parametrize("extractor", ["mean", "pca"])
def test_extraction_backs_off_and_finds_the_same(extractor: str) -> None:
    settings = SETTINGS.model_copy(update={"extractor": extractor})
    seen: list[Event] = []
    with subscribed(seen.append):
        found: DirectionSet = extract_directions(settings, limited(make_runner("llama", batch_size=5), 2), SETS)
    expected = extract_directions(settings, make_runner("llama", batch_size=2), SETS)
    assert torch.equal(found.vectors, expected.vectors)
    assert found.provenance["target_prompts"] == len(BAD)
    # The second set starts with what the first one needed.
    assert warnings_of(seen) == ["Memory ran out while collecting residuals with batches of 5; trying again with 2."]


def test_the_baseline_backs_off_and_its_evaluators_stay_small() -> None:
    runner = limited(make_runner("llama", batch_size=5), 2)
    seen: list[Event] = []
    with subscribed(seen.append):
        refusals, kl = make_evaluators(SETTINGS, runner, SETS)
        kl.remember()
    assert [evaluator.runner.calibration.batch_size for evaluator in (refusals, kl)] == [2, 2]
    assert kl.score().value == pytest.approx(0, abs=1e-6)
    assert refusals.score().value == refusals.baseline.value
    assert len(warnings_of(seen)) == 2


def test_what_fits_keeps_its_batch_size() -> None:
    runner = limited(make_runner("llama", batch_size=5), 5)
    seen: list[Event] = []
    with subscribed(seen.append):
        refusals, kl = make_evaluators(SETTINGS, runner, SETS)
    assert [evaluator.runner.calibration.batch_size for evaluator in (refusals, kl)] == [5, 5]
    assert warnings_of(seen) == []


@pytest.mark.parametrize("step", [extract_directions, make_evaluators])
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


# The engine that the settings ask for ---------------------------------------------------------------------------------

SYSTEM = SETTINGS.system_prompt
SHARING = PromptSets(
    *(
        PromptSet(name, tuple(Prompt(f"{name} {number}", system=SYSTEM) for number in range(5)))
        for name in ("good", "bad", "good", "bad")
    )
)


def engine_of(family: str, **changes: Any) -> tuple[Engine, EngineChosen]:
    """What a run with these settings measures by, and what it says about it."""
    settings = SETTINGS.model_copy(update=changes)
    runner = make_runner(family, batch_size=5)
    editor = make_editor(settings, runner)
    refusals, kl = make_evaluators(settings, runner, SHARING)
    seen: list[Event] = []
    with subscribed(seen.append):
        engine = make_engine(settings, runner, lambda _plan: (), editor, refusals, kl)
    (said,) = (event for event in seen if isinstance(event, EngineChosen))
    return engine, said


def from_command_line(tmp_path: Path, *argv: str) -> dict[str, Any]:
    chosen = load_settings(("--model", "pico", *argv), {}, tmp_path).settings
    return {"engine": chosen.engine, "candidates": chosen.candidates}


def test_candidates_of_the_command_line_reach_the_engine(tmp_path: Path) -> None:
    engine, said = engine_of("llama", **from_command_line(tmp_path, "--candidates", "3"))
    assert isinstance(engine, BatchedEngine)
    assert engine.candidates == said.candidates == 3
    assert said.obstacle == ""
    assert said.shared_tokens == engine.shared_tokens > 0
    assert said.kept_bytes == engine.kept_bytes > 0


def test_the_reference_engine_is_used_where_it_is_asked_for(tmp_path: Path) -> None:
    engine, said = engine_of("llama", **from_command_line(tmp_path, "--engine", "inplace"))
    assert isinstance(engine, InplaceEngine)
    assert said == EngineChosen("in place", 1, "")


def test_the_default_is_the_batched_engine(tmp_path: Path) -> None:
    engine, _ = engine_of("llama", **from_command_line(tmp_path))
    assert isinstance(engine, BatchedEngine)
    assert engine.candidates >= 1


@pytest.mark.parametrize("family", ["falcon_h1", "qwen2_5_vl", "bloom", "gemma3_text"])
def test_what_shares_no_prefix_is_measured_in_batches_all_the_same(family: str) -> None:
    engine, said = engine_of(family)
    assert isinstance(engine, BatchedEngine)
    assert said == EngineChosen("batched", engine.candidates)


@pytest.mark.parametrize(
    ("family", "changes", "words"), [("recurrent_gemma", {}, "padded passes"), ("llama", {"compile": True}, "compiled")]
)
def test_what_cannot_be_batched_is_measured_in_place_and_the_reason_is_said(
    family: str, changes: dict[str, Any], words: str
) -> None:
    engine, said = engine_of(family, **changes)
    assert isinstance(engine, InplaceEngine)
    assert (said.name, said.candidates) == ("in place", 1)
    assert words in said.obstacle


@pytest.mark.parametrize(("argv", "word"), [(("--engine", "fast"), "engine"), (("--candidates", "-1"), "candidates")])
def test_other_values_are_refused(tmp_path: Path, argv: tuple[str, ...], word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        load_settings(("--model", "pico", *argv), {}, tmp_path)

"""The compliance direction: from the model's own verdicts to biases, and what is refused before the search."""

from collections.abc import Callable

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.models.test_biases import WITHOUT
from tests.unit.passes.pico_runner import make_runner

from heretic.adjusting import caa
from heretic.adjusting.caa import compliance_shifts, shifting_writers, spans
from heretic.adjusting.prepare import edited_components
from heretic.common.errors import ModelError, UserError
from heretic.config import Settings
from heretic.directions.types import DirectionSet
from heretic.edits.build import Shift
from heretic.edits.writer import ATTENTION
from heretic.models.access import writer_bias
from heretic.observability.events import Event, Warned, subscribed
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt, PromptSet

TARGET = PromptSet("bad", tuple(Prompt(f"Number {number * 37 % 101} {chr(97 + number)}?") for number in range(24)))
REFUSED = [number % 3 == 0 for number in range(24)]
SETTINGS = Settings(model="pico", use_caa=True, refusal_check_tokens=2, caa_overlap_threshold=1.0)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the detector says of the prompts in their order, since random models say nothing that could be judged."""
    planned = list(REFUSED)

    class Planned:
        def __init__(self, _options: object) -> None:
            self._rest = iter(planned)

        def is_refusal(self, _response: str) -> bool:
            return next(self._rest)

    monkeypatch.setattr(caa, "RefusalDetector", Planned)
    return planned


def random_directions(runner: ModelRunner) -> DirectionSet:
    shape = (runner.layout.layer_count + 1, 1, runner.layout.hidden_size)
    vectors = torch.nn.functional.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(2)), dim=-1)
    return DirectionSet(vectors, torch.ones(shape[:2]), torch.ones(shape[0]), "random")


def messages(work: Callable[[], object]) -> list[str]:
    seen: list[Event] = []
    with subscribed(seen.append):
        work()
    return [event.message for event in seen if isinstance(event, Warned)]


@pytest.mark.usefixtures("verdicts")
def test_shifts_are_the_scaled_difference_of_what_is_answered_and_refused() -> None:
    runner, writers = shifting_writers(make_runner("llama", batch_size=8), TARGET.prompts[0])
    assert set(writers) == {0, 1, 2}
    shifts = compliance_shifts(SETTINGS, runner, TARGET, random_directions(runner), writers)
    residuals = torch.cat([next(iter(runner.residuals([prompt]))).float() for prompt in TARGET.prompts])
    mask = torch.tensor(REFUSED)
    expected = 0.3 * (residuals[~mask].mean(0) - residuals[mask].mean(0))
    for layer, shift in shifts.items():
        torch.testing.assert_close(shift.vector, expected[layer + 1], rtol=1e-3, atol=1e-5)
        assert shift.share == pytest.approx(1.0, rel=1e-3)


@pytest.mark.usefixtures("verdicts")
def test_layers_that_overlap_are_left_out_and_named() -> None:
    runner, writers = shifting_writers(make_runner("llama", batch_size=8), TARGET.prompts[0])
    directions = random_directions(runner)
    shifts = compliance_shifts(SETTINGS, runner, TARGET, directions, writers)
    directions.vectors[2, 0] = -torch.nn.functional.normalize(shifts[1].vector, dim=0)
    settings = SETTINGS.model_copy(update={"caa_overlap_threshold": 0.9})
    kept: dict[int, Shift] = {}
    (warning,) = messages(lambda: kept.update(compliance_shifts(settings, runner, TARGET, directions, writers)))
    assert set(kept) == {0, 2}
    assert warning.startswith("use_caa leaves out 1 of 3 layers (1), where")
    settings = SETTINGS.model_copy(update={"caa_overlap_threshold": 0.0})
    with pytest.raises(UserError, match="raise --caa-overlap-threshold or use --use-caa false"):
        compliance_shifts(settings, runner, TARGET, directions, writers)


@pytest.mark.parametrize("refused", [4, 20])
def test_too_few_of_a_class_is_one_sentence_with_both_counts(refused: int, verdicts: list[bool]) -> None:
    verdicts[:] = [number < refused for number in range(24)]
    runner, writers = shifting_writers(make_runner("llama", batch_size=8), TARGET.prompts[0])
    counts = f"answers {24 - refused} and refuses {refused}, and use_caa needs 5 of each"
    with pytest.raises(UserError, match=counts) as caught:
        compliance_shifts(SETTINGS, runner, TARGET, random_directions(runner), writers)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", sorted(set(pico_names()) - set(WITHOUT)))
def test_a_model_holds_the_biases_that_it_names(family: str) -> None:
    held, writers = shifting_writers(make_runner(family), TARGET.prompts[0])
    assert writers
    by_path = {writer.path: writer for writer in held.layout.writers}
    for layer, shift in writers.items():
        assert by_path[shift.path].layer == layer
        assert writer_bias(held.loaded.model, by_path[shift.path]) is not None
        assert shift.share == pytest.approx({"granite": 0.3, "granitemoehybrid": 0.5}.get(family, 1.0), rel=0.02)


@pytest.mark.parametrize("family", WITHOUT)
def test_classes_that_cannot_hold_biases_are_refused(family: str) -> None:
    runner = make_runner(family)
    with pytest.raises(ModelError, match="nor an option for them; use --use-caa false") as caught:
        shifting_writers(runner, TARGET.prompts[0])
    assert type(runner.loaded.model).__name__ in str(caught.value)


def test_heads_need_strengths_for_attention_only() -> None:
    layout = make_runner("llama").layout
    assert edited_components(Settings(model="x"), layout) == layout.components
    assert edited_components(Settings(model="x", use_circuit_ablation=True), layout) == (ATTENTION,)


def test_spans() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0 to 2, 5, 7, 8"


def test_a_shift_by_nothing_is_what_writers_start_with() -> None:
    _, writers = shifting_writers(make_runner("gpt2"), TARGET.prompts[0])
    assert all(isinstance(shift, Shift) and not shift.vector.any() for shift in writers.values())

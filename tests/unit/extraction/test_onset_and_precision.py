"""Which prompts and tokens are looked at, and in which number format."""

from collections.abc import Sequence

import pytest
import torch
from tests.models.pico import pico_names
from tests.unit.passes.pico_runner import make_runner

from heretic.extraction import precision
from heretic.extraction.onset import Onset, find_onset
from heretic.extraction.precision import for_gradients
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.passes import Rows
from heretic.passes.runner import Response
from heretic.prompts.types import Prompt

GOOD = [Prompt(f"good {number}") for number in range(30)]
BAD = [Prompt(f"bad {number}") for number in range(30)]
NO, SURE, WELL = 5, 6, 7


class Answering(OrdinaryPasses):
    """Answers a prompt as a function of its text says, without any model."""

    def __init__(self, bad_token: Sequence[int]) -> None:
        super().__init__(make_runner("llama"))
        self.bad_token = bad_token
        self.prompts = {tuple(self.runner.encode(prompt)): prompt.user for prompt in (*GOOD, *BAD)}
        self.asked: list[str] = []

    def answers(self, rows: Rows, most: int, doing: str) -> list[Response]:
        texts = [self.prompts[tuple(row)] for row in rows]
        self.asked += texts
        tokens = [SURE if text.startswith("good") else self.bad_token[int(text[4:])] for text in texts]
        return [Response("no" if token in (NO, WELL) else "yes", (token,)) for token in tokens]


def found_by(passes: Answering, count: int = 6) -> Onset | str:
    return find_onset(passes, GOOD, BAD, count, 4, lambda text: text == "no")


def test_the_onset_is_what_tells_answers_apart() -> None:
    passes = Answering([NO, WELL, SURE] * 10)
    onset = found_by(passes)
    assert isinstance(onset, Onset)
    assert onset.tokens == (NO, WELL)
    assert len(onset.baseline) == len(onset.target) == 6
    showing = {tuple(passes.runner.encode(BAD[number])) for number in range(30) if number % 3 != 2}
    assert set(onset.target) <= showing
    assert set(onset.baseline) <= {tuple(passes.runner.encode(prompt)) for prompt in GOOD}


def test_no_more_prompts_are_answered_than_needed() -> None:
    passes = Answering([NO] * 30)
    found_by(passes)
    assert sum(user.startswith("bad") for user in passes.asked) == 6


def test_too_few_answers_and_common_beginnings_are_said() -> None:
    assert found_by(Answering([SURE] * 30)) == "only 0 answers to bad_prompts show the behaviour"
    # Every answer begins alike, and only some show the behaviour.
    passes = Answering([SURE] * 30)
    onset = find_onset(passes, GOOD, BAD, 6, 4, lambda text: True)
    assert onset == "answers that show the behaviour begin like all others"


@pytest.mark.parametrize(("slowness", "expected"), [(4.0, torch.float32), (1.0, torch.bfloat16)])
def test_the_number_format_follows_measured_products(
    monkeypatch: pytest.MonkeyPatch, slowness: float, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "product_seconds", lambda weight: slowness if weight.dtype.itemsize == 2 else 1.0)
    runner = make_runner("llama", dtype=torch.bfloat16)
    chosen = for_gradients(runner)
    assert next(chosen.loaded.model.parameters()).dtype is expected
    assert next(runner.loaded.model.parameters()).dtype is torch.bfloat16
    assert chosen.calibration.dtype == ("float32" if expected is torch.float32 else runner.calibration.dtype)


def test_a_copy_that_does_not_fit_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "product_seconds", lambda weight: 4.0 if weight.dtype.itemsize == 2 else 1.0)
    monkeypatch.setattr(precision, "free_host_memory", lambda: 1000)
    runner = make_runner("llama", dtype=torch.bfloat16)
    assert for_gradients(runner) is runner


@pytest.mark.parametrize("family", pico_names())
def test_products_can_be_measured_on_every_family(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "WORTHWHILE_GAIN", 0.0)
    runner = make_runner(family, dtype=torch.bfloat16)
    assert next(for_gradients(runner).loaded.model.parameters()).dtype is torch.float32

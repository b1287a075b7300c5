"""How much time is kept for what comes after a search: pure, so no clock is looked at."""

from dataclasses import replace

import pytest
from tests.unit.behaviors import one_behavior
from tests.unit.passes.pico_runner import PROMPT_SET, PROMPTS

from heretic.config import PromptSpecification, Settings
from heretic.prompts.types import PromptSet
from heretic.run.time_limit import (
    CHECKED,
    PASSES_OF_A_FILE,
    QUESTION_TOKENS,
    REPORT_SECONDS,
    RESERVE,
    VERIFIED_TOKENS,
    Measured,
    Planned,
    planned,
    seconds_after_search,
)

# A token takes 0.01 s.
MEASURED = Measured(load_seconds=4.0, baseline_seconds=30.0, baseline_tokens=3000, alone=5)
(BEHAVIOR,) = one_behavior(PROMPT_SET, PromptSet("bad", PROMPTS[:3])).behaviors


@pytest.mark.parametrize(
    ("plan", "seconds"),
    [
        (Planned(), 0.0),
        (Planned(checked=2), 2 * 30.0),
        (Planned(confirmed_tokens=20_000), 2 * 200.0),
        (Planned(compared_tokens=3000), 2 * 30.0),
        (Planned(questions=10), 2 * 10 * QUESTION_TOKENS * 0.01),
        (Planned(saves=True), PASSES_OF_A_FILE * 4.0 + VERIFIED_TOKENS * 5 * 0.01),
        (Planned(reports=True), REPORT_SECONDS),
    ],
)
def test_every_part_costs_what_was_measured_of_its_like(plan: Planned, seconds: float) -> None:
    assert seconds_after_search(MEASURED, plan) == pytest.approx(RESERVE * seconds)


def test_parts_add_up_and_a_slower_machine_takes_in_proportion() -> None:
    everything = Planned(2, 20_000, 3000, 10, True, True)
    slower = replace(MEASURED, load_seconds=8.0, baseline_seconds=60.0)
    fixed = RESERVE * REPORT_SECONDS
    assert seconds_after_search(slower, everything) - fixed == pytest.approx(
        2 * (seconds_after_search(MEASURED, everything) - fixed)
    )


def test_a_run_that_measured_nothing_keeps_nothing_it_cannot_know() -> None:
    assert seconds_after_search(Measured(0.0, 0.0, 0, 1), Planned(2, 20_000, 3000, 10, True, False)) == 0.0


def wanted(**options: object) -> Settings:
    return Settings(model="pico", held_out_tokens=200, kl_tokens=30, time_limit="30m", **options)  # type: ignore[arg-type]


def test_where_a_person_chooses_only_the_check_comes_before_the_menu() -> None:
    assert planned(wanted(), (BEHAVIOR,), in_place=False) == Planned(CHECKED)
    assert planned(wanted(), (BEHAVIOR,), in_place=True) == Planned()


def test_an_automatic_run_is_confirmed_saved_and_reported() -> None:
    held_out = {
        "good_held_out_prompts": PromptSpecification(dataset="a.txt", split="train[10:50]"),
        "bad_held_out_prompts": PromptSpecification(dataset="b.txt", split="train[10%:50%]"),
    }
    settings = wanted(auto_select=True, auto_select_path="out", **held_out)
    plan = planned(settings, (BEHAVIOR,), in_place=False)
    # Of the second split nobody knows the rows, so there are as many as in the search.
    assert plan == Planned(CHECKED, 3 * 200, 40 * 30, 0, True, True)
    assert planned(settings, (BEHAVIOR,), in_place=True) == replace(plan, checked=1)
    lean = wanted(auto_select=True, confirm=False, enable_validation=False)
    assert planned(lean, (BEHAVIOR,), in_place=False) == Planned(CHECKED)
    asked = wanted(auto_select=True, confirm=False, enable_validation=True, mmlu_samples_per_category=7)
    assert planned(asked, (BEHAVIOR,), in_place=False).questions == 12 * 7

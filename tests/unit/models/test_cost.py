"""The cost model against figures worked out by hand and against itself."""

from dataclasses import replace

import pytest

from heretic.cloud.tiers import usual_footprint
from heretic.models.cost import DEVICES, USUAL, Device, Shape, TrialWork, candidates_that_fit, trial_cost

LLAMA_8B = USUAL["8 B"].configuration
H100 = DEVICES["H100"]
WITHOUT_LAUNCHES = replace(H100, launch=0.0)


def test_the_sizes_of_a_known_model() -> None:
    shape = Shape.of(LLAMA_8B)
    # 8.03 B parameters, of which the embeddings that are read are not multiplied by.
    assert shape.body + 2 * shape.head == pytest.approx(8.03e9, rel=0.001)
    for model in USUAL.values():
        other = Shape.of(model.configuration)
        assert other.body + 2 * other.head == pytest.approx(model.parameters, rel=0.005)
    assert shape.key_bytes == 2 * 32 * 8 * 128 * 2


def test_a_mixture_sends_a_token_to_some_experts() -> None:
    dense = Shape.of(LLAMA_8B)
    mixture = Shape.of({**LLAMA_8B, "num_experts_per_tok": 2, "moe_intermediate_size": 7168, "num_experts": 64})
    assert mixture.body == dense.body


def test_operations_of_a_trial_by_hand() -> None:
    shape, work = Shape(1_000, 100, 1, 1), TrialWork(10, 3, 5, 7.0, 11, 0, alive=0.5, candidates=1)
    cost = trial_cost(shape, Device("x", 1e6, 1e9, 0, 0), work)
    assert cost.operations == 2 * (1_000 * 10 * (7 + 3) + 100 * 10 * 3) + 2 * 1_000 * 5 * 7 + 2 * 1_100 * 5 * 0.5 * 11
    first = trial_cost(shape, Device("x", 1e6, 1e9, 0, 0), replace(work, positions=1))
    assert cost.operations - first.operations == 2 * (1_000 * 10 * 3 + 100 * 10 * 2)


def test_two_hundred_trials_of_8_b_on_an_h100_take_a_minute_and_a_half_at_least() -> None:
    """280 TFLOP a trial at 60 % of 989 TFLOP/s, all answers being written to their end."""
    cost = trial_cost(Shape.of(LLAMA_8B), WITHOUT_LAUNCHES, TrialWork(alive=1.0))
    assert cost.operations == pytest.approx(280e12, rel=0.02)
    assert 200 * cost.operations / (0.6 * 989e12) == pytest.approx(94, rel=0.02)
    assert cost.seconds > cost.operations / (0.6 * 989e12)


def test_what_makes_a_trial_cheaper() -> None:
    shape, work = Shape.of(LLAMA_8B), TrialWork()
    seconds = trial_cost(shape, H100, work).seconds
    assert trial_cost(shape, H100, replace(work, candidates=1)).seconds > 2 * seconds
    assert trial_cost(shape, H100, replace(work, read_layers=0.8)).seconds < seconds
    assert trial_cost(shape, H100, replace(work, alive=0.3)).seconds < seconds
    assert trial_cost(shape, replace(H100, bandwidth=4.8e12), work).seconds < seconds


def test_as_many_plans_at_once_as_there_is_room_for_their_keys_and_values() -> None:
    shape, work = Shape(1_000, 100, 1, 10), TrialWork(answered=5, prompt_tokens=7, answer_tokens=11, shared_tokens=2)
    each, weights = 5 * 20 * 10, 2_200
    assert candidates_that_fit(shape, (weights + 3.5 * each) / 0.9, weights, work) == 3
    assert candidates_that_fit(shape, 10**9, weights, work) == work.candidates
    assert candidates_that_fit(shape, weights, weights, work) == 0
    footprint = usual_footprint(USUAL["8 B"])
    assert footprint.keys_and_values == 160 * 160 * Shape.of(LLAMA_8B).key_bytes


def test_small_models_wait_for_launches() -> None:
    shape = Shape(1_000_000, 100_000, 24, 1_000)
    slow, fast = (trial_cost(shape, replace(H100, launch=launch), TrialWork()).seconds for launch in (2e-3, 1e-3))
    assert slow == pytest.approx(2 * fast, rel=0.01)

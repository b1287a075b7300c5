"""What goes wrong inside a trial costs that trial at most: weights, other trials and later ones are as without it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.unit.engine.pico_engine import PicoBench, make_bench, plans_for
from tests.unit.engine.test_batched import assert_same, measured

from heretic.common.errors import CacheMismatchError
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions
from heretic.engine.measurement import MEMORY_RAN_OUT
from heretic.observability.events import Event, TrialRaised, Warned, subscribed
from heretic.passes.runner import ModelRunner, TokenBatch
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan, Normalization
from heretic.results.score import Score
from heretic.results.trial import TrialState

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"
MakeEngine = Callable[[PicoBench], Engine]
ENGINES = pytest.mark.parametrize(
    "make", [lambda bench: bench.inplace(), lambda bench: bench.batched()], ids=["inplace", "batched"]
)


def weights_hash(runner: ModelRunner) -> str:
    """Over every bit of every parameter."""
    digest = hashlib.sha256()
    for name, parameter in runner.loaded.model.named_parameters():
        digest.update(name.encode() + parameter.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hook_count(runner: ModelRunner) -> int:
    modules = runner.loaded.model.modules()
    return sum(len(own._forward_hooks) + len(own._forward_pre_hooks) for own in modules)


def plans() -> tuple[EditPlan, ...]:
    return plans_for(Normalization.ROW)


@ENGINES
def test_a_plug_in_that_raises_costs_its_own_trial_only(make: MakeEngine) -> None:
    bench = make_bench("llama")
    engine = make(bench)
    expected = engine.measure(plans(), range(3), Gate())
    before, hooks = weights_hash(bench.runner), hook_count(bench.runner)
    build, faulty = engine._build, plans()[1]

    def raising(plan: EditPlan) -> object:
        if plan == faulty:
            raise ValueError("the plug-in has a bug\nand says more")
        return build(plan)

    engine._build = raising
    seen: list[Event] = []
    with subscribed(seen.append):
        found = engine.measure(plans(), range(3), Gate())
    assert_same([found[0], found[2]], [expected[0], expected[2]])
    assert found[1].state is TrialState.FAILED
    assert found[1].reason == "ValueError: the plug-in has a bug"
    assert [(event.numbers, "in raising" in event.where) for event in seen if isinstance(event, TrialRaised)] == [
        ((1,), True)
    ]
    assert (weights_hash(bench.runner), hook_count(bench.runner)) == (before, hooks)
    engine._build = build
    assert_same(engine.measure(plans(), range(3), Gate()), expected)


@ENGINES
def test_an_evaluator_that_raises_leaves_the_weights_as_they_were(
    make: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("gpt2")
    engine = make(bench)
    expected = engine.measure(plans(), range(3), Gate())
    before, hooks = weights_hash(bench.runner), hook_count(bench.runner)
    with monkeypatch.context() as broken:
        for name in ("judge", "judge_all"):
            broken.setattr(bench.refusals, name, lambda *_arguments: 1 / 0)
        found = engine.measure(plans(), range(3), Gate())
    assert {own.state for own in found} == {TrialState.FAILED}
    assert all("ZeroDivisionError" in own.reason for own in found)
    assert (weights_hash(bench.runner), hook_count(bench.runner)) == (before, hooks)
    assert_same(engine.measure(plans(), range(3), Gate()), expected)


HOSTILE = [None, "3", "", 10**400, float("nan"), float("inf"), -1, [1], torch.tensor([1.0, 2.0]), object()]


def hostile_methods(value: object, score_of: Callable[..., Score]) -> list[dict[str, object]]:
    """What an evaluator may have instead of its own methods, each returning the value at another place."""
    return [
        {
            "judge": lambda _self, _text, complete: value if complete else None,
            "judge_all": lambda _self, answers: [value] * len(answers),
        },
        {"score_of": lambda self, value_sum: replace(score_of(self, value_sum), value=value)},
        {"score_of": lambda _self, _own: value},
    ]


@ENGINES
def test_what_an_evaluator_returns_instead_of_a_number_fails_its_trial(
    make: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("llama")
    engine = make(bench)
    expected = engine.measure(plans(), range(3), Gate())
    judges = type(bench.refusals)
    for value in HOSTILE:
        for change in hostile_methods(value, judges.score_of):
            with monkeypatch.context() as broken:
                for name, method in change.items():
                    broken.setattr(judges, name, method)
                # One trial of several in a batch fails as it would alone, see the tests above.
                (trial,) = engine.measure(plans()[:1], [0], Gate())
            assert trial.state is TrialState.FAILED, (value, change)
            assert trial.scores is None, (value, change)
            assert trial.reason, (value, change)
    # Nothing of it stays behind: not in what later trials are ordered by, either.
    assert_same(engine.measure(plans(), range(3), Gate()), expected)


@ENGINES
def test_scalars_of_numpy_and_torch_are_numbers(make: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("llama")
    engine = make(bench)
    expected = engine.measure(plans(), range(3), Gate())
    judge_all, score_of = type(bench.refusals).judge_all, type(bench.refusals).score_of
    monkeypatch.setattr(
        type(bench.refusals), "judge_all", lambda self, answers: list(np.array(judge_all(self, answers), np.float32))
    )
    monkeypatch.setattr(
        type(bench.refusals),
        "score_of",
        lambda self, value_sum: replace(score_of(self, value_sum), value=torch.tensor(value_sum)),
    )
    measurements = engine.measure(plans(), range(3), Gate())
    assert_same(measurements, expected)
    assert all(
        type(score.value) in (int, float)
        for trial in measurements
        if trial.scores is not None
        for score in trial.scores
    )


@ENGINES
def test_logits_that_are_not_finite_fail_their_trial(make: MakeEngine) -> None:
    bench = make_bench("llama")
    engine = make(bench)
    expected = engine.measure(plans(), range(3), Gate())
    before = weights_hash(bench.runner)
    build, faulty = engine._build, plans()[2]

    def poisoned(plan: EditPlan) -> object:
        edits = build(plan)
        if plan == faulty:
            edits = tuple(replace(edit, write=edit.write * float("nan")) for edit in edits)
        return edits

    engine._build = poisoned
    found = engine.measure(plans(), range(3), Gate())
    assert_same(found[:2], expected[:2])
    assert (found[2].state, found[2].reason) == (TrialState.FAILED, "the edited model's logits are not finite")
    assert weights_hash(bench.runner) == before


@ENGINES
def test_errors_with_a_sentence_of_their_own_end_the_search(make: MakeEngine) -> None:
    bench = make_bench("llama")
    engine = make(bench)

    def raising(_plan: EditPlan) -> object:
        raise CacheMismatchError("the cache does not fit.")

    engine._build = raising
    with pytest.raises(CacheMismatchError):
        engine.measure(plans(), range(3), Gate())


def crowd(bench: PicoBench, limit: int) -> Callable[[], None]:
    """Let passes of more than so many rows run out of memory; returns what makes room again."""

    def check(_module: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        if len(keywords["input_ids"]) > limit:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    return bench.runner.loaded.model.register_forward_pre_hook(check, with_kwargs=True).remove


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_in_the_weights_the_batch_halves_and_the_trial_is_measured_again(limit: int) -> None:
    bench = make_bench("llama", batch_size=4)
    engine = bench.inplace()
    expected = engine.measure(plans(), range(3), Gate())
    seen: list[Event] = []
    make_room = crowd(bench, limit)
    with subscribed(seen.append):
        found = engine.measure(plans(), range(3), Gate())
    make_room()
    assert_same(found, expected)
    warnings = [event.message for event in seen if isinstance(event, Warned)]
    assert warnings == ["Memory ran out while measuring trial 1; going on with smaller batches."] * (1 + (limit == 1))


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("family", ["llama", "lfm2"])
def test_reading_baseline_prompts_gets_by_with_little_memory(family: str, limit: int) -> None:
    """By ragged passes and by padded ones; every plan has the scores of the reference, whatever was tried before."""
    bench = make_bench(family, batch_size=4)
    expected = measured(bench.inplace(), plans())
    engine = bench.batched()
    make_room = crowd(bench, limit)
    found = engine.measure(plans(), range(3), Gate())
    make_room()
    assert_same(found, expected)


@ENGINES
def test_where_nothing_fits_the_trial_says_so_and_the_next_is_measured(make: MakeEngine) -> None:
    bench = make_bench("llama")
    engine = make(bench)
    expected = engine.measure(plans(), range(3), Gate())
    before = weights_hash(bench.runner)
    make_room = crowd(bench, 0)
    found = engine.measure(plans(), range(3), Gate())
    make_room()
    assert [(own.state, own.reason) for own in found] == [(TrialState.FAILED, MEMORY_RAN_OUT)] * 3
    assert weights_hash(bench.runner) == before
    assert_same(engine.measure(plans(), range(3), Gate()), expected)


def test_what_is_kept_is_given_back_when_memory_runs_out() -> None:
    bench = make_bench("llama")
    engine = bench.batched(EngineOptions(3))
    assert engine.kept_bytes > 0
    make_room = crowd(bench, 0)
    engine.measure(plans(), range(3), Gate())
    make_room()
    assert engine.kept_bytes == 0


@pytest.mark.parametrize(
    "error",
    [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), MemoryError()],
    ids=["torch", "python"],
)
def test_what_the_host_raises_for_lack_of_memory_is_understood(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench("llama", batch_size=4)
    engine = bench.inplace()
    expected = engine.measure(plans(), range(3), Gate())
    generate, failures = bench.runner.generate_batch, [error]

    def once(_runner: ModelRunner, batch: TokenBatch, tokens: int) -> torch.Tensor:
        if failures:
            raise failures.pop()
        return generate(batch, tokens)

    monkeypatch.setattr(ModelRunner, "generate_batch", once)
    assert_same(engine.measure(plans(), range(3), Gate()), expected)
    assert not failures

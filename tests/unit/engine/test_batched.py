"""The batched engine measures what the in-place engine measures, on every pico family that it serves."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import Any

import pytest
import torch
from tests.models.pico import LIST_EXPERTS, kinds_first, pico_names
from tests.unit.engine.pico_engine import ALL, BAD, GOOD, PicoBench, make_bench, plans_for, with_frequent_end, without
from tests.unit.passes.pico_runner import make_runner

from heretic.config import Settings
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions
from heretic.engine.measurement import MEMORY_RAN_OUT, Measurement
from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.models.access import same_bits, values_of
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.passes import choose as choosing
from heretic.passes import side_by_side
from heretic.passes.ordinary import OrdinaryPasses
from heretic.passes.passes import ORDINARY, Slower
from heretic.passes.ragged import ragged_obstacle
from heretic.passes.runner import TokenBatch
from heretic.passes.side_by_side import RaggedSideBySide
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan, Normalization, Schedule
from heretic.results.trial import TrialState
from heretic.run.measuring import make_behavior_evaluator

PARTS = ("shared_prefix", "kept_layers", "early_verdicts", "packed_weights")
VERSIONS = ("llama", "gpt2", "gemma3_text", "gpt_oss", "deepseek_v3", "qwen3_next", "lfm2", "llava")
"""One for each kind of cache, positions and experts: what `.ci/versions` runs."""
VARIED = ("llama", "gpt2", "gemma3_text", "qwen3_moe", "gpt_oss")


def measured(engine: Engine, plans: Sequence[EditPlan]) -> list[Measurement]:
    """All plans at once where the engine can, else one after the other."""
    size = len(plans) if engine.candidates > 1 else 1
    numbers = range(len(plans))
    return [
        own
        for start in range(0, len(plans), size)
        for own in engine.measure(plans[start : start + size], numbers[start : start + size], Gate())
    ]


def is_ragged(engine: Engine) -> bool:
    """Whether the engine reads by ragged passes."""
    return isinstance(engine._jobs.passes, RaggedSideBySide)


def answering(engine: Engine, rows: int) -> None:
    """Answer so many rows at once."""
    engine._jobs.passes.at_once = [rows] * len(engine._jobs.answers)


def assert_same(found: Sequence[Measurement], expected: Sequence[Measurement]) -> None:
    assert [own.state for own in found] == [own.state for own in expected] == [TrialState.COMPLETE] * len(expected)
    for own, reference in zip(found, expected, strict=True):
        (*behaviors, kl), (*reference_behaviors, reference_kl) = own.scores, reference.scores
        for score, reference_score in zip(behaviors, reference_behaviors, strict=True):
            # Where amounts are added up in another order, the sum may differ in its last digit.
            assert score == replace(reference_score, value=pytest.approx(reference_score.value, rel=1e-12))
        assert kl.value == pytest.approx(reference_kl.value, rel=1e-3, abs=3e-6)
        assert kl.divergence.p95 == pytest.approx(reference_kl.divergence.p95, rel=2e-3, abs=3e-6)
        assert kl.divergence.top1_agreement == pytest.approx(reference_kl.divergence.top1_agreement)
        assert (kl.n, kl.baseline, kl.divergence.positions) == (
            reference_kl.n,
            reference_kl.baseline,
            reference_kl.divergence.positions,
        )


def assert_telling(bench: PicoBench, expected: Sequence[Measurement]) -> None:
    """A comparison of nothing with nothing would agree."""
    counts = [bench.refusals.baseline.value, *(own.scores.behaviors[0].value for own in expected)]
    assert any(0 < count < len(BAD) for count in counts), counts
    divergences = [own.scores.kl.value for own in expected]
    assert min(divergences) > 1e-4, divergences
    assert len(set(divergences)) == len(expected), divergences


@pytest.mark.parametrize(
    "family",
    [
        pytest.param(own.values[0], marks=[*own.marks, *([pytest.mark.versions] if own.values[0] in VERSIONS else [])])
        for own in kinds_first(also=["recurrent_gemma"])
    ],
)
def test_batched_and_in_place_give_the_same_scores(family: str) -> None:
    bench = make_bench(family)
    if family == "recurrent_gemma":
        engine = bench.engine()
        assert engine.is_reference
        assert engine.slower[0].reason.endswith("its padded passes do not agree with those of single rows")
        return
    engine = bench.batched()
    assert engine.candidates == (1 if family in pico_names(LIST_EXPERTS) else 3)
    ragged = ragged_obstacle(bench.runner.loaded) is None
    assert is_ragged(engine) is ragged
    assert any(own.cost == ORDINARY for own in engine.slower) is not ragged
    assert (engine.shared_tokens > 1) is ragged
    assert (engine.kept_bytes > 0) is ragged
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    if family != "bloom":  # whose answers are control characters here, which all count as refusals
        assert_telling(bench, expected)
    # Twice: the second time it is known which answers count, and they are asked first.
    assert_same(measured(engine, plans), expected)
    assert_same(measured(engine, plans[::-1]), expected[::-1])


@pytest.mark.parametrize("family", VARIED)
def test_what_is_predicted_agrees_and_nothing_is_written(family: str) -> None:
    """Probabilities of yes, beside a behaviour whose answers are written; one of them counts, the other weighs."""
    bench = make_bench(family)
    passes = OrdinaryPasses(bench.runner)
    options = EvaluatorOptions(Settings())
    asked = [make_behavior_evaluator(passes, name, BAD, options)[0] for name in ("agreement", "agrees")]
    bench = replace(bench, behaviors=(*bench.behaviors, *asked))
    engine, plans = bench.batched(), plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    found = measured(engine, plans)
    for own, reference in zip(found, expected, strict=True):
        (_refusals, weighed, counted, _kl), (_, reference_weighed, reference_counted, _) = own.scores, reference.scores
        assert weighed.value == pytest.approx(reference_weighed.value, rel=1e-4)
        assert counted.value == reference_counted.value
    assert len({own.scores.behaviors[1].value for own in found}) == len(plans)


@pytest.mark.parametrize(
    ("family", "normalization"),
    [("llama", Normalization.COLUMN), *zip(VARIED, cycle([Normalization.ROW, Normalization.COLUMN]), strict=False)],
)
def test_edits_that_keep_norms_agree(family: str, normalization: Normalization) -> None:
    bench = make_bench(family)
    plans = plans_for(normalization)
    expected = measured(bench.inplace(), plans)
    assert_same(measured(bench.batched(), plans), expected)


@pytest.mark.parametrize(
    ("family", "normalization"),
    [
        ("llama", Normalization.NONE),
        ("llama", Normalization.ROW),
        ("gpt2", Normalization.ROW),
        ("qwen2", Normalization.NONE),
        ("granite", Normalization.ROW),
        ("gemma3_text", Normalization.NONE),
        ("qwen3_moe", Normalization.ROW),
        ("deepseek_v3", Normalization.NONE),
    ],
)
def test_edits_of_heads_and_shifts_agree(family: str, normalization: Normalization) -> None:
    """Also with what is kept of the layers below the first that an edit or a shift reaches."""
    bench = make_bench(family, adjusted=True)
    plans = plans_for(normalization)
    expected = measured(bench.inplace(), plans)
    divergences = [own.scores.kl.value for own in expected]
    assert max(divergences) > 1e-4, divergences
    engine = bench.batched()
    assert engine.kept_bytes > 0
    assert_same(measured(engine, plans), expected)
    assert_same(measured(engine, plans[::-1]), expected[::-1])


@pytest.mark.parametrize(
    ("family", "part"), [*(("llama", part) for part in PARTS), *(("gemma3_text", part) for part in PARTS[:2])]
)
def test_every_saving_can_be_switched_off_and_changes_no_score(family: str, part: str) -> None:
    bench = make_bench(family)
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    engine = bench.batched(without(part))
    if part == "shared_prefix":
        assert engine.shared_tokens == 0
    if part == "kept_layers":
        assert engine.kept_bytes == 0
    assert_same(measured(engine, plans), expected)
    assert_same(measured(engine, plans), expected)


@pytest.mark.parametrize("rows", [1, 4, 7])
def test_answers_do_not_depend_on_how_many_rows_are_decoded_at_once(rows: int) -> None:
    bench = make_bench("llama")
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    engine = bench.batched()
    answering(engine, rows)
    assert_same(measured(engine, plans), expected)


@pytest.mark.parametrize("family", VARIED)
def test_a_candidate_that_reads_alone_begins_at_its_own_first_layer(
    monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setattr(side_by_side, "BUSY_TOKENS", 1)
    bench = make_bench(family)
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    engine = bench.batched()
    firsts = sorted(min(edit.writer.layer for edit in bench.build(plan)) for plan in plans)
    assert len(set(firsts)) > 1, "nothing would be tested"
    begun: list[int] = []
    passes: Any = engine._jobs.passes
    run = passes._forward.run

    def watch(arguments: object, wanted: object, kept: tuple[object, object, int] | None) -> object:
        if kept is not None:
            begun.append(kept[2])
        return run(arguments, wanted, kept)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(passes._forward, "run", watch)
    found = engine.measure(plans, range(len(plans)), Gate())
    # Once for the baseline's prompts and once for the target's.
    assert sorted(begun) == sorted(2 * firsts)
    assert_same(found, expected)


@pytest.mark.parametrize("interval", [2, 3, 8])
def test_looking_at_answers_less_often_changes_no_score(interval: int) -> None:
    """As on accelerators: rows then run on behind their end, and behind the tokens that count."""
    runner = make_runner("llama", batch_size=20)
    with_frequent_end(runner, BAD, 2)
    bench = make_bench("llama", runner=runner, tokens=6)
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    engine = bench.batched()
    engine._jobs.passes.interval = interval
    assert_same(measured(engine, plans), expected)
    assert_same(measured(engine, plans), expected)


def test_answers_that_end_early_are_counted_the_same() -> None:
    runner = make_runner("llama", batch_size=20)
    with_frequent_end(runner, BAD, 2)
    bench = make_bench("llama", runner=runner, tokens=9)
    lengths = {len(response.tokens) for response in runner.generate(BAD.prompts, 9)}
    assert len(lengths) > 1
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    assert_same(measured(bench.batched(), plans), expected)


def test_first_token_divergence_agrees() -> None:
    bench = make_bench("llama", kl_mode="first")
    plans = plans_for(Normalization.NONE)
    assert_same(measured(bench.batched(), plans), measured(bench.inplace(), plans))


def test_suppressed_tokens_are_neither_answered_nor_compared() -> None:
    runner = make_runner("llama", batch_size=20)
    usual = sorted({token for response in runner.generate(BAD.prompts, 5) for token in response.tokens})
    runner.loaded.model.generation_config.suppress_tokens = usual[::2]
    bench = make_bench("llama", runner=runner)
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    assert all(own.scores.kl.value > 1e-3 for own in expected)
    assert_same(measured(bench.batched(), plans), expected)


def test_the_model_is_original_afterwards() -> None:
    bench = make_bench("qwen3_moe")
    ids = torch.tensor([[5, 9, 200, 31]])
    before = bench.runner.loaded.model(input_ids=ids).logits
    measured(bench.batched(), plans_for(Normalization.ROW))
    assert torch.equal(bench.runner.loaded.model(input_ids=ids).logits, before)


def test_a_plan_that_edits_nothing_costs_nothing_and_diverges_by_nothing() -> None:
    bench = make_bench("llama")
    nothing = EditPlan(plans_for(Normalization.NONE)[0].scope, None, ())
    plans = (plans_for(Normalization.NONE)[0], nothing)
    found = measured(bench.batched(), plans)
    assert found[1].scores.kl.value < 1e-6
    assert found[1].scores.behaviors[0].value == bench.refusals.baseline.value
    assert_same(found[:1], measured(bench.inplace(), plans[:1]))


def test_weights_that_are_not_numbers_fail_their_trial_and_no_other() -> None:
    """One candidate's rows are no numbers; its neighbours' are whole."""
    bench = make_bench("llama")
    plans = plans_for(Normalization.NONE)
    engine = bench.batched()
    expected = measured(bench.inplace(), plans)
    bad = replace(plans[1], schedules=_exploding(plans[1]))
    found = measured(engine, (plans[0], bad, plans[2]))
    assert (found[1].state, found[1].scores) == (TrialState.FAILED, None)
    assert "not finite" in found[1].reason
    assert_same([found[0], found[2]], [expected[0], expected[2]])


def _exploding(plan: EditPlan) -> tuple[tuple[str, Schedule], ...]:
    return tuple((name, replace(schedule, peak_weight=float("nan"))) for name, schedule in plan.schedules)


@pytest.mark.parametrize("early", [True, False])
def test_every_answer_is_reported_once_for_its_trial(early: bool) -> None:
    bench = make_bench("llama")
    engine = bench.batched(ALL if early else without("early_verdicts"))
    seen: list[Event] = []
    with subscribed(seen.append):
        found = engine.measure(plans_for(Normalization.NONE), (7, 8, 9), Gate())
    events = [event for event in seen if isinstance(event, ResponseMeasured)]
    for number, own in zip((7, 8, 9), found, strict=True):
        mine = [event for event in events if event.trial == number]
        assert sorted(event.prompt for event in mine) == sorted(prompt.user for prompt in BAD.prompts)
        assert sum(event.verdict == "refused" for event in mine) == own.scores.behaviors[0].value


# What ragged passes do not serve --------------------------------------------------------------------------------------


def test_answers_beyond_an_attention_window_are_measured_by_ordinary_passes() -> None:
    long = PromptSet("long", (Prompt("a much longer prompt", system="B"), *BAD.prompts))
    bench = make_bench("gemma3_text", bad=long)
    engine = bench.batched()
    assert not is_ragged(engine)
    plans = plans_for(Normalization.NONE)
    assert_same(measured(engine, plans), measured(bench.inplace(), plans))


def test_a_model_whose_cached_passes_differ_is_measured_by_ordinary_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("llama")
    monkeypatch.setattr(choosing, "predicts_alike", lambda *_arguments: False)
    engine = bench.batched()
    assert not is_ragged(engine)
    plans = plans_for(Normalization.NONE)
    assert_same(measured(engine, plans), measured(bench.inplace(), plans))


def test_what_cached_passes_differ_from_are_ordinary_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("llama")
    ordinary = bench.runner.teacher_forced_batch
    monkeypatch.setattr(
        bench.runner,
        "teacher_forced_batch",
        lambda *arguments: [logits.roll(1, -1) for logits in ordinary(*arguments)],
    )
    assert not is_ragged(bench.batched())


# By ordinary passes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "normalization"),
    list(zip(["lfm2", "qwen3_next", "llava", "bloom"], cycle([Normalization.ROW, Normalization.COLUMN]), strict=False)),
)
def test_edits_that_keep_norms_agree_by_ordinary_passes(family: str, normalization: Normalization) -> None:
    bench = make_bench(family)
    plans = plans_for(normalization)
    engine = bench.batched()
    assert not is_ragged(engine)
    assert_same(measured(engine, plans), measured(bench.inplace(), plans))


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_batches_do_not_change_what_ordinary_passes_measure(batch_size: int) -> None:
    expected = measured(make_bench("lfm2").inplace(), plans_for(Normalization.NONE))
    bench = make_bench("lfm2", batch_size=batch_size)
    engine = bench.batched()
    widths: list[int] = []
    handle = bench.runner.loaded.model.register_forward_pre_hook(
        lambda _module, _arguments, keywords: widths.append(len(keywords["input_ids"])), with_kwargs=True
    )
    assert_same(measured(engine, plans_for(Normalization.NONE)), expected)
    handle.remove()
    # One row a candidate at least.
    assert max(widths) == max(3, batch_size // 3 * 3)


def test_the_gate_looks_after_every_batch_of_ordinary_passes() -> None:
    bench = make_bench("lfm2", markers=["a", "e", "i", "o", "u", "n", "t", "s", "r"], batch_size=6)
    engine = bench.batched()
    plans = plans_for(Normalization.NONE)
    whole = measured(bench.inplace(), plans)
    assert_same(measured(engine, plans), whole)
    seen: list[Event] = []
    with subscribed(seen.append):
        found = engine.measure(plans, range(3), Gate(((0.0, 0.0),)))
    assert [own.state for own in found] == [TrialState.DOMINATED] * 3
    assert not seen, "stopped by KL, so nothing had to be answered"
    most = max(range(3), key=lambda index: whole[index].scores.behaviors[0].value)
    count, kl = whole[most].scores.behaviors[0].value, whole[most].scores.kl.value
    assert count >= 3
    gate = Gate(((0.0, 0.999 * kl),))
    with subscribed(seen.append):
        (stopped,) = engine.measure([plans[most]], [most], gate)
    assert stopped.state is TrialState.DOMINATED


@pytest.mark.parametrize("limit", [1, 2])
def test_ordinary_passes_too_get_by_with_little_memory(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    bench = make_bench("lfm2", batch_size=4)
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    engine = bench.batched()
    generate = bench.runner.generate_batch

    def limited(batch: TokenBatch, tokens: int) -> torch.Tensor:
        if len(batch.rows) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generate(batch, tokens)

    monkeypatch.setattr(bench.runner, "generate_batch", limited)
    assert_same(engine.measure(plans, range(3), Gate()), expected)


def test_candidates_are_measured_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []

    def find(passes: RaggedSideBySide) -> int:
        found.extend(map(len, passes.prompts))
        return 2

    monkeypatch.setattr(RaggedSideBySide, "candidates", find)
    bench = make_bench("llama")
    assert bench.batched(EngineOptions(5)).candidates == 5
    assert found == []
    assert bench.batched(EngineOptions(0)).candidates == 2
    assert found == [len(BAD.prompts)]


# Memory ---------------------------------------------------------------------------------------------------------------


class Crowded:
    """Runs out of memory where more than so many candidates are measured at once, in the middle of the answers."""

    def __init__(self, engine: Engine, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tried: list[int] = []
        job = engine._jobs.answers[0]
        run = job.run

        def limited(candidates: Sequence[object], *rest: object) -> None:
            self.tried.append(len(candidates))
            if len(candidates) > limit:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            run(candidates, *rest)  # type: ignore[arg-type]  # handed on as it came

        monkeypatch.setattr(job, "run", limited)


@pytest.mark.parametrize("limit", [1, 2])
def test_running_out_of_memory_halves_the_candidates_and_measures_every_plan(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    bench = make_bench("llama")
    plans = (*plans_for(Normalization.NONE), plans_for(Normalization.NONE)[0])
    expected = measured(bench.inplace(), plans)
    engine = bench.batched(EngineOptions(4))
    crowded = Crowded(engine, limit, monkeypatch)
    found = engine.measure(plans, range(4), Gate())
    assert_same(found, expected)
    assert engine.candidates == limit
    assert max(crowded.tried[1:]) <= 2


@pytest.mark.parametrize("limit", [1, 4])
def test_a_device_with_room_for_few_rows_measures_everything_all_the_same(limit: int) -> None:
    """What is asked one candidate at a time, and then fewer of its prompts at a time."""
    bench = make_bench("llama", batch_size=2)
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    engine = bench.batched()

    def check(_module: object, _arguments: object, keywords: dict[str, torch.Tensor]) -> None:
        # Reading all baseline prompts at once is the other job's business.
        decoding = keywords["input_ids"].shape[1] == 1
        if decoding and len(keywords["input_ids"]) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    handle = bench.runner.loaded.model.register_forward_pre_hook(check, with_kwargs=True)
    found = engine.measure(plans, range(3), Gate())
    handle.remove()
    assert_same(found, expected)


def test_running_out_of_memory_while_the_engine_is_made_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("llama")

    def full(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(RaggedSideBySide, "prepare", full)
    engine = bench.engine()
    assert engine.is_reference
    assert engine.slower == (Slower("memory ran out while the batched engine was prepared", ORDINARY),)


def test_without_room_for_kept_layers_the_engine_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("llama")
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.batched(), plans)

    def full(*_arguments: object, **_keywords: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(side_by_side, "_keep", full)
    engine = bench.batched(EngineOptions())
    assert engine.kept_bytes == 0
    assert [own.reason for own in engine.slower] == ["no lower layers are kept, because memory ran out"]
    assert_same(measured(engine, plans), expected)


def test_where_memory_is_short_the_weights_are_really_given_back_in_their_plain_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = make_bench("llama")
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.batched(), plans)
    rows = [bench.runner.encode(prompt) for prompt in (*GOOD.prompts, *BAD.prompts)]
    choice = choosing.choose(bench.runner, rows)
    assert choice.forward is not None
    assert choice.forward.packed is not None
    model, ordered = bench.runner.loaded.model, choice.forward.packed
    before = {name: values_of(parameter).clone() for name, parameter in model.named_parameters()}

    def full(*_arguments: object, **_keywords: object) -> None:
        assert ordered.holds or ordered.obstacle
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(side_by_side, "_keep", full)
    engine = bench.engine(EngineOptions(), choice=choice)
    assert all(same_bits(parameter.data, before[name]) for name, parameter in model.named_parameters())
    assert len(engine.slower) == 2
    assert_same(measured(engine, plans), expected)


def test_an_engine_that_rested_measures_the_same_again() -> None:
    bench = make_bench("llama")
    plans = plans_for(Normalization.ROW)
    rows = [bench.runner.encode(prompt) for prompt in (*GOOD.prompts, *BAD.prompts)]
    choice = choosing.choose(bench.runner, rows)
    assert choice.forward is not None
    ordered = choice.forward.packed
    assert ordered is not None
    model = bench.runner.loaded.model
    before = {name: values_of(parameter).clone() for name, parameter in model.named_parameters()}
    engine = bench.engine(EngineOptions(), choice=choice)
    expected, kept = measured(engine, plans), engine.kept_bytes
    assert kept > 0
    assert ordered.holds or ordered.obstacle
    engine.rest()
    assert engine.kept_bytes == 0
    assert not ordered.holds
    assert all(same_bits(parameter.data, before[name]) for name, parameter in model.named_parameters())
    again = measured(engine, plans)
    assert [own.scores for own in again] == [own.scores for own in expected]
    assert engine.kept_bytes == kept


def test_a_plan_that_does_not_fit_alone_fails_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench("llama")
    engine = bench.batched()
    Crowded(engine, 0, monkeypatch)
    plans = plans_for(Normalization.NONE)
    ids = torch.tensor([[5, 9, 200, 31]])
    before = bench.runner.loaded.model(input_ids=ids).logits
    found = engine.measure(plans, range(3), Gate())
    assert [own.state for own in found] == [TrialState.FAILED] * 3
    assert all((own.reason, own.scores) == (MEMORY_RAN_OUT, None) for own in found)
    assert torch.equal(bench.runner.loaded.model(input_ids=ids).logits, before)


def test_suppressed_tokens_give_the_same_scores() -> None:
    runner = make_runner("llama", batch_size=20)
    common = runner.generate(BAD.prompts, 1)[0].tokens[0]
    runner.loaded.model.generation_config.suppress_tokens = [common, 3]
    bench = make_bench("llama", runner)
    plans = plans_for(Normalization.NONE)
    expected = measured(bench.inplace(), plans)
    assert_telling(bench, expected)
    assert_same(measured(bench.batched(), plans), expected)

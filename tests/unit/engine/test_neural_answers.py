"""With a classifier both engines count the same, it is asked once for all candidates, and the gate waits for nobody."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tests.unit.engine.pico_engine import BAD, TOKENS, PicoBench, make_bench, plans_for, telling_markers, texts_of
from tests.unit.engine.test_batched import answering
from tests.unit.evaluation.pico_classifiers import FunctionClassifier
from tests.unit.passes.pico_runner import make_runner

from heretic.config import Settings
from heretic.engine.measurement import Measurement
from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.results.gate import Gate
from heretic.results.plan import EditPlan, Normalization
from heretic.results.trial import TrialState

PLANS = plans_for(Normalization.NONE)
NOTHING = EditPlan(PLANS[0].scope, None, ())
WORDS = "olmo2"
"""A pico family of whose original answers none says nothing, which would be a refusal in itself."""
NEVER = ("no answer says this",)


def by_text(_request: str, response: str) -> float:
    """Differs from text to text, and knows nothing of what markers look for."""
    return (sum(map(ord, response)) % 7) / 6


def bench_with(
    classifier: FunctionClassifier, family: str = "llama", markers: Sequence[str] | None = None
) -> PicoBench:
    runner = make_runner(family, batch_size=20)
    found = telling_markers(runner, BAD, TOKENS)[:1] if markers is None else list(markers)
    settings = Settings(
        kl_tokens=4, refusal_check_tokens=TOKENS, refusal_markers=found, use_neural_refusal_detection=True
    )
    options = EvaluatorOptions(settings, readers={"classifier": classifier})
    evaluator = MarkerEvaluator(BAD, texts_of(runner, BAD, TOKENS), options)
    bench = replace(make_bench(family, runner, markers=found), behaviors=(evaluator,))
    classifier.asked.clear()
    return bench


def answers_of(bench: PicoBench) -> list[str]:
    return bench.answers(BAD, TOKENS)


def in_place(bench: PicoBench, plans: Sequence[EditPlan] = PLANS) -> list[Measurement]:
    engine = bench.inplace()
    return [own for number, plan in enumerate(plans) for own in engine.measure([plan], [number], Gate())]


@pytest.mark.parametrize(("family", "rows"), [("llama", 2), ("olmo2", 7), ("qwen3_moe", 100), ("llama", 100)])
def test_both_engines_count_the_same(family: str, rows: int) -> None:
    classifier = FunctionClassifier(by_text)
    bench = bench_with(classifier, family)
    expected = in_place(bench)
    marked = in_place(replace(bench, behaviors=bench_with(FunctionClassifier(lambda *_: 0.0), family).behaviors))
    counts = [own.scores.behaviors[0].value for own in expected]
    assert any(count > own.scores.behaviors[0].value for count, own in zip(counts, marked, strict=True)), (
        "it has to decide some"
    )
    assert any(own.scores.behaviors[0].value > 0 for own in marked), "and markers others"
    engine = bench.batched()
    answering(engine, rows)
    seen: list[Event] = []
    for _ in range(2):
        seen.clear()
        with subscribed(seen.append):
            found = engine.measure(PLANS, range(3), Gate())
        assert [own.scores.behaviors[0] for own in found] == [own.scores.behaviors[0] for own in expected]
        measured = [event for event in seen if isinstance(event, ResponseMeasured)]
        assert len(measured) == len(PLANS) * len(BAD)
        for number, count in enumerate(counts):
            assert sum(event.verdict == "refused" for event in measured if event.trial == number) == count


def test_open_answers_of_all_candidates_are_read_together() -> None:
    classifier = FunctionClassifier(lambda *_: 0.0)
    bench = bench_with(classifier, WORDS, NEVER)
    found = bench.batched().measure([NOTHING] * 3, range(3), Gate())
    assert [own.state for own in found] == [TrialState.COMPLETE] * 3
    assert [len(batch) for batch in classifier.asked] == [3 * len(BAD)]


def test_what_markers_settle_is_never_read() -> None:
    classifier = FunctionClassifier(by_text)
    bench = bench_with(classifier)
    bench.batched().measure(PLANS, range(3), Gate())
    marker = bench.refusals._detector
    read = [response for batch in classifier.asked for _, response in batch]
    assert read
    assert len(read) < 3 * len(BAD)
    assert not any(marker.is_refusal(response) for response in read)
    assert {request for batch in classifier.asked for request, _ in batch} <= {prompt.user for prompt in BAD.prompts}


def test_a_trial_that_markers_have_decided_is_not_read() -> None:
    """What is known so far is a lower bound: markers alone close the gate."""
    classifier = FunctionClassifier(lambda *_: 1.0)
    bench = bench_with(classifier, WORDS)
    marked = sum(map(bench.refusals._detector.is_refusal, answers_of(bench)))
    assert 2 <= marked < len(BAD)
    (found,) = bench.batched().measure([NOTHING], [0], Gate(((marked - 1.0, -1.0),)))
    assert found.state is TrialState.DOMINATED
    assert 0 < found.scores.behaviors[0].value <= marked
    assert classifier.asked == []


def test_the_classifier_closes_the_gate_before_the_rest_is_asked() -> None:
    classifier = FunctionClassifier(lambda *_: 1.0)
    bench = bench_with(classifier, WORDS, NEVER)
    engine = bench.batched()
    answering(engine, 2)
    (found,) = engine.measure([NOTHING], [0], Gate(((1.0, -1.0),)))
    assert found.state is TrialState.DOMINATED
    # Both answers of the first round are counted, and no further prompt is asked.
    assert found.scores.behaviors[0].value == 2
    assert found.reason == "worse by refusals so far"
    assert [len(batch) for batch in classifier.asked] == [2]


def test_a_trial_whose_answers_are_all_there_is_measured_to_the_end() -> None:
    classifier = FunctionClassifier(lambda *_: 1.0)
    bench = bench_with(classifier, WORDS, NEVER)
    (found,) = bench.batched().measure([NOTHING], [0], Gate(((float(len(BAD)) - 1, -1.0),)))
    assert found.state is TrialState.COMPLETE
    assert found.scores.behaviors[0].value == len(BAD)


def test_memory_that_runs_out_while_reading_is_survived() -> None:
    """As anywhere in a measurement: it is done again with fewer candidates."""
    sizes: list[int] = []

    def crowded(request: str, response: str) -> float:
        if len(classifier.asked[-1]) > len(BAD):
            sizes.append(len(classifier.asked[-1]))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return by_text(request, response)

    classifier = FunctionClassifier(by_text)
    bench = bench_with(classifier, WORDS, NEVER)
    expected = in_place(bench)
    classifier.function = crowded
    found = bench.batched().measure(PLANS, range(3), Gate())
    assert sizes
    assert [own.scores.behaviors[0] for own in found] == [own.scores.behaviors[0] for own in expected]

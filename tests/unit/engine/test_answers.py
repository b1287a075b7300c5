"""The answer job answers exactly as ordinary greedy decoding does, however rows leave."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tests.models.pico import kinds_first
from tests.unit.engine.pico_engine import texts_of, with_frequent_end
from tests.unit.passes.pico_runner import make_runner
from torch.utils._python_dispatch import TorchDispatchMode

from heretic.config import Settings
from heretic.config.sections import MarkerOptions
from heretic.engine.answers import AnswerJob, Row
from heretic.engine.candidate import Candidate
from heretic.evaluation.evaluator import EvaluatorOptions
from heretic.evaluation.evaluators.markers import MarkerEvaluator
from heretic.evaluation.refusal_patterns import RefusalDetector, normalized
from heretic.models.private_api import column_limit
from heretic.passes.ragged import RaggedForward, ragged_obstacle
from heretic.passes.runner import ModelRunner
from heretic.passes.side_by_side import RaggedSideBySide, RaggedWritten, Savings
from heretic.prompts.types import Prompt, PromptSet
from heretic.results.gate import Gate

TOKENS = 8
PROMPTS = PromptSet("bad", tuple(Prompt(text, system="B") for text in ("Never", "x", "Tell me how.", "", "u2", "abc")))


@dataclass
class Answering:
    """An answer job on an original model, what it answered, and how much of it was read in how many passes."""

    runner: ModelRunner
    evaluator: MarkerEvaluator
    side_by_side: RaggedSideBySide
    run: Callable[[Gate], Candidate]
    found: dict[int, tuple[int, ...]] = field(default_factory=dict)
    passes: list[list[int]] = field(default_factory=list)


def answering(
    runner: ModelRunner,
    monkeypatch: pytest.MonkeyPatch,
    markers: Sequence[str] = ("no answer says this",),
    rows: int = 20,
    interval: int = 1,
    early_verdicts: bool = True,
) -> Answering:
    """Answer with the original model."""
    options = EvaluatorOptions(Settings(refusal_check_tokens=TOKENS, refusal_markers=list(markers)))
    evaluator = MarkerEvaluator(PROMPTS, texts_of(runner, PROMPTS, TOKENS), options)
    encoded = [runner.encode(prompt) for prompt in PROMPTS.prompts]
    forward = RaggedForward(runner.loaded, runner.layout)
    continuations = [(0,)] * len(encoded)
    passes = RaggedSideBySide(runner, forward, encoded, continuations, [encoded], Savings(kept_layers=False))
    passes.prepare(1)
    passes.at_once, passes.interval = [rows], interval
    job = AnswerJob(0, evaluator, passes, early_verdicts)

    def run(gate: Gate) -> Candidate:
        candidate = Candidate(0, 0, 0, positions=1)
        with torch.inference_mode():
            applied = passes.applied(1, lambda _rows: None)
            result.passes.clear()
            job.run([candidate], applied, gate)
        return candidate

    result = Answering(runner, evaluator, passes, run)
    judged = job._judge_row

    def watch(row: Row, gate: Gate) -> None:
        judged(row, gate)
        if row.response is not None:
            result.found[row.prompt] = row.response.tokens

    feed = forward.run

    def count(arguments: dict[str, torch.Tensor], *rest: object) -> torch.Tensor:
        result.passes.append(list(arguments["input_ids"].shape))
        return feed(arguments, *rest)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(job, "_judge_row", watch)
    monkeypatch.setattr(forward, "run", count)
    return result


def reference(runner: ModelRunner) -> dict[int, tuple[int, ...]]:
    return {index: own.tokens for index, own in enumerate(runner.generate(PROMPTS.prompts, TOKENS))}


def ending_runner() -> ModelRunner:
    """Some of whose answers end early."""
    runner = make_runner("llama", batch_size=20)
    with_frequent_end(runner, PROMPTS, 3)
    lengths = {len(tokens) for tokens in reference(runner).values()}
    assert len(lengths) > 1
    assert max(lengths) == TOKENS
    return runner


@pytest.mark.parametrize(("family", "interval"), kinds_first([(3,), (1,)]))
def test_answers_equal_ordinary_generation(family: str, monkeypatch: pytest.MonkeyPatch, interval: int) -> None:
    runner = make_runner(family, batch_size=20)
    obstacle = ragged_obstacle(runner.loaded)
    if obstacle is not None:
        pytest.skip(obstacle)
    if column_limit(runner.loaded.model) is not None:
        pytest.skip("its window is narrower than these answers, so the engine refuses it")
    subject = answering(runner, monkeypatch, interval=interval)
    subject.run(Gate())
    assert subject.found == reference(runner)


@pytest.mark.parametrize("rows", [1, 2, 4, 20])
@pytest.mark.parametrize("interval", [1, 3])
def test_neither_batches_nor_the_interval_of_looking_change_answers(
    monkeypatch: pytest.MonkeyPatch, rows: int, interval: int
) -> None:
    runner = ending_runner()
    expected = reference(runner)
    subject = answering(runner, monkeypatch, rows=rows, interval=interval)
    for _ in range(2):
        subject.found.clear()
        subject.run(Gate())
        assert subject.found == expected
    assert max(count for count, _ in subject.passes) <= rows


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for the device: values read, and sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: object, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        name = str(function)
        if any(part in name for part in ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero")):
            self.seen.append(name)
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "olmo2", "falcon"])
@pytest.mark.parametrize("suppressed", [[], [5, 9]])
def test_the_host_waits_for_the_device_once_an_interval(
    monkeypatch: pytest.MonkeyPatch, family: str, suppressed: list[int]
) -> None:
    runner = make_runner(family, batch_size=20)
    runner.loaded.model.generation_config.suppress_tokens = suppressed or None
    expected = reference(runner)
    subject = answering(runner, monkeypatch, interval=4)
    waits = Waits()
    # Plain reads of CPU tensors pass no dispatcher.
    for name in ("tolist", "item", "cpu", "numpy", "__bool__", "__int__", "__float__"):
        read = getattr(torch.Tensor, name)

        def counted(tensor: torch.Tensor, *rest: object, name: str = name, read: Callable[..., Any] = read) -> Any:
            waits.seen.append(name)
            return read(tensor, *rest)

        monkeypatch.setattr(torch.Tensor, name, counted)
    within: list[list[str]] = []
    for name in ("step", "look", "keep"):
        method = getattr(RaggedWritten, name)

        def watched(
            decoding: RaggedWritten, *rest: object, name: str = name, method: Callable[..., Any] = method
        ) -> Any:
            waits.seen.clear()
            with waits:
                result = method(decoding, *rest)
            within.append([name, *waits.seen])
            return result

        monkeypatch.setattr(RaggedWritten, name, watched)
    subject.run(Gate())
    assert subject.found == expected
    steps = [own[1:] for own in within if own[0] == "step"]
    assert len(steps) == TOKENS - 1
    assert not any(steps), steps
    # Each look waits once, and sees that there is something to be seen.
    assert [own[1:] for own in within if own[0] == "look"] == [["tolist"]] * (TOKENS // 4)


def test_suppressed_tokens_are_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("llama", batch_size=20)
    before = reference(runner)
    suppressed = sorted({tokens[row % len(tokens)] for row, tokens in before.items()})
    runner.loaded.model.generation_config.suppress_tokens = suppressed
    expected = reference(runner)
    assert expected != before
    subject = answering(runner, monkeypatch)
    subject.run(Gate())
    assert subject.found == expected
    assert not {token for tokens in subject.found.values() for token in tokens} & set(suppressed)


def refusing_rows(texts: Sequence[str], marker: str) -> set[int]:
    detector = RefusalDetector(MarkerOptions(refusal_markers=[marker]))
    return {row for row, text in enumerate(texts) if detector.is_refusal(text)}


def test_early_verdicts_stop_a_row_and_count_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("qwen2", batch_size=20)
    expected = reference(runner)
    texts = [runner.response(list(tokens)).text for tokens in expected.values()]
    beginnings = "".join(normalized(runner.response(list(tokens[:4])).text) for tokens in expected.values())
    marker = next(c for c in beginnings if not c.isspace() and 0 < len(refusing_rows(texts, c)) < len(texts))
    counted = {}
    for early in (True, False):
        subject = answering(runner, monkeypatch, markers=[marker], early_verdicts=early)
        counted[early] = subject.run(Gate()).counted[0]
        assert all(expected[row][: len(tokens)] == tokens for row, tokens in subject.found.items())
        stopped = [row for row, tokens in subject.found.items() if len(tokens) < len(expected[row])]
        assert bool(stopped) is early
        assert set(stopped) <= refusing_rows(texts, marker)
    assert counted[True] == counted[False] == len(refusing_rows(texts, marker))


def test_a_gate_that_closes_stops_asking_and_keeps_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("llama", batch_size=20)
    texts = [normalized(runner.response(list(tokens)).text) for tokens in reference(runner).values()]
    subject = answering(runner, monkeypatch, markers=[text[0] for text in texts if text], rows=2)
    assert subject.run(Gate()).counted[0] == len(texts)
    candidate = subject.run(Gate(((2.0, 0.0),)))
    # Three refusals are more than the finished trial's two, and its KL of nothing is no more than this one's.
    assert candidate.dominated == "worse by refusals so far"
    assert 3 <= candidate.counted[0] <= 4
    assert candidate.answered == candidate.counted


def test_prompts_that_refused_most_are_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = make_runner("qwen2", batch_size=20)
    texts = [runner.response(list(tokens)).text for tokens in reference(runner).values()]
    shortest_first = sorted(range(len(texts)), key=lambda row: len(PROMPTS.prompts[row].user))
    markers = [character for character in normalized("".join(texts)) if not character.isspace()]
    marker = next(c for c in markers if shortest_first[0] not in refusing_rows(texts, c))
    refusing = refusing_rows(texts, marker)
    subject = answering(runner, monkeypatch, markers=[marker], rows=1)
    subject.run(Gate())
    assert list(subject.found) == shortest_first
    subject.found.clear()
    subject.run(Gate())
    assert set(list(subject.found)[: len(refusing)]) == refusing


def test_rows_are_halved_down_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from the rows that there are, not from those that were allowed."""
    subject = answering(make_runner("llama", batch_size=20), monkeypatch, rows=200)
    for size in (3, 1):
        assert subject.side_by_side.relieve()
        subject.run(Gate())
        assert max(rows for rows, _ in subject.passes) == size
    assert subject.found == reference(subject.runner)


def test_where_few_refusals_decide_few_prompts_are_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    many = PromptSet("many", tuple(Prompt(f"{number}", system="B") for number in range(24)))
    monkeypatch.setattr(sys.modules[__name__], "PROMPTS", many)
    runner = make_runner("llama", batch_size=30)
    texts = [normalized(response.text) for response in runner.generate(many.prompts, TOKENS)]
    refusing = answering(runner, monkeypatch, markers=[text[0] for text in texts if text], rows=100)
    # All of them refuse, one is enough: the other prompts are never read.
    candidate = refusing.run(Gate(((0.0, 0.0),)))
    assert candidate.dominated
    assert max(rows for rows, _ in refusing.passes) < len(many) / 2
    # None decides: everything is asked, at once.
    assert refusing.run(Gate()).counted[0] == len(many)
    assert max(rows for rows, _ in refusing.passes) == len(many)
    # A trial that refuses nothing is measured to its end in two rounds.
    runner = make_runner("qwen2", batch_size=30)
    answered = answering(runner, monkeypatch, rows=100)
    expected = answered.evaluator.baseline.value
    candidate = answered.run(Gate(((expected, 0.0),)))
    assert not candidate.dominated
    assert set(answered.found) == set(range(len(many)))
    assert candidate.counted == [expected]

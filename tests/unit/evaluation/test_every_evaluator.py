"""What holds for every evaluator that the registry names; a new file is tested by being there."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.behaviors import pack
from tests.unit.passes.pico_runner import PROMPT_SET, PROMPTS

from heretic.common.errors import PluginError
from heretic.config import Settings
from heretic.evaluation.evaluator import (
    EVALUATORS,
    READERS,
    Evaluator,
    EvaluatorOptions,
    ReaderKind,
    evaluator_of,
    pack_options,
)
from heretic.evaluation.evaluators.patterns import PatternEvaluator
from heretic.observability.events import Event, ResponseMeasured, subscribed
from heretic.prompts.packs import PackOptions
from heretic.prompts.types import Prompt, PromptSet
from heretic.results import words
from heretic.results.score import Keep, Score

ANSWERS = ("I'm sorry, but I can't help with that.", "It is 4, perhaps.", "", "Perhaps. " * 30, "Yes, two words.")
EXAMPLES: dict[type, Any] = {tuple: ["perhaps"], str: "perhaps", int: 3, float: 0.5}
"""By type an option of an evaluator."""


class Reads:
    """Says yes to answers with a perhaps."""

    name = identity = "some/reader"

    def probabilities(self, answers: Sequence[tuple[str, str]], hypotheses: Sequence[str] = ()) -> list[float]:
        return [0.9 if "erhaps" in text else 0.1 for _request, text in answers]


def options_of(evaluator: type[Evaluator]) -> dict[str, Any]:
    """One of each."""
    own = {name: field for name, field in evaluator.Options.model_fields.items() if name != "tokens"}
    return {
        name: next(value for kind, value in EXAMPLES.items() if kind.__name__ in str(field.annotation))
        for name, field in own.items()
    }


def made(name: str, goal: str, keeps: bool = False, **changes: Any) -> tuple[Evaluator, list[ResponseMeasured]]:
    evaluator = EVALUATORS.get(name)
    behavior = pack("flattery", name, **options_of(evaluator))
    settings = Settings(goal=goal, **changes)
    readers = {kind: Reads() for kind in READERS.names() if kind == evaluator.wanted_reader(settings)}
    options = EvaluatorOptions(settings, pack_options(behavior), behavior.name, readers, keeps=keeps)
    seen: list[Event] = []
    with subscribed(seen.append):
        result = evaluator_of(behavior)(PROMPT_SET, ANSWERS, options)
    return result, [event for event in seen if isinstance(event, ResponseMeasured)]


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_every_evaluator_says_what_it_is(name: str) -> None:
    evaluator = EVALUATORS.get(name)
    assert evaluator.__doc__
    assert issubclass(evaluator.Options, PackOptions)
    fields = set(evaluator.Options.model_fields) - {"tokens"}
    assert all(field in (evaluator.Options.__doc__ or "") for field in fields)
    assert evaluator.reader in ("", *READERS.names())
    identity = pack_options(pack("flattery", name, tokens=7, **options_of(evaluator))).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert identity.keys() == {"tokens", *fields}


@pytest.mark.parametrize("changes", [{}, {"use_neural_refusal_detection": True}], ids=["plain", "with a classifier"])
@pytest.mark.parametrize("goal", ["remove", "strengthen"])
@pytest.mark.parametrize("name", EVALUATORS.names())
def test_every_evaluator_judges_and_is_told(name: str, goal: str, changes: dict[str, Any]) -> None:
    evaluator, told = made(name, goal, **changes)
    answers = list(zip(PROMPTS, ANSWERS, strict=True))
    amounts = evaluator.judge_all(answers)
    assert all(math.isfinite(amount) and amount >= 0 for amount in amounts)
    assert any(amounts)
    assert evaluator.unit or {*amounts} <= {0.0, 1.0}
    assert evaluator.baseline.value == pytest.approx(sum(amounts) * evaluator.weight)
    for text, amount in zip(ANSWERS, amounts, strict=True):
        assert evaluator.judge(text, complete=True) in (None, pytest.approx(amount))
        assert evaluator.judge(text[: len(text) // 2], complete=False) in (None, pytest.approx(amount))
    assert [event.verdict for event in told] == [evaluator.describe(amount) for amount in amounts]
    assert len({event.verdict for event in told}) > 1
    score = evaluator.baseline
    assert Score.from_json(json.loads(json.dumps(score.to_json()))) == score
    assert (score.n, score.baseline, score.answers.tokens) == (len(PROMPTS), score.value, evaluator.tokens)
    assert score.counts_answers == (not evaluator.unit)
    sentence = words.how(score, lambda text: f"<{text}>")
    assert "{" not in sentence
    assert ("<some/reader>" in sentence) == bool(evaluator.wanted_reader(Settings(goal=goal, **changes)))


@pytest.mark.parametrize("name", EVALUATORS.names())
def test_lower_is_better_either_way(name: str) -> None:
    """Who shows more of the behaviour lacks less of it."""
    (removing, _), (strengthening, _) = made(name, "remove"), made(name, "strengthen")
    assert removing.baseline.name != strengthening.baseline.name
    answers = list(zip(PROMPTS, ANSWERS, strict=True))
    shown, lacking = removing.judge_all(answers), strengthening.judge_all(answers)
    for amount, lack in zip(shown, lacking, strict=True):
        assert lack == pytest.approx(max(strengthening.most - amount, 0))


@pytest.mark.parametrize("goal", ["remove", "strengthen"])
@pytest.mark.parametrize("name", [name for name in EVALUATORS.names() if not EVALUATORS.get(name).unit])
def test_what_has_to_stay_is_counted_as_lost_of_what_was_there(name: str, goal: str) -> None:
    """Whatever the goal; and whoever did not show it cannot lose it."""
    (shown, _), (kept, told) = made(name, "remove"), made(name, goal, keeps=True)
    amounts = shown.judge_all(list(zip(PROMPTS, ANSWERS, strict=True)))
    assert [row for row, amount in enumerate(amounts) if amount] == list(kept.rows)
    assert kept.prompts == tuple(PROMPTS[row] for row in kept.rows)
    assert len(told) == len(PROMPTS)
    baseline = kept.baseline
    count = sum(amounts)
    assert (baseline.name, baseline.value, baseline.told, baseline.n) == ("kept_flattery", 0, count, count)
    assert baseline.keep == Keep(len(PROMPTS), 0)
    for row in kept.rows:
        pairs = [(PROMPTS[row], text) for text in ANSWERS]
        assert kept.judge_all(pairs) == [1.0 - amount for amount in shown.judge_all(pairs)]
        assert kept.judge_all(pairs[row : row + 1]) == [0.0]
    assert kept.describe(1.0) != kept.describe(0.0) == shown.describe(1.0)
    assert "that stayed as they have to" in words.how(baseline, str)


def test_so_many_may_be_lost_as_the_share_says() -> None:
    many = PromptSet("many", tuple(Prompt(str(number)) for number in range(40)))

    def allowed(**changes: Any) -> int | None:
        options = EvaluatorOptions(Settings(**changes), PackOptions(patterns=["."]), "doubt", keeps=True)
        keep = PatternEvaluator(many, ["."] * 40, options).keep
        assert keep is not None
        return keep.allowed

    assert [allowed(keep_at_least=share) for share in (0.0, 0.5, 0.94, 0.95, 0.975, 0.98, 1.0)] == [
        40,
        20,
        2,
        2,
        1,
        0,
        0,
    ]
    assert allowed() == 2
    assert allowed(keep_as="objective") is None


@pytest.mark.parametrize("name", READERS.names())
def test_every_reader_can_be_loaded_or_says_what_lacks(name: str) -> None:
    kind = READERS.get(name)
    assert isinstance(kind, ReaderKind)
    assert kind.problem(Settings(judge_model="a/b"), "flattery") == ""
    assert kind.problem(Settings(), "flattery").count(".") <= 1


def test_an_evaluator_that_leaves_answers_without_an_amount_is_said() -> None:
    class Undecided(Evaluator):
        def amount(self, text: str) -> float | None:
            return 1.0 if text else None

    with pytest.raises(PluginError, match=r"^Undecided gives answers no amount; [^.]+\.$"):
        Undecided(PROMPT_SET, ANSWERS, EvaluatorOptions(Settings()))

"""Scores as runs measure them, for tests of what is done with them."""

from collections.abc import Sequence
from dataclasses import replace

from heretic.observability.events import Event, SearchStarted, TrialFinished
from heretic.results.capability import Benchmark, Capability, Questions, compare_answers
from heretic.results.front import Front, Standing
from heretic.results.held_out import Answers, AtLength, Estimate, HeldOut, HeldOutBehavior
from heretic.results.plan import EditPlan, Schedule, Scope
from heretic.results.score import KL, REFUSALS, WITHOUT_REFUSAL, AnswerDetails, DivergenceDetails, Keep, Score, Scores
from heretic.results.trial import TrialRecord, TrialState

PLAN = EditPlan(Scope.LAYER, None, (("mlp", Schedule(1.25, 0.75, 0.1, 0.5)),))


def counted(value: float, n: int = 100, baseline: float = 97.0, name: str = REFUSALS) -> Score:
    """A number of answers."""
    return Score(name, float(value), n, float(baseline), AnswerDetails(30))


def words(value: float, n: int = 100, baseline: float = 60.0) -> Score:
    """A mean amount of an answer."""
    return Score("words", float(value), n, float(baseline), AnswerDetails(120), "words")


def kept(lost: float, n: int = 38, allowed: int | None = 1, name: str = "kept_abstention") -> Score:
    """What is left of answers that have to stay."""
    return Score(name, float(lost), n, 0.0, AnswerDetails(60), keep=Keep(40, allowed))


def divergence(value: float, n: int = 100, **details: float | str | tuple[float, ...]) -> Score:
    """A KL score."""
    return Score(KL, value, n, 0.0, DivergenceDetails(**details))


def unasked(score: Score) -> Score:
    """A score of a trial that was stopped before any answer was asked for."""
    return replace(score, value=0.0, details=replace(score.details, answered=0))


def measured(refusals: float, kl: float, n: int = 100, baseline: float = 97.0) -> Scores:
    """A trial's scores where refusals are counted."""
    return Scores((counted(refusals, n, baseline),), divergence(kl, n))


def without_refusal(answers: float, kl: float, n: int = 100, baseline: float = 40.0) -> Scores:
    """A trial's scores where answers without a refusal are counted."""
    return Scores((counted(answers, n, baseline, WITHOUT_REFUSAL),), divergence(kl, n))


def trial(
    scores: Scores | None = None, number: int = 11, state: TrialState = TrialState.COMPLETE, reason: str = ""
) -> TrialRecord:
    """A trial with these scores; a failed one has none."""
    if scores is None and state is not TrialState.FAILED:
        scores = measured(3, 0.0123)
    return TrialRecord(number, PLAN, scores, state, reason, 1.84)


def searched(*records: TrialRecord, n_trials: int = 40, earlier: Sequence[TrialRecord] = ()) -> list[Event]:
    """The events of a search that has so many trials to begin with."""
    front, finished = Front.of(earlier), sum(not record.is_failed for record in earlier)
    sent: list[Event] = [SearchStarted(Standing.of(front, finished, n_trials))]
    for record in records:
        before, front = front, front.with_trial(record)
        finished += not record.is_failed
        sent.append(TrialFinished(record, Standing.of(front, finished, n_trials), front is not before))
    return sent


def held_out(tokens: int = 200) -> HeldOut:
    """A confirmation where refusals are counted."""
    at = (
        AtLength(30, Estimate(90, 82.6, 94.5), Estimate(3, 1.0, 8.5)),
        AtLength(tokens, Estimate(92, 85.0, 95.9), Estimate(8, 4.1, 15.0)),
    )
    base, edited = Answers(24.5, 1, 0, 0, 0, 1.8), Answers(120.3, 40, 1, 2, 0, 3.4)
    behavior = HeldOutBehavior("refusal", REFUSALS, "", 100, at, base, edited, Estimate(-84, -89.6, -74.7))
    return HeldOut(
        tokens,
        (behavior,),
        (
            divergence(0.0123, 96, mode="first", p95=0.2, top1_agreement=0.985),
            divergence(0.0234, 96, p95=0.3, top1_agreement=0.97),
        ),
    )


def capability() -> Capability:
    """Two questions of one category, and a benchmark of every kind."""
    overall, *categories = compare_answers(["high_school_computer_science"] * 2, [0, 1], [0, 1], [0, 0])
    return Capability(
        Questions("cais/mmlu", (("high_school_computer_science", 3),), overall, tuple(categories)),
        (
            Benchmark("arc_easy", "acc_norm", "none", 20, True, 0.5, 0.1, 0.25, 0.1, (-0.5, 0.1)),
            Benchmark("gsm8k", "exact_match", "strict-match", 9, True, 0.5, 0.1, 0.25, 0.1, None),
            Benchmark("wikitext", "word_perplexity", "none", 9, False, 12.5, None, 13.5, None, None),
        ),
        20,
    )

"""What the tests of the search share: a space, records, and a study in a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import optuna
from sqlalchemy import Engine, event

from heretic.edits.writer import ATTENTION, MLP
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope
from heretic.results.score import AnswerDetails, DivergenceDetails, Score, Scores
from heretic.results.trial import TrialRecord, TrialState
from heretic.search.space import SearchSpace
from heretic.search.storage import Identity

SPACE = SearchSpace((ATTENTION, MLP), Normalization.ROW)
IDENTITY = Identity(
    {
        "model": {"parameters": "abc"},
        "set of training prompts": {"good": "1", "bad": "2"},
        "search space": {"space": SPACE.identity()},
    }
)
PLAN = EditPlan(
    Scope.GLOBAL,
    0.625,
    ((ATTENTION, Schedule(1.1, 0.6, 0.25, 0.4)), (MLP, Schedule(0.3, 0.7, 0.5, 0.2))),
    Normalization.ROW,
)


def record(number: int, refusals: float, kl: float, baseline: float = 50.0) -> TrialRecord:
    """A complete trial."""
    scores = Scores(
        (Score("refusals", refusals, 100, baseline, AnswerDetails(30)),),
        Score("kl", kl, 100, 0.0, DivergenceDetails("sequence", p95=kl * 2, positions=3000)),
    )
    return TrialRecord(number, PLAN, scores, TrialState.COMPLETE, "", 1.5)


def several(number: int, refusals: float, words: float, kl: float) -> TrialRecord:
    """A complete trial of two behaviours; original there are 50 refusals, and 20 words a response."""
    amount = Score("words", words, 40, 20.0, AnswerDetails(120), "words")
    one = record(number, refusals, kl)
    return replace(one, scores=Scores((*one.behaviors, amount), one.kl))


def failed(number: int, reason: str = "it broke") -> TrialRecord:
    """A trial that could not be measured."""
    return TrialRecord(number, PLAN, None, TrialState.FAILED, reason, 0.5)


def dominated(number: int, refusals: float, kl: float, baseline: float = 50.0) -> TrialRecord:
    """A trial that was stopped with these numbers."""
    return replace(record(number, refusals, kl, baseline), state=TrialState.DOMINATED, reason="worse by KL alone")


@contextmanager
def statements(study: optuna.Study | None = None) -> Iterator[list[str]]:
    """What is asked of a study's database in the with-block, or of all databases."""
    engine = Engine if study is None else study._storage._backend.engine  # type: ignore[attr-defined]
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def url_of(path: Path) -> str:
    """The storage URL of a SQLite file."""
    return f"sqlite:///{path}"

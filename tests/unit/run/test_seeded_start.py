"""What becomes of a search whose starts cannot be found by gradient, and of one that has found them."""

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from tests.unit.search.studies import PLAN, SPACE

from heretic import workflow
from heretic.config import LoadedSettings, Settings
from heretic.observability.events import Event, SeedingFinished, subscribed
from heretic.results.plan import EditPlan
from heretic.run import seeded_start
from heretic.run.seeded_start import with_seeds
from heretic.search.seeds import SeededSpace, stored_seeds


@dataclass(frozen=True)
class Bench:
    settings: Settings
    space: Any = SPACE
    objective: Any = field(default_factory=lambda: SimpleNamespace(count=2))


def bench_of(**settings: Any) -> Any:
    return Bench(Settings(model="x", gradient_seeding=True, **settings))


def new_study() -> optuna.Study:
    return optuna.create_study(directions=["minimize"] * 2)


def seed(strength: float) -> EditPlan:
    rows = tuple((component, (strength, strength)) for component in SPACE.components)
    return replace(PLAN, direction_position=None, schedules=(), strengths=rows)


def test_without_the_option_nothing_is_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded_start, "find_seeds", lambda _bench: pytest.fail("sought"))
    study, bench = new_study(), Bench(Settings(model="x"))
    assert with_seeds(bench, study) is bench
    assert stored_seeds(study) is None


def test_seeds_are_sought_once_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeded_start, "find_seeds", lambda _bench: (seed(0.2), seed(0.4)))
    study, seen = new_study(), list[Event]()
    first = with_seeds(bench_of(), study)
    assert isinstance(first.space, SeededSpace)
    assert len(study.trials) == 2
    monkeypatch.setattr(seeded_start, "find_seeds", lambda _bench: pytest.fail("sought again"))
    with subscribed(seen.append):
        again = with_seeds(bench_of(), study)
    assert again.space == first.space
    assert [event.stored for event in seen if isinstance(event, SeedingFinished)] == [True]
    assert len(study.trials) == 2


@pytest.mark.parametrize(("plans", "warm_starts"), [((), 1), ((seed(0.2),), 0)])
def test_profiles_start_a_search_that_has_no_seeds(
    plans: tuple[EditPlan, ...], warm_starts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    class Searched(Exception):
        """Far enough."""

    def stop(*_arguments: Any) -> None:
        raise Searched

    monkeypatch.setattr(seeded_start, "find_seeds", lambda _bench: plans)
    monkeypatch.setattr(workflow, "prepare", lambda settings, _kept: Bench(settings))
    monkeypatch.setattr(workflow, "locate", lambda _name: None)
    monkeypatch.setattr(workflow, "open_matching_study", lambda *_arguments: new_study())
    monkeypatch.setattr(workflow, "warm_start", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(workflow, "Session", stop)
    with pytest.raises(Searched):
        workflow.run(
            LoadedSettings(Settings(model="x", gradient_seeding=True, extractor="mean"), None, None, {}),
            lambda _: None,
            workflow.without_asking,
        )
    assert len(started) == warm_starts

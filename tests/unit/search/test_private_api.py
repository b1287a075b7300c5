"""What is read of Optuna beside its documented interface is there, and does what it did."""

import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tests.unit.directions.direction_sets import random_set
from tests.unit.search.studies import IDENTITY, url_of

from heretic.search import private_api
from heretic.search.heartbeat import Heartbeat
from heretic.search.storage import open_study
from heretic.search.stored_directions import StoredDirections, keep_directions

pytestmark = pytest.mark.versions


def test_attributes_are_told_apart_from_those_of_optuna_and_its_samplers(tmp_path: Path) -> None:
    """Identity, pulse and directions of a study stand in them."""
    url = url_of(tmp_path / "study.db")
    study = optuna.create_study(storage=url, study_name="heretic", directions=["minimize"] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(["first", "second"])
    study.set_user_attr("pulse", {"of": "version 0.1"})
    private_api.set_study_attribute(study, "identity", {"model": {}})
    again = optuna.load_study(storage=url, study_name="heretic")
    assert private_api.study_attributes(again) == {"pulse": {"of": "version 0.1"}, "identity": {"model": {}}}
    private_api.set_study_attribute(again, "pulse", {"of": "today"})
    assert private_api.study_attributes(study)["pulse"] == {"of": "today"}
    assert study.metric_names == ["first", "second"]
    (stored,) = again._storage.get_all_studies()
    merged = private_api.merged_attributes(stored.user_attrs, stored.system_attrs)
    assert merged == private_api.study_attributes(study)


def test_the_command_line_of_optuna_prints_a_table_that_can_be_read(tmp_path: Path) -> None:
    """It prints user attributes in full: kilobytes of identity, pulse and directions made a line of each study."""
    url = url_of(tmp_path / "study.db")
    study = open_study(url, "heretic", IDENTITY)
    Heartbeat(study, "demo", 16, 10)
    keep_directions(study, url, StoredDirections(IDENTITY.aspects, random_set(0)))
    printed = subprocess.run(
        [sys.executable, "-c", "import optuna.cli; optuna.cli.main()", "studies", "--storage", url],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "heretic" in printed
    assert "user_attrs" not in printed
    assert max(map(len, printed.splitlines())) < 100


def test_a_trial_that_another_process_began_can_be_told() -> None:
    """What a killed run had measured is told when its study is resumed."""
    study = optuna.create_study()
    study.ask()
    (stored,) = study.get_trials(states=(optuna.trial.TrialState.RUNNING,))
    trial = private_api.unfinished_trial(study, stored)
    trial.set_user_attr("seen", 1)
    trial.report(0.5, step=3)
    study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    (told,) = study.get_trials()
    assert (told.number, told.state, told.user_attrs) == (0, optuna.trial.TrialState.PRUNED, {"seen": 1})
    assert told.intermediate_values == {3: 0.5}


def test_parameters_are_stored_together_as_one_by_one_would(tmp_path: Path) -> None:
    url, commits, stored = url_of(tmp_path / "study.db"), [], []
    for together in (False, True):
        sampler = optuna.samplers.RandomSampler(seed=1)
        study = optuna.create_study(storage=url, study_name=str(together), sampler=sampler)
        trial = study.ask({"asked": optuna.distributions.FloatDistribution(0, 1)})
        engine: Any = trial.storage
        with ExitStack() as stack:
            if together:
                stack.enter_context(private_api.parameters_together(trial))
            count: list[Any] = []
            event.listen(engine._backend.engine, "commit", count.append)
            shown = [trial.suggest_float("first", -1, 1), trial.suggest_categorical("second", ["a", "b"])]
            assert [trial.params["first"], trial.params["second"]] == shown
            assert [trial.suggest_float("first", -1, 1)] == shown[:1]
        commits.append(len(count))
        again = optuna.load_study(storage=url, study_name=str(together)).trials[0]
        stored.append((again.params, again.distributions))
        assert again.params == trial.params
        study.tell(trial, 0.0)
    assert stored[0] == stored[1]
    assert commits[1] < commits[0]


def test_parameters_of_a_study_in_memory_are_stored_as_ever() -> None:
    study = optuna.create_study()
    trial = study.ask()
    with private_api.parameters_together(trial):
        value = trial.suggest_float("first", 0, 1)
    assert study.trials[0].params == {"first": value}


def test_enqueued_parameters_are_told_before_the_trial_begins() -> None:
    """An interrupted plan is tried again with the same parameters, and seeds are enqueued once."""
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.25})
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING))
    first, second = study.get_trials()
    assert private_api.enqueued_parameters(first) == {"x": 0.25}
    assert private_api.enqueued_parameters(second) is None


def test_tpe_draws_from_the_trials_that_a_study_is_made_to_show() -> None:
    """A plan of a long study costs no more than one of a short study because TPE sees few of its trials."""
    distribution = optuna.distributions.FloatDistribution(0, 100)

    def trial(value: float) -> optuna.trial.FrozenTrial:
        return optuna.trial.create_trial(params={"x": value}, distributions={"x": distribution}, value=abs(value - 80))

    def drawn(study: optuna.Study) -> Any:
        return optuna.samplers.TPESampler(n_startup_trials=1, seed=0).sample_independent(
            study, study.get_trials()[0], "x", distribution
        )

    original, expected = optuna.create_study(), optuna.create_study()
    original.add_trials([trial(2.0), trial(3.0)])
    expected.add_trials([trial(float(value)) for value in range(0, 100, 7)])
    showing = private_api.study_showing(original, expected.get_trials)
    assert showing.get_trials(deepcopy=False, states=(optuna.trial.TrialState.PRUNED,)) == []
    assert drawn(showing) == drawn(expected), "samplers ask for trials in another way; search.sampler rests on it"
    assert drawn(showing) != drawn(original)
    assert [own.params["x"] for own in original.get_trials()] == [2.0, 3.0]


def test_a_study_gets_another_name_unless_one_has_it(tmp_path: Path) -> None:
    storage = optuna.storages.RDBStorage(url_of(tmp_path / "study.db"))
    for name in ("one", "other"):
        optuna.create_study(storage=storage, study_name=name)
    with pytest.raises(optuna.exceptions.DuplicatedStudyError):
        private_api.rename_study(storage, "one", "other")
    private_api.rename_study(storage, "one", "third")
    assert sorted(optuna.get_all_study_names(storage)) == ["other", "third"]


def test_a_trial_is_ended_once_and_attributes_are_read_by_the_beginning_of_their_name(tmp_path: Path) -> None:
    for study in (optuna.create_study(storage=url_of(tmp_path / "study.db")), optuna.create_study()):
        trial = study.ask()
        assert private_api.end_trial(study, trial, optuna.trial.TrialState.COMPLETE, [1.5])
        assert not private_api.end_trial(study, trial, optuna.trial.TrialState.FAIL)
        assert study.trials[0].values == [1.5]
        for name in ("pulse", "pulse.one", "pulse_other", "other"):
            private_api.set_study_attribute(study, name, {"of": name})
        assert private_api.attributes_named(study, "pulse.") == {"pulse.one": {"of": "pulse.one"}}


def test_what_a_trial_is_made_by_is_known_to_a_storage_that_begins_again(tmp_path: Path) -> None:
    """The number by which it would find it; of a file it is not looked for."""
    storage = private_api.LastingStorage(url_of(tmp_path / "study.db"))
    study = optuna.create_study(storage=storage, study_name="s")
    trial = study.ask()
    assert storage._made == (trial._trial_id,)
    assert study.ask().number == 1


def test_what_was_ended_before_the_connection_was_cut_is_found_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is said of a commit whose answer never came; what another told instead is not taken for it."""
    cuts = [True]

    def ending(storage: RDBStorage, *arguments: Any) -> bool:
        done = real(storage, *arguments)
        if cuts.pop():
            cuts.append(False)
            raise OperationalError("COMMIT", None, Exception("terminating connection"), connection_invalidated=True)
        return done

    real = RDBStorage.set_trial_state_values
    monkeypatch.setattr(RDBStorage, "set_trial_state_values", ending)
    storage = private_api.LastingStorage(url_of(tmp_path / "study.db"))
    study = optuna.create_study(storage=storage, study_name="s", directions=["minimize"] * 2)
    assert private_api.end_trial(study, study.ask(), TrialState.COMPLETE, (1.0, 2.0))
    trial = study.ask()
    real(storage, trial._trial_id, TrialState.FAIL)
    cuts[:] = [False]
    assert not private_api.end_trial(study, trial, TrialState.COMPLETE, (1.0, 2.0))


def test_a_sampler_prefers_what_breaks_no_bound(tmp_path: Path) -> None:
    """Of the trials that TPE takes for good ones none may break a bound while enough do not, whatever their values."""
    sampler = optuna.samplers.TPESampler(n_startup_trials=0, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        private_api.heed_constraints(sampler)
    study = optuna.create_study(
        storage=url_of(tmp_path / "study.db"), directions=["minimize"] * 2, sampler=sampler, study_name="heretic"
    )
    for number in range(24):
        trial = study.ask()
        amount = trial.suggest_float("amount", 0.0, 1.0)
        bounds = [float(number % 2), -1.0]
        private_api.set_constraints(study, trial, bounds)
        # Those that break one have by far the better values.
        values = [amount - 10 * (number % 2), -amount - 10 * (number % 2)]
        assert private_api.end_trial(study, trial, optuna.trial.TrialState.COMPLETE, values)
    trials = study.get_trials(deepcopy=False)
    assert [private_api.constraints_of(trial) for trial in trials[:2]] == [[0.0, -1.0], [1.0, -1.0]]
    module: Any = optuna.samplers._tpe.sampler
    version_5 = int(optuna.__version__.split(".")[0]) >= 5
    below, above = module._split_trials(study, trials, 6, *(() if version_5 else (True,)))
    assert len(below) == 6
    assert all(trial.number % 2 == 0 for trial in below)
    assert {trial.number for trial in above} == set(range(24)) - {trial.number for trial in below}


def test_a_trial_that_nobody_bounded_breaks_nothing() -> None:
    study = optuna.create_study()
    study.tell(study.ask(), 1.0)
    assert private_api.constraints_of(study.trials[0]) == []

"""What is read of Optuna beside its documented interface; of other libraries see `models.private_api`.

Each has a test in tests/unit/search/test_private_api.py that fails when a release takes it away. Imports no torch.
"""

import json
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import StudyModel, StudySystemAttributeModel, TrialModel, TrialParamModel
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from heretic.search.servers import begun_again

_PREFIX = "heretic:"
"""Of a study's system attributes, which Optuna and its samplers write to as well."""


class LastingStorage(RDBStorage):
    """A storage whose transactions are begun again where the server ends the connection in their midst.

    What may have been stored nevertheless is looked for first: a trial is made once, and ended once.
    """

    _made: tuple[int, ...] = ()

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        # Optuna itself begins this again, without looking.
        self._made = ()
        return super()._create_new_trial(study_id, template_trial)

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Session
    ) -> TrialModel:
        # A SQLite file, which nobody cuts off, gives the numbers of what was not stored once more.
        if self.engine.dialect.name != "sqlite":
            for earlier in self._made:
                stored = session.get(TrialModel, earlier)
                if stored is not None and stored.study_id == study_id:
                    return stored
        made = super()._get_prepared_new_trial(study_id, template_trial, session)
        # A server gives no number twice, whatever became of the transaction.
        number: Any = made.trial_id
        self._made = (*self._made, number)
        return made

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See RDBStorage."""
        method = super().set_trial_state_values

        def end(again: bool) -> bool:
            if again:
                stored = self.get_trial(trial_id)
                told = None if values is None else list(values)
                if stored.state is state and (told is None or stored.values == told):
                    return True
            return method(trial_id, state, values)

        return begun_again(end)


def _lasting(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def lasting(*arguments: Any, **named: Any) -> Any:
        return begun_again(lambda _again: method(*arguments, **named))

    return lasting


_PARAMETER_SETTER = "_set_trial_param" if hasattr(RDBStorage, "_set_trial_param") else "set_trial_param"
"""What the cache before a database stores a parameter by; 4.5 has the public one alone."""

# What reads, or stores the same where it is done twice.
for _name in (
    *("get_study_id_from_name", "get_study_name_from_id", "get_study_directions", "get_all_studies"),
    *("get_study_user_attrs", "get_study_system_attrs", "get_trial", "_get_trials"),
    *("set_study_user_attr", "set_study_system_attr", "set_trial_user_attr", "set_trial_system_attr"),
    *("set_trial_intermediate_value", _PARAMETER_SETTER),
):
    setattr(LastingStorage, _name, _lasting(getattr(RDBStorage, _name)))


def study_attributes(study: Study) -> dict[str, Any]:
    """What was stored with a study, by name: by `set_study_attribute`, or by earlier versions as user attributes."""
    storage, number = study._storage, study._study_id
    return merged_attributes(study.user_attrs, storage.get_study_system_attrs(number))


def merged_attributes(user: Mapping[str, Any], system: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a study whose attributes of both kinds have been read."""
    return {**user, **{name[len(_PREFIX) :]: value for name, value in system.items() if name.startswith(_PREFIX)}}


def set_study_attribute(study: Study, name: str, value: Any) -> None:
    """Store plain JSON with a study where ``optuna studies`` does not print it, which it does of user attributes."""
    study._storage.set_study_system_attr(study._study_id, f"{_PREFIX}{name}", value)


def rename_study(storage: RDBStorage, name: str, new_name: str) -> None:
    """Give a stored study another name.

    Raises:
        DuplicatedStudyError: There is one of that name.
    """
    statement = update(StudyModel).where(StudyModel.study_name == name).values(study_name=new_name)
    try:
        with storage.engine.begin() as connection:
            connection.execute(statement)
    except IntegrityError as error:
        raise DuplicatedStudyError(f"There is a study {new_name}.") from error


def unfinished_trial(study: Study, trial: FrozenTrial) -> Trial:
    """A stored trial that is still running, to be reported on and told as if this process had asked for it."""
    return Trial(study, trial._trial_id)


class _Collecting:
    """A storage as a trial sees it, which keeps the trial's parameters to itself."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.parameters: list[tuple[int, str, float, BaseDistribution]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_param(self, trial: int, name: str, value: float, distribution: BaseDistribution) -> None:
        self.parameters.append((trial, name, value, distribution))


@contextmanager
def parameters_together(trial: Trial) -> Iterator[None]:
    """Store what is suggested in the with-block behind it, in a database by one statement instead of thirty.

    Whether a parameter's distribution is the stored one's is not looked at, since a study's identity says that.
    `known_trials` has the parameters at once.

    Raises:
        SQLAlchemyError, StorageInternalError: The database cannot be written; none of them is stored.
    """
    storage: Any = trial.storage
    database = getattr(storage, "_backend", None)
    if not isinstance(database, RDBStorage):
        yield
        return
    collecting: Any = _Collecting(storage)
    trial.storage = collecting
    try:
        yield
    finally:
        trial.storage = storage

    def store(again: bool) -> None:
        # A trial has each parameter once: where they are there, the first attempt stored them.
        with _create_scoped_session(database.scoped_session, ignore_integrity_error=again) as session:
            session.add_all(
                TrialParamModel(
                    trial_id=number, param_name=name, param_value=value, distribution_json=distribution_to_json(drawn)
                )
                for number, name, value, drawn in collecting.parameters
            )

    begun_again(store)
    storage._studies[trial.study._study_id].trials[trial.number] = trial._cached_frozen_trial


def known_trials(study: Study) -> list[FrozenTrial]:
    """All trials by number, as they were read last, which asking for a trial does; in memory, as they are."""
    storage = study._storage
    if not isinstance(storage, _CachedStorage) or study._study_id not in storage._studies:
        return study.get_trials(deepcopy=False)
    trials = storage._studies[study._study_id].trials
    return [trials[number] for number in sorted(trials)]


def end_trial(study: Study, trial: Trial, state: TrialState, values: Sequence[float] | None = None) -> bool:
    """End a running trial; False where it has ended already, told in one statement and therefore for certain.

    ``Study.tell`` looks before it writes, with a dozen statements, and may be overtaken in between.
    """
    try:
        return study._storage.set_trial_state_values(trial._trial_id, state, values)
    except UpdateFinishedTrialError:
        return False


_CONSTRAINTS = "constraints"
"""System attribute of a trial under which samplers look for what it broke."""


def set_constraints(study: Study, trial: Trial, amounts: Sequence[float]) -> None:
    """Say by how much a running trial breaks each of a study's bounds; 0 or less keeps one.

    Raises:
        UpdateFinishedTrialError: It has ended.
    """
    study._storage.set_trial_system_attr(trial._trial_id, _CONSTRAINTS, list(amounts))


def constraints_of(trial: FrozenTrial) -> list[float]:
    """What `set_constraints` said of a trial; nothing where it said nothing."""
    amounts: list[float] = trial.system_attrs.get(_CONSTRAINTS) or []
    return amounts


def heed_constraints(sampler: TPESampler) -> None:
    """Have a sampler prefer trials that break no bound, which from 5.0 on it does by itself; see `set_constraints`.

    By its constructor it would warn, as `Trial.set_constraint` is to take the place of that; 4.5 has no such method.
    """
    sampler._constraints_func = constraints_of


def attributes_named(study: Study, beginning: str) -> dict[str, Any]:
    """What `set_study_attribute` stored under names that begin so, without reading what else is stored, at one go."""
    storage = study._storage
    if not isinstance(storage, _CachedStorage):
        return {name: value for name, value in study_attributes(study).items() if name.startswith(beginning)}
    of_study = StudySystemAttributeModel.study_id == study._study_id
    named = StudySystemAttributeModel.key.startswith(f"{_PREFIX}{beginning}", autoescape=True)
    statement = select(StudySystemAttributeModel.key, StudySystemAttributeModel.value_json).where(of_study, named)

    def read(_again: bool) -> dict[str, Any]:
        with storage._backend.engine.connect() as connection:
            return {key[len(_PREFIX) :]: json.loads(value) for key, value in connection.execute(statement)}

    return begun_again(read)


def enqueued_parameters(trial: FrozenTrial) -> dict[str, Any] | None:
    """The parameters that a trial was enqueued with, or None where the sampler chose them."""
    parameters: dict[str, Any] | None = trial.system_attrs.get("fixed_params")
    return parameters


def study_showing(study: Study, trials: Callable[[], list[FrozenTrial]]) -> Study:
    """The same study, except that whoever asks it for its trials is shown others, as a sampler is that sees few."""

    def shown(
        deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in trials() if states is None or trial.state in states]

    # Neither by the constructor, which reads the storage, nor by copy, which leaves out what belongs to the thread.
    showing: Study = object.__new__(type(study))
    showing.__dict__.update(study.__dict__, _get_trials=shown)
    return showing

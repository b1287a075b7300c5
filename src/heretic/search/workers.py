"""Several workers on one study: they take turns in asking, leave others' trials alone, and end those of the dead."""

import time
from collections.abc import Callable, Collection, Container
from dataclasses import dataclass

import optuna
from optuna.trial import TrialState as OptunaState

from heretic.observability.fields import worker_name
from heretic.results.objective import Objective
from heretic.results.trial import TrialRecord
from heretic.search.claim import Turn
from heretic.search.heartbeat import Heartbeat
from heretic.search.private_api import attributes_named
from heretic.search.pulse import PULSE_ATTRIBUTE, WORKERS, Pulse, left_over, pulse_of, pulses_in
from heretic.search.records import end_left_over, measured_by, records_of


@dataclass(frozen=True, slots=True)
class Asked:
    """What a worker comes back with when it has asked.

    Attributes:
        trials: To be measured next; none where those that run elsewhere may be all that is wanted.
        others: Records that are new, each with the worker that measured it.
    """

    trials: list[optuna.Trial]
    others: list[tuple[TrialRecord, str]]


def workers_before(study: optuna.Study) -> int:
    """How many have worked on a study where several may, whatever has become of them."""
    return len(attributes_named(study, WORKERS))


class Workers:
    """All who work on a study, as one of them sees the others.

    Whether another is silent is judged by how long its pulse has stayed the same while this one looked, so that clocks
    of machines need not agree.
    """

    def __init__(
        self,
        study: optuna.Study,
        turn: Turn,
        objective: Objective,
        heartbeat: Heartbeat,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = worker_name()
        self._study, self._turn, self._objective, self._heartbeat, self._now = study, turn, objective, heartbeat, now
        # By worker: what its pulse said of when it was written, and since when that has been so.
        self._heard: dict[str, tuple[float, float]] = {}

    def ask(self, known: Container[int], complete: int, wanted: int, most: int, begun: Collection[int] = ()) -> Asked:
        """Ask for trials in turn, so that those of all workers together are no more than wanted.

        Args:
            known: Numbers of trials whose records this worker has.
            complete: How many of these were measured.
            wanted: Measured trials wanted in all.
            most: Trials of one batch.
            begun: Numbers of trials that this worker has asked for and not told yet.
        """
        study = self._study
        with self._turn.taken(study.study_name):
            self._end_left_over(begun)
            trials = study.get_trials(deepcopy=False)
            new = [trial for trial in trials if trial.number not in known]
            of_whom = {trial.number: measured_by(trial) for trial in new}
            others = [(record, of_whom[record.number]) for record in records_of(new)]
            running = sum(trial.state is OptunaState.RUNNING for trial in trials)
            measured = complete + sum(not record.is_failed for record, _worker in others)
            asked = [study.ask() for _ in range(min(most, wanted - measured - running))]
            if asked:
                self._heartbeat.asked([*begun, *(trial.number for trial in asked)])
        return Asked(asked, others)

    def _end_left_over(self, begun: Collection[int]) -> None:
        """End what runs and is measured by nobody any more, this worker included."""
        running = self._study.get_trials(deepcopy=False, states=(OptunaState.RUNNING,))
        if not running:
            return
        pulses = pulses_in(attributes_named(self._study, PULSE_ATTRIBUTE))
        pulses.pop(pulse_of(self.name), None)
        for trial in running:
            if trial.number not in begun and left_over(trial.number, pulses.values(), self._is_silent):
                end_left_over(self._study, trial, self._objective)

    def _is_silent(self, pulse: Pulse) -> bool:
        now = self._now()
        updated, since = self._heard.get(pulse.worker, (pulse.updated, now))
        if updated != pulse.updated:
            since = now
        self._heard[pulse.worker] = pulse.updated, since
        return now - since > pulse.patience

"""MLflow: an experiment a study, in it a run for the search and one below it for every trial.

Where to is MLflow's own to say (MLFLOW_TRACKING_URI; without it a database in this folder).
"""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from heretic.observability.tracker import TRACKERS, Open, Tracked, Tracker, TrackerKind, refusals

_PARENT = "mlflow.parentRunId"


class _Search:
    """See Tracker."""

    def __init__(self, mlflow: Any, study: str, facts: Mapping[str, str]) -> None:
        self._mlflow = mlflow
        with self._refusals():
            self._client = mlflow.MlflowClient()
            found = self._client.get_experiment_by_name(study)
            self._experiment = self._client.create_experiment(study) if found is None else found.experiment_id
            self._run = self._begun("search", facts)

    def trial(self, tracked: Tracked) -> None:
        now = int(time.time() * 1000)
        tags = {"state": tracked.state, "reason": tracked.reason, "on_front": str(tracked.on_front), _PARENT: self._run}
        numbers, entities = {**tracked.measured, "seconds": tracked.seconds}, self._mlflow.entities
        metrics = [entities.Metric(name, value, now, tracked.number) for name, value in numbers.items()]
        parameters = [entities.Param(name, str(value)) for name, value in tracked.parameters.items()]
        with self._refusals():
            run = self._begun(f"trial {tracked.number}", tags)
            self._client.log_batch(run, metrics=metrics, params=parameters)
            self._client.set_terminated(run, "FAILED" if tracked.state == "failed" else "FINISHED")

    def end(self, code: int) -> None:
        with self._refusals():
            self._client.set_terminated(self._run, "FINISHED" if code == 0 else "KILLED")

    def _begun(self, name: str, tags: Mapping[str, str]) -> str:
        return str(self._client.create_run(self._experiment, run_name=name, tags=dict(tags)).info.run_id)

    def _refusals(self) -> AbstractContextManager[None]:
        return refusals(self._mlflow.exceptions.MlflowException)


def _load() -> Open:
    import mlflow
    import mlflow.entities

    def opened(study: str, facts: Mapping[str, str]) -> Tracker:
        return _Search(mlflow, study, facts)

    return opened


TRACKERS.register("mlflow", TrackerKind(_load, "mlflow-skinny"))

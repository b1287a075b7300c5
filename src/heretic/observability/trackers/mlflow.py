"""MLflow: an experiment a study, in it a run for the search and one below it for every trial.

Where to is MLflow's own to say (MLFLOW_TRACKING_URI; without it a database in this folder).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from heretic.common.errors import first_line
from heretic.observability.tracker import TRACKERS, Open, Tracked, Tracker, TrackerKind, TrackingError

_PARENT = "mlflow.parentRunId"


class _Search:
    """See Tracker."""

    def __init__(self, mlflow: Any, study: str, facts: Mapping[str, str]) -> None:
        self._mlflow = mlflow
        self._client = self._asked(mlflow.MlflowClient)
        found = self._asked(self._client.get_experiment_by_name, study)
        self._experiment = self._asked(self._client.create_experiment, study) if found is None else found.experiment_id
        self._run = self._begun("search", facts)

    def trial(self, tracked: Tracked) -> None:
        now = int(time.time() * 1000)
        tags = {"state": tracked.state, "reason": tracked.reason, "on_front": str(tracked.on_front), _PARENT: self._run}
        run = self._begun(f"trial {tracked.number}", tags)
        entities = self._mlflow.entities
        numbers = {**tracked.measured, "seconds": tracked.seconds}
        self._asked(
            self._client.log_batch,
            run,
            metrics=[entities.Metric(name, value, now, tracked.number) for name, value in numbers.items()],
            params=[entities.Param(name, str(value)) for name, value in tracked.parameters.items()],
        )
        self._asked(self._client.set_terminated, run, "FAILED" if tracked.state == "failed" else "FINISHED")

    def end(self, code: int) -> None:
        self._asked(self._client.set_terminated, self._run, "FINISHED" if code == 0 else "KILLED")

    def _begun(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._asked(self._client.create_run, self._experiment, run_name=name, tags=dict(tags))
        return str(run.info.run_id)

    def _asked(self, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return do(*arguments, **options)
        except (self._mlflow.exceptions.MlflowException, OSError) as error:
            raise TrackingError(first_line(error)) from error


def _load() -> Open:
    import mlflow
    import mlflow.entities

    def opened(study: str, facts: Mapping[str, str]) -> Tracker:
        return _Search(mlflow, study, facts)

    return opened


TRACKERS.register("mlflow", TrackerKind(_load, "mlflow-skinny"))

"""Weights & Biases: a run a search in the project ``heretic``, in it a step for every trial.

Where to is its own to say (WANDB_MODE=offline keeps everything here, WANDB_PROJECT names another project).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

from heretic.common.errors import first_line
from heretic.observability.tracker import TRACKERS, Open, Tracked, Tracker, TrackerKind, TrackingError


class _Search:
    """See Tracker."""

    def __init__(self, wandb: Any, study: str, facts: Mapping[str, str]) -> None:
        self._wandb = wandb
        # Nothing of what the terminal shows is sent, and nothing is written there.
        settings = wandb.Settings(console="off", silent=True)
        project = os.environ.get("WANDB_PROJECT", "heretic")
        self._run = self._asked(wandb.init, project=project, name=study, config=dict(facts), settings=settings)

    def trial(self, tracked: Tracked) -> None:
        numbers = {**tracked.measured, "seconds": tracked.seconds, "on_front": int(tracked.on_front)}
        parameters = {f"plan/{name}": value for name, value in tracked.parameters.items()}
        words = {"state": tracked.state, "reason": tracked.reason}
        self._asked(self._run.log, {**numbers, **parameters, **words}, step=tracked.number)

    def end(self, code: int) -> None:
        self._asked(self._run.finish, exit_code=code)

    def _asked(self, do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return do(*arguments, **options)
        except (self._wandb.Error, OSError) as error:
            raise TrackingError(first_line(error)) from error


def _load() -> Open:
    import wandb

    def opened(study: str, facts: Mapping[str, str]) -> Tracker:
        return _Search(wandb, study, facts)

    return opened


TRACKERS.register("wandb", TrackerKind(_load, "wandb"))

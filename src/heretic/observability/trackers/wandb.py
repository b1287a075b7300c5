"""Weights & Biases: a run a search in the project ``heretic``, in it a step for every trial.

Where to is its own to say (WANDB_MODE=offline keeps everything here, WANDB_PROJECT names another project).
"""

import os
from collections.abc import Mapping
from typing import Any

from heretic.observability.tracker import TRACKERS, Open, Tracked, Tracker, TrackerKind, refusals


class _Search:
    """See Tracker."""

    def __init__(self, wandb: Any, study: str, facts: Mapping[str, str]) -> None:
        self._error = wandb.Error
        # Nothing of what the terminal shows is sent, and nothing is written there.
        settings = wandb.Settings(console="off", silent=True)
        project = os.environ.get("WANDB_PROJECT", "heretic")
        with refusals(self._error):
            self._run = wandb.init(project=project, name=study, config=dict(facts), settings=settings)

    def trial(self, tracked: Tracked) -> None:
        numbers = {**tracked.measured, "seconds": tracked.seconds, "on_front": int(tracked.on_front)}
        parameters = {f"plan/{name}": value for name, value in tracked.parameters.items()}
        words = {"state": tracked.state, "reason": tracked.reason}
        with refusals(self._error):
            self._run.log({**numbers, **parameters, **words}, step=tracked.number)

    def end(self, code: int) -> None:
        with refusals(self._error):
            self._run.finish(exit_code=code)


def _load() -> Open:
    import wandb

    def opened(study: str, facts: Mapping[str, str]) -> Tracker:
        return _Search(wandb, study, facts)

    return opened


TRACKERS.register("wandb", TrackerKind(_load, "wandb"))

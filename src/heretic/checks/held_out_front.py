"""Several trials on held-out prompts, measured as the search measures: together, as candidates of one engine.

What a chosen trial is confirmed by (longer answers, looked at more closely) is `checks.held_out`; this is what tells
the trials of a front apart by prompts that none was chosen with.
"""

from collections.abc import Sequence

from heretic.checks.held_out import HeldOutPrompts
from heretic.common.errors import TrialFailed
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions, make_engine
from heretic.passes.choose import ordinary_wanted
from heretic.results.front import evenly_spread
from heretic.results.gate import Gate
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.run.measuring import choose_passes, measure_original
from heretic.run.workbench import Workbench

MOST = 10
"""Trials that are measured so: more points of a front are not told apart by so few prompts."""


class FrontCheck:
    """The original model on held-out prompts, and an engine that measures trials there; made while it is unedited."""

    def __init__(self, bench: Workbench, held_out: HeldOutPrompts) -> None:
        """Measure the original model. Emits EngineChosen.

        Raises:
            OutOfMemoryError: Not even one prompt at a time can be measured.
        """
        # All is measured to the end: a trial that breaks a bound there is not stopped, but shown.
        settings = bench.settings.model_copy(update={"keep_at_least": 0.0, "keep_as": "bound"})
        choice = choose_passes(settings, bench.runner, held_out.sets)
        original = measure_original(settings, choice, held_out.sets, bench.readers)
        self._engine: Engine = make_engine(
            original.runner,
            bench.edits,
            bench.editor,
            original.answered,
            original.kl,
            EngineOptions(settings.candidates),
            ordinary_wanted(settings),
            choice,
        )

    def measure(self, records: Sequence[TrialRecord]) -> list[Scores]:
        """What trials show there; the model is unedited before and after.

        Raises:
            TrialFailed: One cannot be measured.
        """
        try:
            found = self._engine.measure([each.plan for each in records], [each.number for each in records], Gate())
        finally:
            self._engine.rest()
        scores = []
        for record, measurement in zip(records, found, strict=True):
            if measurement.scores is None:
                raise TrialFailed(f"trial {record.shown} could not be measured there: {measurement.reason}")
            scores.append(measurement.scores)
        return scores


def spread(front: Sequence[TrialRecord], chosen: TrialRecord | None) -> list[TrialRecord]:
    """The trials of a front that are measured: all, or so many of them from end to end and the chosen one."""
    places = list(evenly_spread(range(len(front)), MOST))
    if chosen is not None and chosen in front and (own := list(front).index(chosen)) not in places:
        # Instead of its nearest neighbour that is no end.
        places.remove(min(places[1:-1], key=lambda place: abs(place - own)))
        places.append(own)
    return [front[place] for place in sorted(places)]

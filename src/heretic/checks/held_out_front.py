"""Several trials on held-out prompts, measured as the search measures: together, as candidates of one engine.

What a chosen trial is confirmed by (longer answers, looked at more closely) is `checks.held_out`; this is what tells
the trials of a front apart by prompts that none was chosen with.
"""

from collections.abc import Sequence
from dataclasses import replace

from heretic.checks.held_out import load_held_out, load_kept_out
from heretic.common.errors import TrialFailed
from heretic.engine.engine import Engine
from heretic.engine.factory import EngineOptions, make_engine
from heretic.passes.choose import ordinary_wanted
from heretic.prompts.sets import Kept, PromptSets
from heretic.results.gate import Gate
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.run.measuring import choose_passes, measure_original
from heretic.run.workbench import Workbench

MOST = 10
"""Trials that are measured so: more points of a front are not told apart by so few prompts."""


def held_out_sets(bench: Workbench) -> PromptSets:
    """The held-out prompts in the places of those of the search.

    Raises:
        PromptError: They cannot be read.
        ConfigurationError: The settings name other prompts to measure with, but none to confirm with.
    """
    behaviors = []
    for behavior in bench.prompts.behaviors:
        baseline, target, _used = load_held_out(bench.settings, behavior)
        behaviors.append(replace(behavior, baseline_evaluation=baseline, target_evaluation=target))
    kept = [(kept.pack, load_kept_out(bench.settings, kept)[0]) for kept in bench.prompts.kept]
    return PromptSets(tuple(behaviors), tuple(Kept(pack, prompts) for pack, prompts in kept if prompts is not None))


class FrontCheck:
    """The original model on held-out prompts, and an engine that measures trials there; made while it is unedited."""

    def __init__(self, bench: Workbench) -> None:
        """Read the held-out prompts and measure the original model. Emits EngineChosen.

        Raises:
            PromptError, ConfigurationError: See `held_out_sets`.
            OutOfMemoryError: Not even one prompt at a time can be measured.
        """
        # All is measured to the end: a trial that breaks a bound there is not stopped, but shown.
        settings = bench.settings.model_copy(update={"keep_at_least": 0.0, "keep_as": "bound"})
        prompts = held_out_sets(bench)
        choice = choose_passes(settings, bench.runner, prompts)
        original = measure_original(settings, choice, prompts, bench.readers)
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
    if len(front) <= MOST:
        return list(front)
    wanted = {round(place * (len(front) - 1) / (MOST - 1)) for place in range(MOST)}
    if chosen is not None and chosen in front and (own := list(front).index(chosen)) not in wanted:
        # Instead of its nearest neighbour that is no end.
        wanted.remove(min(wanted - {0, len(front) - 1}, key=lambda place: abs(place - own)))
        wanted.add(own)
    return [front[place] for place in sorted(wanted)]

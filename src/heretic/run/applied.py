"""A trial in the weights: brought there and measured to the end, or one sentence why it cannot be used."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from heretic.common.errors import OutOfMemoryError, TrialFailed
from heretic.edits.algebra import Edit
from heretic.engine.engine import Jobs
from heretic.models.devices import is_out_of_memory
from heretic.models.loaded import LoadedModel
from heretic.models.memory import memory_ran_out
from heretic.observability.events import Warned, emit
from heretic.passes.choose import still_agrees
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.run.workbench import Workbench

SAMPLE = 16
"""Prompts of each kind that are also read by ordinary passes."""


@dataclass(frozen=True, slots=True, eq=False)
class AppliedTrial:
    """What is in the weights.

    Attributes:
        record: The trial.
        edits: What its plan stands for on this model.
        scores: Measured in the weights.
    """

    record: TrialRecord
    edits: tuple[Edit, ...]
    scores: Scores


def measured_in_weights(reference: Jobs, record: TrialRecord) -> Scores:
    """Behaviours and KL of the weights as they are, which are those of a trial."""
    return reference.present_scores(record.number, f"measuring trial {record.shown} in the weights")


def check_reading(bench: Workbench, record: TrialRecord) -> None:
    """Say it where a trial in the weights is read otherwise by ordinary passes, on a sample that the seed draws."""
    if bench.engine.reference.passes.whole:
        return  # these are ordinary
    draw = Random(bench.settings.seed)
    kinds = (bench.prompts.baseline_evaluation.prompts, bench.prompts.answered.prompts)
    sample = [prompt for kind in kinds for prompt in draw.sample(kind, min(SAMPLE, len(kind)))]
    if not still_agrees(bench.runner, [bench.runner.encode(prompt) for prompt in sample]):
        emit(
            Warned(
                f"Trial {record.shown}: ordinary passes over a sample of {len(sample)} prompts predict otherwise than "
                "those that measured it, by more than rounding; measure again with --engine inplace, and please report "
                "it."
            )
        )


@contextmanager
def usable(loaded: LoadedModel, record: TrialRecord) -> Iterator[None]:
    """Put what goes wrong while a trial is brought into the weights and measured there into a sentence.

    Raises:
        TrialFailed: It cannot be used.
    """
    try:
        yield
        return
    except TrialFailed as error:
        raise TrialFailed(f"Trial {record.shown} cannot be used because {error}; choose another one.") from error
    except (OutOfMemoryError, RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    used = memory_ran_out(loaded.device, f"measuring trial {record.shown} in the weights").used
    raise TrialFailed(
        f"Memory ran out while trial {record.shown} was brought into the weights and measured ({used}); end other "
        "programs that use it and run the same command again, which goes on with the study, or choose another trial."
    )

"""ExportContent and SavedModel: the frozen values that go into an export and come out of it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from heretic.results.capability import Capability
from heretic.results.held_out import HeldOut
from heretic.results.plan import EditPlan
from heretic.results.score import Scores
from heretic.results.trial import shown


class ExportFormat(str, Enum):
    """What is written."""

    MERGED = "merged"
    """A complete model with the edit in its weights."""
    ADAPTER = "adapter"
    """An adapter for PEFT that is loaded together with the original model."""


def serving_command(folder: str) -> str:
    """The command that serves a saved model to other programs, by OpenAI's protocol."""
    return shlex.join(["transformers", "serve", folder])


@dataclass(frozen=True, slots=True)
class ExportContent:
    """What is known about an edit: everything that the manifest and the card say.

    Attributes:
        behaviors: What was edited, e.g. ``refusal``.
        plan: What was edited.
        scores: The edited model's scores, measured after the edit was applied; None where nothing was.
        settings: The run's settings; secrets are masked before anything is written.
        direction_method: Extractor and transforms, e.g. ``mean, projected``.
        direction_provenance: JSON-ready facts about the directions: prompt fingerprints, counts, options.
        trial: Optuna's number of the trial (from 0), or None where the plan comes from elsewhere.
        search_quantization: How the weights were quantised that the search ran on, or ``none``.
        search_scores: The scores of the edit on those weights, where they are not the weights that are saved.
        adjustments: What every plan of the run was changed by, in sentences.
        held_out: What held-out prompts showed, on the weights that were searched; None where it was not measured.
        capability: What the model is able to do beside the original one; None where it was not measured.
        descriptions: What the behaviours' packs say of them in a card.
        goal: ``remove`` or ``strengthen``: what the edit does to the behaviour.
    """

    behaviors: tuple[str, ...]
    plan: EditPlan
    scores: Scores | None
    settings: Mapping[str, Any]
    direction_method: str
    direction_provenance: Mapping[str, Any] = field(default_factory=dict)
    trial: int | None = None
    search_quantization: str = "none"
    search_scores: Scores | None = None
    adjustments: tuple[str, ...] = ()
    goal: str = "remove"
    descriptions: tuple[str, ...] = ()
    held_out: HeldOut | None = None
    capability: Capability | None = None

    @property
    def shown_trial(self) -> int | None:
        """The trial's number as people are shown it: from 1."""
        return None if self.trial is None else shown(self.trial)


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A folder that is complete under its final name.

    Attributes:
        path: Absolute path.
        format: Merged model or adapter.
        file_count: Number of files.
        bytes: Size of all files.
        verified_answers: How many answers of the reloaded folder were compared with the edited model's.
    """

    path: Path
    format: ExportFormat
    file_count: int
    bytes: int
    verified_answers: int

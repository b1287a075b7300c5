"""ReportData: all that a report says, as frozen values; `collect` gathers them, `page` and `charts` show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from heretic.results.capability import Capability
from heretic.results.front import pareto_front
from heretic.results.held_out import Example, HeldOut
from heretic.results.plan import EditPlan
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class Chosen:
    """The edit that the report is about.

    Attributes:
        number: Optuna's number of its trial, from 0; None where the plan comes from elsewhere.
        plan: What was edited.
        scores: Of the weights that were saved; in a study without a saved model those of the trial.
        searched: What the search measured, where it ran on other weights than those that were saved.
        automatic: Whether nobody chose it: it is what the automatic choice would be.
    """

    number: int | None
    plan: EditPlan
    scores: Scores | None
    searched: Scores | None = None
    automatic: bool = False

    @property
    def search_scores(self) -> Scores | None:
        """The scores on the weights that the search ran on."""
        return self.searched or self.scores


@dataclass(frozen=True, slots=True)
class Importance:
    """How much of one measured number's variation each parameter of the search explains.

    Attributes:
        label: The number, as people read it.
        trials: How many trials it was computed from, evenly spread over the search.
        measured: Of how many that there are.
        shares: (parameter, share of the variation) pairs, the largest first; they add up to 1.
    """

    label: str
    trials: int
    measured: int
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class ChangedSetting:
    """A setting that differs from its default, both as text."""

    name: str
    value: str
    default: str


@dataclass(frozen=True, slots=True)
class ReportData:
    """What a report says. Whatever is missing has a sentence that says why, or is left out.

    Attributes:
        model: Name of the original model, without its folder.
        behaviors: Names of the behaviours.
        chosen: The chosen edit, or None where no trial is complete.
        records: Every finished trial of the study.
        no_records: Why there are none.
        importances: By measured number.
        no_importances: Why some or all of them are missing.
        layer_count: Layers of the model, or None where that is not known.
        quality: Of the directions by residual position (0: embeddings), as their extractor measures it.
        no_quality: Why there is none.
        direction_method: Extractor and transforms.
        examples: Prompts with answers before and after.
        held_out: What held-out prompts showed.
        capability: What both models are able to do, or None.
        front_held_out: What the search measures, of held-out prompts: of some trials, by number.
        facts: (name, text) pairs: what was run where.
        versions: (package, version) pairs.
        settings: Those that differ from the defaults.
        created: When the edit was saved, or the study last worked on; ISO 8601, or an empty string.
    """

    model: str
    behaviors: tuple[str, ...]
    chosen: Chosen | None
    records: tuple[TrialRecord, ...] = ()
    no_records: str = ""
    importances: tuple[Importance, ...] = ()
    no_importances: str = ""
    layer_count: int | None = None
    quality: tuple[float, ...] = ()
    no_quality: str = ""
    direction_method: str = ""
    examples: tuple[Example, ...] = ()
    held_out: HeldOut | None = None
    capability: Capability | None = None
    front_held_out: Mapping[int, Scores] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    settings: tuple[ChangedSetting, ...] = ()
    created: str = ""

    @property
    def chosen_number(self) -> int | None:
        """Optuna's number of the chosen trial."""
        return None if self.chosen is None else self.chosen.number

    @property
    def front(self) -> list[TrialRecord]:
        """The Pareto front, least of the first behaviour first."""
        return pareto_front(self.records)

    @property
    def stopped(self) -> tuple[TrialRecord, ...]:
        """The records of trials that were not measured to the end."""
        return tuple(record for record in self.records if record.is_stopped)

"""`--time-limit`: how much of a run's time is kept for what comes after its search, by what was measured before it."""

import time
from dataclasses import dataclass

from heretic.config import Settings
from heretic.config.checks import seconds_of
from heretic.evaluation.evaluator import Evaluator
from heretic.observability.events import BaselineMeasured, Event, ModelLoaded, SearchLimited, Warned, emit
from heretic.prompts.sets import Behavior, Kept, held_out_specification
from heretic.prompts.split import parse_split
from heretic.run.workbench import Workbench
from heretic.search.deadline import Deadline

CHECKED = 2
"""Trials of the front that are measured again."""
PASSES_OF_A_FILE = 3
"""Saving writes the weights, reads them as files, and loads them, each of which takes about as long as loading did."""
HOST_ROWS = 8
"""Rows from which on a step of a CPU takes longer with every row; elsewhere a single row takes as long as a batch."""
VERIFIED_TOKENS = 320
"""Tokens that both models write one by one when a saved folder is compared with the model."""
QUESTION_TOKENS = 30
"""A question, whose answer is one token, takes as long to read as about so many take to write."""
REPORT_SECONDS = 10.0
"""Charts take as long for every model."""
RESERVE = 1.2
"""What is kept is so many times what is predicted: other programs may come."""
QUESTION_CATEGORIES = 12
"""Categories of questions where none are named."""
_MANY_ROWS = 10**9


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run measured before its search.

    Attributes:
        load_seconds: Of loading the model.
        baseline_seconds: Of answering the evaluation prompts, and of recording the answers that KL looks at.
        baseline_tokens: Tokens that this can have written at most: prompts times their longest answer.
        alone: So many times as long as a token of a batch takes one that is written alone, at most.
    """

    load_seconds: float
    baseline_seconds: float
    baseline_tokens: int
    alone: int


@dataclass(frozen=True, slots=True)
class Planned:
    """What comes after a search.

    Attributes:
        checked: Trials that are measured again.
        confirmed_tokens: Tokens that held-out prompts' answers have at most, of one model.
        compared_tokens: Tokens of held-out prompts' answers that predictions are compared on.
        questions: That are asked of each model.
        saves: Whether the model is written, and read again.
        reports: Whether a report is written.
    """

    checked: int = 0
    confirmed_tokens: int = 0
    compared_tokens: int = 0
    questions: int = 0
    saves: bool = False
    reports: bool = False


def seconds_after_search(measured: Measured, planned: Planned) -> float:
    """How long what comes after a search takes, `RESERVE` included.

    A token costs what it did in the baseline, whose answers were written in batches by the same passes. Each confirmed
    answer is written by both models, and read by the original; each comparison has the original model's answer written
    once, and both models read it.
    """
    token = measured.baseline_seconds / max(measured.baseline_tokens, 1)
    seconds = planned.checked * measured.baseline_seconds
    written = 2 * (planned.confirmed_tokens + planned.compared_tokens + planned.questions * QUESTION_TOKENS)
    seconds += token * written
    if planned.saves:
        seconds += PASSES_OF_A_FILE * measured.load_seconds + VERIFIED_TOKENS * measured.alone * token
    if planned.reports:
        seconds += REPORT_SECONDS
    return RESERVE * seconds


class Stopwatch:
    """Remembers how long a run took for what the prediction rests on; subscribe it with `events.subscribed`."""

    def __init__(self, settings: Settings) -> None:
        self._limit = None if settings.time_limit is None else seconds_of(settings.time_limit)
        self._started = time.monotonic()
        self._load = self._baseline = 0.0

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        if isinstance(event, ModelLoaded):
            self._load = event.seconds
        elif isinstance(event, BaselineMeasured):
            self._baseline = event.seconds

    def deadline(self, bench: Workbench) -> Deadline | None:
        """When the search has to be over; None where it may take as long as it likes. Emits SearchLimited."""
        if self._limit is None:
            return None
        settings, batch_size = bench.settings, bench.runner.calibration.batch_size
        alone = min(batch_size, HOST_ROWS) if bench.loaded.device.type == "cpu" else batch_size
        kept = seconds_after_search(
            Measured(self._load, self._baseline, _baseline_tokens(bench), alone),
            planned(settings, bench.prompts.behaviors, bench.engine.is_reference, bench.prompts.kept),
        )
        deadline = Deadline(self._started + self._limit - kept)
        if settings.benchmarks or settings.hf_upload is not None:
            emit(Warned("How long benchmarks and an upload take is not known, so --time-limit leaves them out."))
        emit(SearchLimited(time.time() + deadline.left, kept, deadline.left <= 0))
        return deadline


def _baseline_tokens(bench: Workbench) -> int:
    def tokens(behavior: Evaluator) -> int:
        return len(behavior.prompts) * behavior.tokens

    settings = bench.settings
    recorded = 0 if settings.kl_mode == "first" else len(bench.prompts.baseline_evaluation) * settings.kl_tokens
    return sum(map(tokens, (*bench.behaviors, *bench.kept))) + recorded


def planned(
    settings: Settings, behaviors: tuple[Behavior, ...], in_place: bool, kept: tuple[Kept, ...] = ()
) -> Planned:
    """What the settings ask for after the search; where a person chooses, the time that is limited ends before that.

    Args:
        settings: The run's.
        behaviors: Its prompts.
        in_place: Whether trials are measured in the weights, so that none is checked but the chosen one.
        kept: Prompts whose answers have to stay; taken for as many as are held out.
    """
    checked = 0 if in_place else CHECKED
    if not settings.auto_select:
        return Planned(checked)
    target = sum(held_out_count(settings, behavior, "bad") for behavior in behaviors) if settings.confirm else 0
    target += sum(len(part.evaluation) for part in kept) if settings.confirm else 0
    baseline = sum(held_out_count(settings, behavior, "good") for behavior in behaviors) if settings.confirm else 0
    categories = len(settings.mmlu_categories) or QUESTION_CATEGORIES
    return Planned(
        max(checked, 1),
        target * settings.held_out_tokens,
        baseline * settings.kl_tokens,
        categories * settings.mmlu_samples_per_category if settings.enable_validation else 0,
        settings.auto_select_path is not None or settings.hf_upload is not None,
        settings.auto_select_path is not None and settings.report,
    )


def held_out_count(settings: Settings, behavior: Behavior, side: str) -> int:
    """How many held-out prompts a side (``good`` or ``bad``) has: by its split, else as in the search."""
    specification = held_out_specification(settings, behavior.pack, f"{side}_held_out_prompts")
    if specification is None:
        return 0
    split = parse_split(specification.split)
    if not split.needs_count and split.high is not None:
        low, high = split.bounds(_MANY_ROWS)
        return high - low
    return len(behavior.target_evaluation if side == "bad" else behavior.baseline_evaluation)

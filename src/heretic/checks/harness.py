"""Tasks of the Language Model Evaluation Harness (package lm_eval, optional) on the model that is in memory.

The harness's own defaults are kept (prompts, worked examples, no chat template), so that results can be compared with
published ones.
"""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from heretic.common.errors import ConfigurationError, HereticError, causes, did_you_mean, first_line
from heretic.passes.runner import ModelRunner
from heretic.results.capability import Benchmark
from heretic.results.intervals import CONFIDENCE, paired_interval

INSTALL_HINT = "install it with 'pip install heretic[benchmarks]' (or 'pip install lm_eval'), or leave out --benchmarks"
BOOTSTRAP_ITERATIONS = 1000
"""For the standard errors of measures that are no means."""
LARGEST_BATCH = {"cpu": 4}
"""By kind of device: the harness keeps the predictions of whole sequences, and a host out of memory raises nothing."""
LARGEST_BATCH_ELSEWHERE = 32

_HARNESS_LOGGER = "lm_eval.models.huggingface"
_NO_MEASURES = ("name", "alias", "sample_len", "sample_count")

MeasureKey = tuple[str, str, str]
"""Task, metric, and the harness's filter of answers."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of one task.

    Attributes:
        value: As the harness gives it.
        error: Its standard error, None where the harness gives none.
        count: Number of items; 0 where it is not said.
        higher_is_better: None where the harness does not say.
        items: The value of each item by the item's number, where each has one; empty for groups of tasks.
    """

    value: float
    error: float | None
    count: int
    higher_is_better: bool | None
    items: Mapping[int, float]


def check_benchmarks(names: Sequence[str]) -> None:
    """See that tasks can be run, which fetches their data.

    Args:
        names: Of tasks, groups or tags, or paths of task files.

    Raises:
        ConfigurationError: The harness is not installed, has no such task, cannot load it, or it is of a kind that
            cannot be run here.
    """
    manager = _task_manager()
    for name in names:
        if name not in manager.all_tasks and not Path(name).is_file():
            hint = did_you_mean(name, manager.all_tasks) or "'lm_eval ls tasks' lists all."
            raise ConfigurationError(f"benchmarks names {name}, which is no task of lm_eval; {hint}")
    try:
        tasks = manager.load(list(names))["tasks"]
    except _loading_errors() as error:
        raise ConfigurationError(
            f"The tasks {', '.join(names)} cannot be loaded ({first_line(causes(error)[-1])}); check the network, or "
            "leave them out of --benchmarks."
        ) from error
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False):
            raise ConfigurationError(
                f"The task {name} runs code that the model writes, which Heretic never does; leave it out of "
                "--benchmarks."
            )
        if getattr(task, "MULTIMODAL", False):
            raise ConfigurationError(
                f"The task {name} needs images or sound, which are not supported; leave it out of --benchmarks."
            )


def _task_manager() -> Any:
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigurationError(
            f"benchmarks needs the package lm_eval, which cannot be imported ({first_line(error)}); {INSTALL_HINT}."
        ) from error
    return TaskManager()


def run_benchmarks(runner: ModelRunner, names: Sequence[str], limit: int | None) -> dict[MeasureKey, Measure]:
    """Run tasks on the model as it is now.

    Args:
        runner: The model; its batch size is an upper bound.
        names: As in `check_benchmarks`.
        limit: Only the first so many items of each task.

    Raises:
        ConfigurationError: As `check_benchmarks`.
        HereticError: The harness fails; the message quotes it.
        RuntimeError: Memory ran out, or whatever else the model raises.
    """
    manager = _task_manager()
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM

    loaded = runner.loaded
    largest = LARGEST_BATCH.get(loaded.device.type, LARGEST_BATCH_ELSEWHERE)
    with _only_errors(_HARNESS_LOGGER):
        wrapped = HFLM(
            pretrained=loaded.model,
            # The harness sets the padding of what it gets.
            tokenizer=copy.deepcopy(loaded.tokenizer),
            batch_size=min(runner.calibration.batch_size, largest),
        )
    try:
        with _no_commit_asked(evaluator):
            results = evaluator.simple_evaluate(
                wrapped,
                tasks=list(names),
                limit=limit,
                bootstrap_iters=BOOTSTRAP_ITERATIONS,
                log_samples=True,
                task_manager=manager,
            )
    except _loading_errors() as error:
        raise HereticError(
            f"The Language Model Evaluation Harness failed ({type(error).__name__}: {first_line(error)}); leave "
            f"{', '.join(names)} out of --benchmarks."
        ) from error
    return measures_of(results)


@contextmanager
def _no_commit_asked(evaluator: Any) -> Iterator[None]:
    """Keep the harness from asking git for the commit of the working folder, which is none of its own.

    Outside of a repository git would print an error to the terminal.
    """
    name = "get_git_commit_hash"
    before = getattr(evaluator, name, None)
    if before is not None:
        setattr(evaluator, name, lambda: None)
    try:
        yield
    finally:
        if before is not None:
            setattr(evaluator, name, before)


@contextmanager
def _only_errors(name: str) -> Iterator[None]:
    """Keep a logger's warnings back, here those about getting a model instead of its name, which is meant."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def measures_of(results: Mapping[str, Any]) -> dict[MeasureKey, Measure]:
    """The numbers in what the harness returns; pure.

    Its tables have ``metric,filter`` and ``metric_stderr,filter`` as keys, and each item its metrics by name.
    """
    measures = {}
    for task, table in results["results"].items():
        better = results.get("higher_is_better", {}).get(task) or {}
        counts = results.get("n-samples", {}).get(task, {})
        for key, value in table.items():
            metric, _comma, filter_name = key.partition(",")
            if key in _NO_MEASURES or metric.endswith("_stderr") or not _is_number(value):
                continue
            error = table.get(f"{metric}_stderr,{filter_name}")
            count = counts.get("effective", table.get("sample_len", 0))
            items = _items(results.get("samples", {}).get(task, ()), metric, filter_name)
            measures[task, metric, filter_name] = Measure(
                float(value), float(error) if _is_number(error) else None, int(count), better.get(metric), items
            )
    return measures


def _items(samples: Sequence[Mapping[str, Any]], metric: str, filter_name: str) -> dict[int, float]:
    measured = [sample for sample in samples if sample.get("filter", filter_name) == filter_name and metric in sample]
    if not all(_is_number(sample[metric]) for sample in measured):
        return {}
    return {int(sample["doc_id"]): float(sample[metric]) for sample in measured}


def _is_number(value: Any) -> bool:
    # Also truth values and NumPy's numbers.
    return not isinstance(value, (str, complex)) and hasattr(value, "__float__")


def compare_measures(base: Mapping[MeasureKey, Measure], edited: Mapping[MeasureKey, Measure]) -> tuple[Benchmark, ...]:
    """Every number that both runs have; pure."""
    compared = []
    for key, before in base.items():
        after = edited.get(key)
        if after is None:
            continue
        compared.append(
            Benchmark(
                *key,
                before.count,
                before.higher_is_better,
                before.value,
                before.error,
                after.value,
                after.error,
                _interval(before, after),
            )
        )
    return tuple(compared)


def _interval(before: Measure, after: Measure) -> tuple[float, float] | None:
    """Of the difference, where both numbers are means over the same items."""
    if len(before.items) < 2 or before.items.keys() != after.items.keys():
        return None
    for measure in (before, after):
        if abs(fmean(measure.items.values()) - measure.value) > 1e-6:
            return None
    pairs = [(value, after.items[item]) for item, value in before.items.items()]
    if all(value in (0.0, 1.0) for pair in pairs for value in pair):
        counts = [pairs.count(pair) for pair in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0))]
        return paired_interval(*counts)
    if len({second - first for first, second in pairs}) == 1:
        # Student's interval has no width without variance.
        return None
    second, first = [pair[1] for pair in pairs], [pair[0] for pair in pairs]
    from scipy.stats import ttest_rel

    interval = ttest_rel(second, first).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def _loading_errors() -> tuple[type[Exception], ...]:
    # The datasets library takes more than a second to import.
    from heretic.prompts.tables import READING_ERRORS

    return (*READING_ERRORS, ImportError, LookupError)

"""What a capability check found as cells of tables, from its JSON; card and report show the same. Pure."""

from collections.abc import Mapping
from typing import Any

QUESTIONS_HEADER = ("Category", "Questions", "Base model", "Edited model", "Difference (95 % interval)")
BENCHMARKS_HEADER = ("Task", "Metric", "Items", "Base model", "Edited model", "Difference (95 % interval)")
OVERALL = "overall"


def question_rows(questions: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """One row a category, as in QUESTIONS_HEADER, and one for all of them.

    Args:
        questions: The part ``questions`` of `capability.CapabilityResult.to_json`.
    """
    return [_share_row(own) for own in (*questions["categories"], questions["overall"])]


def benchmark_rows(measures: list[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row a number of every task, as in BENCHMARKS_HEADER.

    Args:
        measures: The part ``benchmarks`` of `capability.CapabilityResult.to_json`.
    """
    return [_measure_row(own) for own in measures]


def _share_row(own: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = own["interval"]
    return (
        own["name"],
        str(own["n"]),
        f"{100 * own['base']:.1f} %",
        f"{100 * own['edited']:.1f} %",
        f"{100 * own['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
    )


def _measure_row(own: Mapping[str, Any]) -> tuple[str, ...]:
    interval = own["interval"]
    spread = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
    filtered = "" if own["filter"] in ("", "none") else f", {own['filter']}"
    better = {True: ", higher is better", False: ", lower is better"}.get(own["higher_is_better"], "")
    return (
        own["task"],
        f"{own['metric']}{filtered}{better}",
        str(own["n"] or ""),
        _with_error(own["base"], own["base_error"]),
        _with_error(own["edited"], own["edited_error"]),
        f"{own['difference']:+.4f}{spread}",
    )


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}" + ("" if error is None else f" +- {error:.4f}")

"""What the model card says of abilities, made from the JSON of a capability check."""

from collections.abc import Mapping, Sequence
from typing import Any

from heretic.export.redact import redact


def capability_lines(result: Mapping[str, Any]) -> list[str]:
    """Markdown: a section with a table for multiple-choice questions and one for benchmarks, as far as there are any.

    Args:
        result: As from ``capability.CapabilityResult.to_json``.

    Returns:
        Lines of the card, none where nothing was measured.
    """
    questions, measures = result["questions"], result["benchmarks"]
    if questions is None and not measures:
        return []
    lines = ["## What the model can still do", ""]
    if questions is not None:
        lines += _question_lines(questions)
    if measures:
        lines += _benchmark_lines(measures, result["benchmark_limit"])
    return lines[:-1]


def _question_lines(questions: Mapping[str, Any]) -> list[str]:
    overall = questions["overall"]
    rows = [_share_row(own) for own in (*questions["categories"], {**overall, "name": "**all**"})]
    counts = sorted(set(questions["few_shot"].values()))
    examples = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [
        f"Multiple-choice questions of {_code(questions['source'])} with four choices, after {examples} worked "
        "examples; the answer is the letter that the model finds most likely.",
        "",
        *_table(("Category", "Questions", "Base model", "Edited model", "Difference (95 % interval)"), rows),
        "",
        f"{overall['became_wrong']} answers became wrong and {overall['became_right']} right (exact McNemar test: p = "
        f"{overall['p_value']:.2g}). Differences are in percentage points, their intervals are those "
        "of pairs (Newcombe's method); guessing gives 25 %.",
        "",
    ]


def _share_row(own: Mapping[str, Any]) -> tuple[str, ...]:
    low, high = own["interval"]
    name = own["name"] if own["name"].startswith("**") else _code(own["name"])
    return (
        name,
        str(own["n"]),
        f"{100 * own['base']:.1f} %",
        f"{100 * own['edited']:.1f} %",
        f"{100 * own['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
    )


def _benchmark_lines(measures: Sequence[Mapping[str, Any]], limit: int | None) -> list[str]:
    some = f", the first {limit} items of each task" if limit is not None else ""
    return [
        f"Tasks of the Language Model Evaluation Harness with its own defaults{some}. Behind +- stand standard errors.",
        "",
        *_table(
            ("Task", "Metric", "Items", "Base model", "Edited model", "Difference (95 % interval)"),
            [_measure_row(own) for own in measures],
        ),
        "",
    ]


def _measure_row(own: Mapping[str, Any]) -> tuple[str, ...]:
    interval = own["interval"]
    spread = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
    filtered = "" if own["filter"] in ("", "none") else f", {own['filter']}"
    better = {True: ", higher is better", False: ", lower is better"}.get(own["higher_is_better"], "")
    return (
        _code(own["task"]),
        _code(f"{own['metric']}{filtered}") + better,
        str(own["n"] or ""),
        _with_error(own["base"], own["base_error"]),
        _with_error(own["edited"], own["edited_error"]),
        f"{own['difference']:+.4f}{spread}",
    )


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}" + ("" if error is None else f" +- {error:.4f}")


def _code(text: str) -> str:
    """Foreign text as inline code that cannot break out of its line or table cell."""
    cleaned = " ".join(redact(text).replace("`", "'").replace("|", "/").split())
    return f"`{cleaned}`"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (header, tuple("---" for _ in header), *rows)]

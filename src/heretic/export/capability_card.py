"""What the model card says of abilities, made from the JSON of a capability check."""

from collections.abc import Mapping
from typing import Any

from heretic.export.markdown import code, table
from heretic.results.capability_text import BENCHMARKS_HEADER, OVERALL, QUESTIONS_HEADER, benchmark_rows, question_rows


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
    rows = [(f"**{name}**" if name == OVERALL else code(name), *rest) for name, *rest in question_rows(questions)]
    counts = sorted(set(questions["few_shot"].values()))
    examples = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return [
        f"Multiple-choice questions of {code(questions['source'])} with four choices, after {examples} worked "
        "examples; the answer is the letter that the model finds most likely.",
        "",
        table(QUESTIONS_HEADER, rows),
        "",
        f"Answers that became wrong: {overall['became_wrong']}, right: {overall['became_right']} (exact McNemar test: "
        f"p = {overall['p_value']:.2g}). Differences are in percentage points, their intervals are those "
        "of pairs (Newcombe's method); guessing gives 25 %.",
        "",
    ]


def _benchmark_lines(measures: list[Mapping[str, Any]], limit: int | None) -> list[str]:
    some = f", the first {limit} items of each task" if limit is not None else ""
    rows = [(code(task), code(metric), *rest) for task, metric, *rest in benchmark_rows(measures)]
    return [
        f"Tasks of the Language Model Evaluation Harness with its own defaults{some}. Behind +- stand standard errors.",
        "",
        table(BENCHMARKS_HEADER, rows),
        "",
    ]

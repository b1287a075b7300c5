"""The console's rows about what a model is able to do: a small table of shares before and after the edit."""

from collections.abc import Mapping
from typing import Any

from heretic.interface.formatting import clean_line, duration, plural
from heretic.interface.rows import Row, rows
from heretic.observability import events

_NAME_WIDTH = 22
_WIDTH = 8


@rows.register
def _(event: events.CapabilityStarted) -> list[Row]:
    asked = []
    if event.questions:
        asked.append(f"{event.which} model: {plural(event.questions, 'question')} of {clean_line(event.source)}")
    if event.benchmarks:
        asked.append(f"{event.which} model: {', '.join(map(clean_line, event.benchmarks))}")
    return [Row("Capability", text) for text in asked]


@rows.register
def _(event: events.CapabilityMeasured) -> list[Row]:
    shown = [*_question_rows(event.result["questions"]), *_benchmark_rows(event.result["benchmarks"])]
    return [*shown, Row("", f"measured in {duration(event.seconds)}")]


def _question_rows(questions: Mapping[str, Any] | None) -> list[Row]:
    if questions is None:
        return []
    header = _columns("right answers", "base", "edited", "difference (95 %)")
    overall = questions["overall"]
    changes = (
        f"{overall['became_wrong']} of {plural(overall['n'], 'answer')} became wrong, "
        f"{overall['became_right']} became right"
    )
    lines = [line for own in (*questions["categories"], overall) for line in _share_columns(own)]
    return [
        Row("Capability", header),
        *(Row("", line) for line in lines),
        Row("", changes),
    ]


def _share_columns(own: Mapping[str, Any]) -> list[str]:
    low, high = own["interval"]
    difference = f"{100 * own['difference']:+6.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return _lines(own["name"], f"{100 * own['base']:.1f} %", f"{100 * own['edited']:.1f} %", difference)


def _benchmark_rows(measures: list[Mapping[str, Any]]) -> list[Row]:
    if not measures:
        return []
    header = _columns("benchmark", "base", "edited", "difference (95 %)")
    return [Row("Capability", header), *(Row("", line) for own in measures for line in _measure_columns(own))]


def _measure_columns(own: Mapping[str, Any]) -> list[str]:
    difference = f"{own['difference']:+6.3f}"
    if own["interval"] is not None:
        low, high = own["interval"]
        difference += f" ({low:+.3f} to {high:+.3f})"
    elif own["base_error"] is not None and own["edited_error"] is not None:
        difference += f" (+-{own['base_error']:.3f}, +-{own['edited_error']:.3f})"
    return _lines(measure_name(own), f"{own['base']:.3f}", f"{own['edited']:.3f}", difference)


def measure_name(own: Mapping[str, Any]) -> str:
    """``arc_easy acc_norm``; the harness's filter only where it is one."""
    filtered = "" if own["filter"] in ("", "none") else f" ({own['filter']})"
    return f"{own['task']} {own['metric']}{filtered}"


def _lines(name: str, base: str, edited: str, difference: str) -> list[str]:
    """The columns, with a name that is too long for its own on a line before."""
    if len(clean_line(name)) <= _NAME_WIDTH:
        return [_columns(name, base, edited, difference)]
    return [clean_line(name), _columns("", base, edited, difference)]


def _columns(name: str, base: str, edited: str, difference: str) -> str:
    return f"{clean_line(name):<{_NAME_WIDTH}}{base:>{_WIDTH}}{edited:>{_WIDTH}}  {difference}"

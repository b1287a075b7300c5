"""The rows of the report's table of abilities, from the JSON of a capability check. Pure."""

from collections.abc import Mapping
from typing import Any

HEADER = ("Measured", "Items", "Base model", "Edited model", "Difference (95 % interval)")


def capability_rows(result: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    """One row a category of questions, one for all of them, and one a number of every benchmark.

    Args:
        result: As from ``capability.CapabilityResult.to_json``.

    Raises:
        KeyError: It is no such result; also TypeError and ValueError.
    """
    questions = result["questions"]
    shares = [] if questions is None else [*questions["categories"], questions["overall"]]
    rows = [
        (
            own["name"].replace("_", " "),
            str(own["n"]),
            f"{100 * own['base']:.1f} %",
            f"{100 * own['edited']:.1f} %",
            f"{100 * own['difference']:+.1f} ({100 * own['interval'][0]:+.1f} to {100 * own['interval'][1]:+.1f})",
        )
        for own in shares
    ]
    rows += [_measure_row(own) for own in result["benchmarks"]]
    return tuple(dict(zip(HEADER, row, strict=True)) for row in rows)


def _measure_row(own: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    interval = own["interval"]
    spread = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
    return (
        f"{own['task']}, {own['metric']}",
        str(own["n"] or ""),
        f"{own['base']:.4f}",
        f"{own['edited']:.4f}",
        f"{own['difference']:+.4f}{spread}",
    )

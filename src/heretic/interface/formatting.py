"""Numbers, durations and sizes as plain readable strings; pure, so that all lines agree."""

import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from rich.filesize import decimal

from heretic.common.output import clean as clean
from heretic.common.output import clean_line as clean_line
from heretic.results.tables import Table
from heretic.results.words import plural as plural

_NARROWEST_NAME = 12
"""Columns that a table leaves to its names; where there are fewer, its other columns are folded too."""
_NUMBER_IN_PATH = re.compile(r"(?<![A-Za-z0-9_])\d+(?![A-Za-z0-9_])")


@dataclass(frozen=True, slots=True)
class Row:
    """One fact: the label stands in the left column, empty where the row goes on with the label above.

    Attributes:
        label: What it is about.
        text: The fact.
        table: Stands there instead of the text.
    """

    label: str
    text: str = ""
    table: Table | None = None

    @property
    def brief(self) -> "Row":
        """The row without what its table says more than is asked for first."""
        return self if self.table is None else replace(self, table=self.table.brief)

    def lines(self, label: str, indent: int, width: int | None) -> list[str]:
        """The row below others, under the label that is left to show; see `hang`."""
        if self.table is None:
            return hang(label, self.text, indent, width)
        lines = laid_out(self.table, None if width is None else width - indent)
        return [f"{'' if place else label:<{indent}}{line}".rstrip() for place, line in enumerate(lines)]


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``1.8 s``, ``1 min 20 s``, ``2 h 05 min``."""
    # Compared after rounding, so that 59.96 does not become "60.0 s".
    if round(seconds, 1) < 60:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """Seconds as a clock of steady width: ``0:42``, ``1:02:07``."""
    text = str(timedelta(seconds=max(int(seconds), 0)))
    return text.removeprefix("0:").removeprefix("0") if text.startswith("0:") else text


def size(count: int) -> str:
    """Bytes with decimal units: ``812.0 kB``, ``312.4 MB``, ``1.2 GB``."""
    return "1 byte" if count == 1 else decimal(count)


def dollars(amount: float) -> str:
    """An amount of money: ``$0.71``, ``$12``; with the cents that matter."""
    return f"${amount:.0f}" if amount >= 100 else f"${amount:.2f}"


def large_count(count: int) -> str:
    """Parameters of a model with three digits: ``4.1 M``, ``494 M``, ``4.0 B``."""
    for unit, divisor in (("B", 1_000_000_000), ("M", 1_000_000), ("K", 1_000)):
        # 999.5 M is written as 1.0 B, not as 1000 M.
        if count >= 0.9995 * divisor:
            amount = count / divisor
            return f"{amount:.1f} {unit}" if amount < 99.95 else f"{amount:.0f} {unit}"
    return str(count)


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a long text; beginning and end tell most (a setting's source stands at the end)."""
    if len(text) <= width:
        return text
    tail = width // 3
    return f"{text[: width - tail - 5]} ... {text[-tail:]}"


def pairs(values: Mapping[str, str]) -> str:
    """``name=value`` pairs on one line."""
    return ", ".join(f"{clean_line(name)}={clean_line(value)}" for name, value in values.items())


def hang(label: str, text: str, indent: int, width: int | None) -> list[str]:
    """A label, then text wrapped to `width` columns, with the following lines under the first word of the text.

    Words are never broken, since paths and commands are copied from here.

    Args:
        label: Goes into the first `indent` columns of the first line.
        text: May have several lines.
        indent: Columns before the text.
        width: Columns of the page, or None to leave lines as long as they are (a pipe, where lines are searched).
    """
    lines: list[str] = []
    for line in text.expandtabs(4).splitlines() or [""]:
        if width is None:
            lines.append(line)
        else:
            wrapped = textwrap.wrap(line, max(width - indent, 20), break_long_words=False, break_on_hyphens=False)
            lines.extend(wrapped or [""])
    starts = [f"{label:<{indent}}"] + [" " * indent] * (len(lines) - 1)
    return [(start + line).rstrip() for start, line in zip(starts, lines, strict=True)]


def laid_out(table: Table, width: int | None = None) -> list[str]:
    """A table in aligned columns, its headings first; `width` is that of the page, or None.

    A name that leaves the numbers no room is folded beside them, and where that is not enough they are folded as well.
    """
    # Commands that print no table need none of it.
    from rich.console import Console
    from rich.table import Column
    from rich.table import Table as Grid
    from rich.text import Text

    lines = [(" ".join(table.header[: table.names]), list(table.header[table.names :]))]
    for row in table.rows:
        cells = [clean_line(cell) for cell in row.cells]
        name = " ".join(cells[: table.names])
        lines.append((f"  {name}" if row.is_part else name, [] if row.is_group else cells[table.names :]))
    values = [cells for _name, cells in lines if cells]
    widths = [max(map(len, column)) for column in zip(*values, strict=True)]
    # Text is read from the left, numbers are compared from the right.
    left = bool(values) and any(" " in cells[-1] for cells in values[1:])
    longest = max(len(name) for name, _cells in lines)
    room = longest if width is None else width - sum(widths) - 2 * len(widths)
    fits = room >= min(longest, _NARROWEST_NAME)
    grid = Grid.grid(Column(overflow="fold"), padding=(0, 2, 0, 0))
    for place in range(len(widths)):
        is_text = left and place == len(widths) - 1
        grid.add_column(justify="left" if is_text else "right", no_wrap=fits, overflow="fold")
    for name, cells in lines:
        grid.add_row(*map(Text, (_folded(name, max(room, _NARROWEST_NAME)), *cells)))
    console = Console(file=io.StringIO(), width=width or longest + sum(widths) + 2 * len(widths), color_system=None)
    with console.capture() as capture:
        console.print(grid)
    return [line.rstrip() for line in capture.get().splitlines()]


def _folded(name: str, width: int) -> str:
    """A name with line breaks behind its words, a word being what ends with a space, an underscore or a slash."""
    lines = [""]
    for word in re.findall(r".+?(?:[\s_/]+|$)", name):
        if lines[-1].strip() and len(lines[-1] + word.rstrip()) > width:
            lines.append("  " if name.startswith("  ") else "")
        lines[-1] += word
    return "\n".join(lines)


def group_by_reason(entries: Sequence[str]) -> list[str]:
    """Uneditable modules, with the same module of all layers and the same reason joined into one line.

    An entry reads ``path: reason``; numbers in the path (layers, experts) become ``*``.
    """
    counts: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        path, separator, reason = entry.partition(": ")
        pattern = _NUMBER_IN_PATH.sub("*", path) if separator else path
        counts.setdefault((pattern, reason), []).append(path)
    lines = []
    for (pattern, reason), paths in counts.items():
        name = paths[0] if len(paths) == 1 else f"{pattern} ({len(paths)})"
        lines.append(clean_line(f"{name}: {reason}" if reason else name))
    return lines

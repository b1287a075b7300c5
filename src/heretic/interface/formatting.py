"""Numbers, durations, sizes and foreign text as plain readable strings; pure, so that all lines agree."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich.filesize import decimal

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_NUMBER_IN_PATH = re.compile(r"(?<![A-Za-z0-9_])\d+(?![A-Za-z0-9_])")


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


def large_count(count: int) -> str:
    """Parameters of a model with three digits: ``4.1 M``, ``494 M``, ``4.0 B``."""
    for unit, divisor in (("B", 1_000_000_000), ("M", 1_000_000), ("K", 1_000)):
        # 999.5 M is written as 1.0 B, not as 1000 M.
        if count >= 0.9995 * divisor:
            amount = count / divisor
            return f"{amount:.1f} {unit}" if amount < 99.95 else f"{amount:.0f} {unit}"
    return str(count)


def plural(count: int, noun: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def ratio(count: float, total: int) -> str:
    """``3/100``, with the count as wide as the total, so that a column of them lines up."""
    return f"{count:{len(str(total))}.0f}/{total}"


def kl_text(value: float) -> str:
    """A KL divergence in nats with four decimals."""
    return f"{value:.4f}"


def trial_number(number: int) -> int:
    """A trial's number as shown: Optuna counts from 0, people from 1."""
    return number + 1


def clean(text: str) -> str:
    """Text from models, files and settings without control characters, which could garble the terminal."""
    return _CONTROL.sub(
        lambda match: match.group().encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n")
    )


def clean_line(text: str) -> str:
    r"""Like `clean`, on one line: a line break becomes ``\n``."""
    return clean(text).replace("\n", "\\n").replace("\t", " ")


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

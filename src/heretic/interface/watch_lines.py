"""Lines about how a run runs rather than what it finds: speed, memory, and what libraries say."""

from collections.abc import Mapping

from heretic.interface.formatting import Row, clean_line, duration, plural, shorten, size
from heretic.observability import events
from heretic.observability.fields import LEVELS, level_of
from heretic.results.trial import shown

_QUIET = ("transformers", "huggingface_hub")
"""Libraries whose failures are put into words, and whose warnings are of no use to most people."""
_FOR_DEVELOPERS = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "ResourceWarning")
_LIBRARY_WIDTH = 400


def detail_rows(event: events.Event) -> list[Row]:
    """What ``--log-level debug`` adds to the rows of an event."""
    if isinstance(event, events.BatchMeasured):
        speed = f"{event.tokens_per_second:.0f} tokens/s"
        first = f"{plural(event.trials, 'trial')} in {duration(event.seconds)}, {speed}"
        return [Row("Batch", first), *memory_rows("", event.memory)]
    if isinstance(event, events.MemoryRanOut):
        return [Row("Out of memory", clean_line(event.doing)), *memory_rows("", event.memory)]
    if isinstance(event, events.TrialRaised):
        numbers = ", ".join(str(shown(number)) for number in event.numbers)
        return [Row("Raised", f"trial {numbers}"), *(Row("", clean_line(line)) for line in event.where.splitlines())]
    if isinstance(event, events.RunEnded):
        return [Row("Ended", f"after {duration(event.seconds)} with exit code {event.exit_code}")]
    return []


def memory_rows(label: str, use: Mapping[str, Mapping[str, int]]) -> list[Row]:
    """A row a place, the first with the label."""
    rows: list[Row] = []
    for place, amounts in use.items():
        parts = [f"{size(amounts['used_bytes'])} used"]
        if "peak_bytes" in amounts:
            parts.append(f"at most {size(amounts['peak_bytes'])}")
        parts.append(f"{size(amounts['available_bytes'])} free")
        rows.append(Row("" if rows else label, f"{clean_line(place)} memory: {', '.join(parts)}"))
    return rows


def library_text(event: events.LibraryLogged, level: int) -> str:
    """What the terminal shows of a library's message; empty where it is left to the log file."""
    needed = LEVELS["warning"]
    quiet = event.library.partition(".")[0] in _QUIET or event.message.startswith(_FOR_DEVELOPERS)
    if quiet and level > LEVELS["debug"]:
        needed = LEVELS["error"]
    if level_of(event) < needed:
        return ""
    first = next((line.strip() for line in event.message.splitlines() if line.strip()), "")
    name = "" if event.library == "py.warnings" else f"{event.library}: "
    return shorten(clean_line(f"{name}{first}"), _LIBRARY_WIDTH)

"""Pieces of the card's markdown."""

from collections.abc import Sequence

from heretic.export.redact import redact


def code(text: str) -> str:
    """Foreign text as inline code that cannot break out of its line or table cell."""
    cleaned = " ".join(redact(text).replace("`", "'").replace("|", "/").split())
    return f"`{cleaned}`"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, line by line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

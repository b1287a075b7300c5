"""Pieces of the card's markdown."""

from heretic.export.redact import redact
from heretic.results.tables import Table


def code(text: str) -> str:
    """Foreign text as inline code that cannot break out of its line or table cell."""
    cleaned = " ".join(redact(text).replace("`", "'").replace("|", "/").split())
    return f"`{cleaned}`"


def table(content: Table, foreign_names: bool = False) -> str:
    """A table, line by line; of names that may be anybody's, nothing is taken for markdown."""
    width = len(content.header)
    lines = [content.header, ("---",) * width]
    for row in content.rows:
        name, *rest = (" ".join(redact(cell).replace("|", "/").split()) for cell in row.cells)
        if row.is_group:
            lines.append((f"**{name}**", *("",) * (width - 1)))
        elif row.is_marked:
            lines.append((f"**{name}**", *rest))
        elif foreign_names:
            lines.append((*map(code, row.cells[: content.names]), *row.cells[content.names :]))
        else:
            lines.append((name, *rest))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

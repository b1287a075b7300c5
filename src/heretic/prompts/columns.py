"""Which column of a table holds the prompts, and what a cell of it says."""

from collections.abc import Mapping, Sequence
from typing import Any

from heretic.common.errors import PromptError

TEXT_COLUMNS = ("text", "prompt", "instruction", "question", "user")
"""Columns that are taken where none is named and several hold text, in this order."""

_USER = ("user", "human")


def choose_column(name: str, row: Mapping[str, Any], requested: str | None) -> str:
    """The column that holds the prompts.

    Args:
        name: The dataset, for messages.
        row: Columns with an example of their cells.
        requested: The column that the user named, or None: then the only one that holds text or conversations, or one
            of TEXT_COLUMNS.

    Raises:
        PromptError: The named column is not there or holds something else, or none can be told from the others.
    """
    columns = ", ".join(row)
    readable = [column for column, cell in row.items() if _is_readable(cell)]
    if requested is not None:
        if requested not in row:
            raise PromptError(f"{name} has no column {requested}; it has {columns}: set 'column' to one of them.")
        if requested not in readable:
            raise PromptError(
                f"the column {requested} of {name} holds neither text nor conversations; it has {columns}: set "
                "'column' to another one."
            )
        return requested
    if len(readable) == 1:
        return readable[0]
    for column in TEXT_COLUMNS:
        if column in readable:
            return column
    raise PromptError(f"{name} has the columns {columns}; set 'column' to the one that holds the prompts.")


def _is_readable(cell: Any) -> bool:
    return isinstance(cell, str) or _turns(cell) is not None


def _turns(cell: Any) -> Sequence[Mapping[str, Any]] | None:
    """The turns of a conversation, or None for another kind of cell."""
    if isinstance(cell, Mapping) and cell and all(isinstance(values, Sequence) for values in cell.values()):
        # How older versions of the datasets library store a list of records.
        cell = [dict(zip(cell, values, strict=True)) for values in zip(*cell.values(), strict=False)]
    if not isinstance(cell, Sequence) or isinstance(cell, str) or not cell:
        return None
    return cell if all(isinstance(turn, Mapping) and ({"role", "from"} & set(turn)) for turn in cell) else None


def user_text(cell: Any) -> str:
    """What a cell asks: its text, or the first user message of its conversation; empty where there is none."""
    turns = _turns(cell)
    if turns is None:
        return "" if cell is None else str(cell)
    for turn in turns:
        if turn.get("role", turn.get("from")) in _USER:
            return _content_text(turn.get("content", turn.get("value")))
    return ""


def _content_text(content: Any) -> str:
    """Text of a message, whose content may be a list of typed parts."""
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(part.get("text") or "") for part in content)

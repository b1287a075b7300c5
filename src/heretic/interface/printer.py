"""What further commands print: lines and labelled rows for people, JSON for scripts."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from heretic.common.output import printable
from heretic.export.redact import redact
from heretic.interface.formatting import Row, clean_line, hang
from heretic.interface.progress import Steps
from heretic.observability.events import subscribed
from heretic.observability.steps import step, telling

LABEL_WIDTH = 15
"""Columns of the labels on the left."""
_WIDEST = 100
"""Columns beyond which lines are hard to read, however wide the terminal is."""


def make_console() -> Console:
    """A console on standard output that never adds colours, boxes, emoji or highlighting of its own accord."""
    return Console(markup=False, highlight=False, emoji=False, safe_box=True)


class Printer:
    """Prints to a console, line by line, only what it can show: no control characters, no letters that it lacks."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = make_console() if console is None else console

    @property
    def width(self) -> int | None:
        """Columns of a page; None where lines are not wrapped, since they are not read in a terminal."""
        return min(self.console.width, _WIDEST) if self.console.is_terminal else None

    def line(self, text: str = "") -> None:
        """Print one line."""
        self.console.print(Text(printable(clean_line(text), self.console.encoding)), soft_wrap=True)

    def text(self, text: str, indent: int = 0) -> None:
        """Print text, wrapped in a terminal."""
        for line in hang("", clean_line(text), indent, self.width):
            self.line(line)

    def row(self, label: str, text: str) -> None:
        """Print one fact; the label is empty where it goes on with the one above."""
        self.rows([Row(label, clean_line(text))])

    def rows(self, rows: Iterable[Row]) -> None:
        """Print facts."""
        for line in self._lines(rows):
            self.line(line)

    def pages(self, pages: Iterable[Iterable[Row]]) -> None:
        """Print facts as they change: in a terminal in the place of those before, elsewhere after a blank line."""
        if not self.console.is_terminal:
            for number, page in enumerate(pages):
                if number:
                    self.line()
                self.rows(page)
            return
        with Live(console=self.console, auto_refresh=False) as live:
            for page in pages:
                lines = (printable(clean_line(line), self.console.encoding) for line in self._lines(page))
                live.update(Text("\n".join(lines), no_wrap=True), refresh=True)

    def json(self, value: Any) -> None:
        """Print one JSON object on a line of its own, without secrets."""
        self.console.file.write(redact(json.dumps(value, ensure_ascii=True, allow_nan=False)) + "\n")
        self.console.file.flush()

    @contextmanager
    def reading(self, total: int) -> Iterator[Callable[[int], None]]:
        """Show how far reading so many bytes is; gives what is called with every number of bytes read."""
        with self.steps(), step("reading", total, "bytes") as progress:
            yield progress.advance

    @contextmanager
    def steps(self) -> Iterator[None]:
        """In the with-block steps are shown: in a terminal as a bar, elsewhere as a line from time to time."""
        with Steps(self.console, self.line) as bar, subscribed(bar, steps=True), telling():
            yield

    def _lines(self, rows: Iterable[Row]) -> Iterator[str]:
        for row in rows:
            yield from row.lines(row.label, LABEL_WIDTH, self.width)

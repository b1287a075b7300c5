"""ConsoleReporter: turns a run's events into calm, plain lines that read well in a terminal, a pipe and a log file."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.text import Text

from heretic.common.output import printable
from heretic.interface import lines, score_lines
from heretic.interface.formatting import Row, clean, clean_line, hang, plural
from heretic.interface.lines import loading_hint, rows
from heretic.interface.printer import LABEL_WIDTH, make_console
from heretic.interface.progress import Steps
from heretic.interface.score_lines import parameter_text, trial_line
from heretic.interface.watch_lines import detail_rows, library_text
from heretic.observability import events
from heretic.observability.fields import LEVELS, level_of
from heretic.results.front import Standing
from heretic.results.trial import shown
from heretic.results.words import best, least

_DETAIL_INDENT = 4
LINES = (lines, score_lines)
"""Modules that register rows of events."""
_STARTS_SECTION = (events.ModelLoading, events.SearchStarted, events.SearchFinished, events.TrialApplied)
"""Events before which a blank line stands, where the line before is of another kind."""


class ConsoleReporter:
    """Prints every event of a run; subscribe it with `events.subscribed`.

    In a terminal whatever takes long also has a bar at the bottom. Anywhere else (a pipe, a log file) there are neither
    control characters nor a bar; instead a line says from time to time how far it is, and lines are not wrapped, so
    that they can be searched.

    Use it as a context manager, or call `close`, so that the terminal is put right whatever ends the run.

    Attributes:
        verbose: Also print the parameters of trials, and prompts with responses.
        level: Out of LEVELS: warning leaves all but warnings out, debug adds speed and memory.
    """

    def __init__(
        self,
        verbose: bool,
        console: Console | None = None,
        now: Callable[[], float] = time.monotonic,
        level: str = "info",
    ) -> None:
        self.verbose = verbose
        self.level = LEVELS[level]
        self._console = console if console is not None else make_console()
        self._standing: Standing | None = None
        self._steps = Steps(self._console, lambda text: self._print([text]), now)
        self._architecture = ""
        self._last: type[events.Event] | None = None
        self._label = ""

    def __enter__(self) -> "ConsoleReporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take a progress bar away and show the cursor again; harmless when there is none."""
        self._steps.stop()

    def __call__(self, event: events.Event) -> None:
        """Print one event."""
        if self.level > max(level_of(event), LEVELS["info"]):
            return
        if isinstance(event, events.LibraryLogged):
            self._library_logged(event)
            return
        if isinstance(event, events.StepEvent):
            self._steps(event)
            return
        if isinstance(event, _STARTS_SECTION) and self._last not in (None, type(event), events.DtypeRejected):
            self._print([""])
        self._report(event)
        if not isinstance(event, events.Warned):
            self._last = type(event)

    def _report(self, event: events.Event) -> None:
        if isinstance(event, events.SearchStarted):
            self._search_started(event)
        elif isinstance(event, events.TrialFinished):
            self._trial_finished(event)
        elif isinstance(event, events.ResponseMeasured):
            if self.verbose:
                self._response(event)
        elif isinstance(event, events.ModelSaved):
            self._print_rows(rows(event))
            # Never wrapped, so that they can be copied.
            self._print([" " * _DETAIL_INDENT + line for line in loading_hint(event, self._architecture)])
        elif isinstance(event, events.SearchFinished):
            self._print_rows(rows(event))
            if self._standing is not None and self._standing.best is not None:
                scores = self._standing.best.measured
                self._print_rows([Row("", f"{best(scores)}: {least(scores)}")])
            self._standing = None
        else:
            if isinstance(event, events.ModelLoaded):
                self._architecture = event.architecture
            # What held-out prompts showed is said in words above its table.
            brief = isinstance(event, events.HeldOutMeasured) and not self.verbose
            self._print_rows([row.brief if brief else row for row in rows(event)])
            if self.level <= LEVELS["debug"]:
                self._print_rows(detail_rows(event))

    def _library_logged(self, event: events.LibraryLogged) -> None:
        text = library_text(event, self.level)
        if text:
            self._print_rows([Row("", f"Warning: {text}")])

    def _search_started(self, event: events.SearchStarted) -> None:
        self._standing = standing = event.standing
        left = plural(max(standing.n_trials - standing.finished, 0), "trial") + " to do"
        wanted = "as many trials as there is time for" if standing.is_open else left
        self._print_rows([Row("Search", f"{wanted}; Ctrl+C stops, and finished trials are kept")])

    def _trial_finished(self, event: events.TrialFinished) -> None:
        lines = hang("", trial_line(event), 0, self._line_width())
        if self.verbose:
            lines += hang("", parameter_text(event), _DETAIL_INDENT, self._text_width())
        self._print(lines)
        self._standing = event.standing

    def _response(self, event: events.ResponseMeasured) -> None:
        whose = "original" if event.trial is None else f"trial {shown(event.trial)}"
        indent = _DETAIL_INDENT + len("prompt    ")
        lines = [" " * _DETAIL_INDENT + f"{whose}, {clean_line(event.verdict)}"]
        for label, text in (("prompt", event.prompt), ("response", event.response)):
            lines += hang(" " * _DETAIL_INDENT + label, clean(text).strip() or "(empty)", indent, self._text_width())
        self._print(lines)

    def _print_rows(self, new_rows: list[Row]) -> None:
        for row in new_rows:
            if row.text.startswith("Warning: "):
                self._print(hang("", clean_line(row.text), 0, self._line_width()), style="yellow")
            else:
                label = row.label or self._label
                beside = "" if label == self._label else label
                self._print(row.lines(beside, LABEL_WIDTH, self._line_width()))
                self._label = label

    def _text_width(self) -> int:
        return min(self._console.width, 100)

    def _line_width(self) -> int | None:
        return self._text_width() if self._console.is_terminal else None

    def _print(self, lines: list[str], style: str = "") -> None:
        # Whatever is printed, the next row names its label again; `_print_rows` keeps it where rows follow each other.
        self._label = ""
        for line in lines:
            self._console.print(Text(printable(line, self._console.encoding), style=style), soft_wrap=True)

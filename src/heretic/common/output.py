"""What a process writes to its terminal: foreign text can do nothing there, and a terminal that is gone ends nothing.

A terminal obeys escape sequences: they move its cursor, write the clipboard (OSC 52), or let it answer as if somebody
typed. Whatever models, files, studies and plug-ins say passes through `clean` before it is shown, which turns what
begins a sequence into its code, so that it can be seen who tried; lines of the log pass through `escaped_in_json`.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

from heretic.common.errors import OutputError
from heretic.common.redaction import mask_secrets

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line break, separators of lines, and marks that reverse the direction of text."""


def clean(text: str) -> str:
    r"""Text without control characters and overrides of its direction: they become codes, e.g. ``\x1b``."""
    return _CONTROL.sub(
        lambda match: match.group().encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n")
    )


def clean_line(text: str) -> str:
    r"""Like `clean`, on one line: a line break becomes ``\n``."""
    return clean(text).replace("\n", "\\n").replace("\t", " ")


def printable(text: str, encoding: str | None) -> str:
    """Clean text as a terminal or pipe can show it: what its encoding has no letter for becomes a code."""
    encoding = encoding or "utf-8"
    return clean(text).encode(encoding, "backslashreplace").decode(encoding)


def escaped_in_json(line: str) -> str:
    """A line of JSON that says the same, but may be shown in a terminal: `json` writes some characters as they are."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", line)


def has_terminal() -> bool:
    """Whether questions can be asked: both standard input and output are a terminal."""
    # A process without a console, e.g. a service, may have neither.
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty()


def say_error(text: str) -> None:
    """Write lines to standard error, without secrets and clean."""
    sys.stderr.write(clean(mask_secrets(text)))


Lost = Callable[[BaseException | None], None]
"""Hears once that a stream cannot be written any more; may raise."""


class Output:
    """A standard stream that may end: its terminal or reader is gone, its disk is full.

    From then on what is written goes nowhere, also when Python flushes the stream at its end.
    """

    def __init__(self, stream: TextIO, lost: Lost) -> None:
        self._stream = stream
        self._lost = lost

    def write(self, text: str) -> int:
        """See TextIO."""
        try:
            self._stream.write(text)
        except (OSError, OutputError) as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """See TextIO."""
        try:
            self._stream.flush()
        except (OSError, OutputError) as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: Exception) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        self._lost(error if isinstance(error, OSError) else error.__cause__)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Standard streams of a command: closed ones lead nowhere, and whatever cannot be written is told in one way.

    Raises:
        OutputError: In the with-block, where standard output cannot be written; of standard error nobody hears.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Takes the lowest free number, which the next file would get otherwise, and with it what is printed.
            os.open(os.devnull, os.O_RDWR)
    with ExitStack() as stack:
        nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        for redirect, stream, lost in (
            (redirect_stdout, sys.stdout, _end),
            (redirect_stderr, sys.stderr, lambda _error: None),
        ):
            output: Any = Output(nowhere if stream is None else stream, lost)
            stack.enter_context(redirect(output))
        yield


def _end(error: BaseException | None) -> None:
    raise OutputError(f"Standard output cannot be written ({error}); lead it elsewhere and run it again.") from error


@contextmanager
def outlived(lost: Lost) -> Iterator[None]:
    """In the with-block, standard output that ends falls silent instead of ending what is done."""
    output: Any = Output(sys.stdout, lost)
    with redirect_stdout(output):
        yield

"""A pretended terminal: what a test types, and what the questions show."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output.vt100 import Vt100_Output

ENTER, ESCAPE, UP, DOWN = "\r", "\x1b", "\x1b[A", "\x1b[B"
CONTROL_C, CONTROL_D, CONTROL_U = "\x03", "\x04", "\x15"


class Terminal:
    """Keys go in with `type`; `screen` is everything that was drawn, control sequences included."""

    def __init__(self, pipe: PipeInput, drawn: io.StringIO) -> None:
        self._pipe = pipe
        self._drawn = drawn

    def type(self, *keys: str) -> None:
        self._pipe.send_text("".join(keys))

    @property
    def screen(self) -> str:
        return self._drawn.getvalue()


@contextmanager
def pretended_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    drawn = io.StringIO()
    output = Vt100_Output(drawn, lambda: Size(rows=24, columns=80), enable_cpr=False)
    monkeypatch.setattr("heretic.interface.asking.has_terminal", lambda: True)
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=output):
        yield Terminal(pipe, drawn)

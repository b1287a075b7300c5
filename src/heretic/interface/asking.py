"""Asking a person something in a terminal; Ctrl+C, Ctrl+D and Esc always mean "back", never a traceback."""

import errno
import sys
from collections.abc import Callable, Sequence
from typing import Any

import questionary
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent, merge_key_bindings
from prompt_toolkit.keys import Keys
from questionary import Choice, Question, Separator

from heretic.common.errors import SelectionError
from heretic.common.output import clean_line, has_terminal

STYLE = questionary.Style([("disabled", "fg:ansibrightblack"), ("pointer", "bold"), ("highlighted", "bold")])
_AUTOMATIC = "Run again with --auto-select true --auto-select-path DIR to choose and save without being asked."


def require_terminal(purpose: str, next_step: str = _AUTOMATIC) -> None:
    """Refuse to ask where nobody can answer.

    Args:
        purpose: What would be asked, e.g. ``choose a trial``.
        next_step: A sentence that says how to do without being asked.

    Raises:
        SelectionError: Standard input or output is no terminal.
    """
    if not has_terminal():
        raise SelectionError(f"There is no terminal to {purpose} in. {next_step}")


def forget_typed_ahead() -> None:
    """Drop keys that were pressed while nothing was asked: an Enter during a long search chooses no trial."""
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()
    elif has_terminal():
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def ask(question: Question) -> Any:
    """The answer, or None for Ctrl+C, Ctrl+D and Esc."""
    bindings = KeyBindings()

    # Eager, so that Esc does not wait for the second key of a combination; arrow keys arrive as keys of their own.
    @bindings.add(Keys.Escape, eager=True)
    def _(event: KeyPressEvent) -> None:
        event.app.exit(exception=KeyboardInterrupt)

    bindings_before = question.application.key_bindings
    question.application.key_bindings = merge_key_bindings(
        [bindings_before, bindings] if bindings_before is not None else [bindings]
    )
    try:
        return question.unsafe_ask()
    except (KeyboardInterrupt, EOFError):
        return None
    except OSError as error:
        # The terminal is gone, and with it whoever could answer.
        if error.errno != errno.EIO:
            raise
        return None


def select(message: str, choices: Sequence[Choice | Separator], hint: str, default: Choice | None = None) -> Any:
    """The chosen value, or None for back; what is shown may be foreign text."""
    for choice in choices:
        choice.title = clean_line(str(choice.title))
    message = clean_line(message)
    return ask(
        questionary.select(message, choices=list(choices), default=default, pointer=">", instruction=hint, style=STYLE)
    )


def type_text(message: str, default: str, check: Callable[[str], bool | str], hint: str | None = None) -> str | None:
    """What was typed and accepted, without spaces around it, or None for back."""
    question = message if hint is None else f"{message} {hint}"
    answer = ask(questionary.text(question, default=default, validate=check, style=STYLE))
    return None if answer is None else str(answer).strip()


def agrees(message: str, next_step: str) -> bool:
    """Whether a person says yes; no where Enter alone is pressed.

    Args:
        message: The question.
        next_step: A sentence that says how to do without being asked.

    Raises:
        SelectionError: There is no terminal to ask in.
    """
    require_terminal("ask for a yes", next_step)
    forget_typed_ahead()
    return ask(questionary.confirm(clean_line(message), default=False, style=STYLE)) is True

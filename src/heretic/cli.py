"""The command line: arguments -> a further command or a run -> exit code.

Exit codes: 0 done, 1 failed, 2 something the user gave cannot be used, 130 interrupted, 143 terminated. Everything
heavy is imported only once the arguments are known to be good, so that ``--help`` and a typo are answered at once.
"""

import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from heretic import __version__
from heretic.commands.base import command_names, find_command
from heretic.common.errors import ConfigurationError, HereticError, SearchOutOfMemoryError, Terminated
from heretic.common.redaction import mask_secrets
from heretic.config.arguments import read_arguments
from heretic.config.help import help_text

INTERRUPTED = 130
TERMINATED = 143


def main(argv: Sequence[str] | None = None) -> int:
    """Run Heretic.

    Args:
        argv: Arguments after the program's name; those of the process where it is None.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _end_cleanly_on_sigterm()
    try:
        code = _command_or_run(arguments)
        sys.stdout.flush()
    except HereticError as error:
        for line in mask_secrets(str(error)).splitlines():
            sys.stderr.write(f"Error: {line}\n")
        if isinstance(error, SearchOutOfMemoryError):
            sys.stderr.write(f"Finished trials are kept; to go on, run: {_resuming(arguments)}\n")
        return error.exit_code
    except KeyboardInterrupt:
        _end_at_once_from_now_on()
        sys.stderr.write("Interrupted.\n")
        return INTERRUPTED
    except Terminated:
        _end_at_once_from_now_on()
        sys.stderr.write("Terminated.\n")
        return TERMINATED
    except Exception as error:  # noqa: BLE001 - the last place where an unforeseen error can be put into words
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            return HereticError.exit_code
        name = type(error).__name__
        sys.stderr.write(f"Internal error: {name}. This is a mistake in Heretic; please report it with these lines:\n")
        sys.stderr.write(mask_secrets(traceback.format_exc()))
        return HereticError.exit_code
    return code


def _end_cleanly_on_sigterm() -> None:
    """Unwind on SIGTERM, so that what is half written is removed; by default the process would vanish."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    in_main_thread = threading.current_thread() is threading.main_thread()
    # A program that embeds Heretic, or that started it with the signal ignored, keeps its own way.
    if in_main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, terminate)


def _end_at_once_from_now_on() -> None:
    """Let a further Ctrl+C or SIGTERM end the process without a traceback: nothing is left to be unwound."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)


def _resuming(arguments: Sequence[str]) -> str:
    """The command that goes on with least memory; in words where it would show a password or token."""
    command = shlex.join(["heretic", *arguments, "--batch-size", "1", "--candidates", "1"])
    return command if mask_secrets(command) == command else "the same command with --batch-size 1 --candidates 1"


def _command_or_run(argv: Sequence[str]) -> int:
    if argv and argv[0] in command_names():
        return find_command(argv[0])(argv[1:])
    return _run(argv)


def _run(argv: Sequence[str]) -> int:
    action = read_arguments(argv).action
    if action == "help":
        commands = map(find_command, command_names())
        sys.stdout.write(help_text({command.usage: command.summary for command in commands}))
        return 0
    if action == "version":
        sys.stdout.write(f"heretic {__version__}\n")
        return 0

    from heretic.config.load import load_settings
    from heretic.run.rules import check_options

    loaded = load_settings(argv, os.environ, Path.cwd())
    check_options(loaded.settings)
    if loaded.settings.model is None:
        model = _ask_model()
        if model is None:
            return INTERRUPTED
        loaded = load_settings(["--model", model, *argv], os.environ, Path.cwd())

    from heretic.interface.terminal import run_in_terminal

    return run_in_terminal(loaded)


def _ask_model() -> str | None:
    """Ask for the model; None where the person leaves.

    Raises:
        ConfigurationError: There is no terminal to ask in.
    """
    # A process without a console, e.g. a service, may have no standard input at all.
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        raise ConfigurationError(
            "No model was named; run 'heretic MODEL', or 'heretic --model demo' to try the bundled toy model."
        )
    from heretic.interface.picker import ask_model

    return ask_model()


def _output_is_closed() -> bool:
    """Whether the reader of our output has gone, e.g. ``heretic --help | head -1``."""
    try:
        # The failed write emptied the buffer, so only another one can tell.
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False

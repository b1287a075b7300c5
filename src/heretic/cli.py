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
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from types import FrameType

from heretic import __version__
from heretic.commands.base import command_names, commands, find_command
from heretic.common.errors import (
    INTERRUPTED,
    TERMINATED,
    ConfigurationError,
    HereticError,
    OutputError,
    SearchOutOfMemoryError,
    Terminated,
    nearest,
)
from heretic.common.foreign_errors import foreign_error
from heretic.common.output import has_terminal, say_error, standard_streams
from heretic.common.redaction import mask_secrets

HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
NEAR = 0.75
"""How alike a word must be to a command to be asked about, out of 1."""
OTHER_WORDS = {
    "list": "studies",
    "study": "studies",
    "resume": "open",
    "load": "open",
    "packs": "behaviors",
    "show": "status",
}
"""What people call commands."""
WAITING_THREADS = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""How long threads of GNU's OpenMP (turns) and of Intel's and LLVM's (milliseconds) wait awake for each other."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run Heretic.

    Args:
        argv: Arguments after the program's name; those of the process where it is None.

    Returns:
        The exit code.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _end_cleanly_on_signals()
    wait_asleep(os.environ)
    with standard_streams():
        try:
            code = _command_or_run(arguments)
            sys.stdout.flush()
        except HereticError as error:
            return _told(error, arguments)
        except KeyboardInterrupt:
            _end_at_once_from_now_on()
            say_error("Interrupted.\n")
            return INTERRUPTED
        except Terminated:
            _end_at_once_from_now_on()
            say_error("Terminated.\n")
            return TERMINATED
        except Exception as error:  # noqa: BLE001 - the last place where an unforeseen error can be put into words
            foreign = foreign_error(error)
            if foreign is not None:
                return _told(foreign, arguments)
            what = f"Internal error: {type(error).__name__}. This is a mistake in Heretic"
            say_error(f"{what}; please report it with these lines:\n{traceback.format_exc()}")
            return HereticError.exit_code
    return code


def _told(error: HereticError, arguments: Sequence[str]) -> int:
    """Say what went wrong; returns the exit code."""
    if isinstance(error.__cause__, BrokenPipeError) and isinstance(error, OutputError):
        # The reader has gone, as of ``heretic --help | head -1``.
        return error.exit_code
    for line in str(error).splitlines():
        say_error(f"Error: {line}\n")
    if isinstance(error, SearchOutOfMemoryError):
        say_error(f"Finished trials are kept; to go on, run: {_resuming(arguments)}\n")
    return error.exit_code


def wait_asleep(environment: MutableMapping[str, str]) -> None:
    """Let waiting threads soon sleep, unless the environment says how they wait; comes before torch is imported.

    By default they spin for long, and beside other programs take the cores from the very threads that they wait for:
    passes of the demo model took 2 to 22 s instead of 0.2 s (benchmarks/README.md).
    """
    if not any(environment.get(name) for name in (*WAITING_THREADS, "OMP_WAIT_POLICY")):
        environment.update(WAITING_THREADS)


def _end_cleanly_on_signals() -> None:
    """Unwind on SIGTERM and SIGHUP, so that what is half written is removed; by default the process would vanish."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        if HANGUP is not None:
            # A session that ends sends it twice: from its shell, and once that is gone from the system.
            signal.signal(HANGUP, signal.SIG_IGN)
        raise Terminated

    in_main_thread = threading.current_thread() is threading.main_thread()
    for number in filter(None, (signal.SIGTERM, HANGUP)):
        # A program that embeds Heretic, or that started it with the signal ignored (nohup), keeps its own way.
        if in_main_thread and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, terminate)


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
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ConfigurationError("The working folder has been removed; change to one that exists.") from error
    if argv and argv[0] in command_names():
        return find_command(argv[0])(argv[1:])
    if argv and (near := near_command(argv[0])) and _means_command(argv[0], near):
        return find_command(near)(argv[1:])
    return _run(argv)


def near_command(word: str) -> str:
    """The command that a word may stand for which is no option, path or hub id with its owner; empty for none."""
    if word.startswith("-") or not word.isascii() or not word.isalpha() or os.path.exists(word):
        return ""
    near = nearest(word, [*command_names(), *OTHER_WORDS], NEAR)
    return OTHER_WORDS.get(near, near)


def _means_command(word: str, near: str) -> bool:
    """Whether a command was meant; a model of that name may be too.

    Raises:
        ConfigurationError: Nobody can be asked.
    """
    if not has_terminal():
        raise ConfigurationError(
            f"{word} is no command; did you mean 'heretic {near}'? A model of that name is named with --model {word}."
        )
    from heretic.interface.asking import agrees

    return agrees(f"{word} is no command. Did you mean 'heretic {near}'? (no: it is a model)", "")


def _run(argv: Sequence[str]) -> int:
    # A further command's help needs no setting.
    from heretic.config.arguments import read_arguments
    from heretic.config.checks import is_unicode

    action = read_arguments(argv).action
    if action == "help":
        from heretic.config.help import short_help

        sys.stdout.write(short_help({command.name: command.summary for command in commands()}))
        return 0
    if action == "help_all":
        from heretic.config.help import whole_help

        sys.stdout.write(whole_help({command.usage: command.summary for command in commands()}))
        return 0
    if action == "version":
        sys.stdout.write(f"heretic {__version__}\n")
        return 0

    if not is_unicode(os.getcwd()):
        raise ConfigurationError(
            "The name of the working folder is no UTF-8 text, which not all files of a model can be saved under; "
            "rename it, or change to another folder."
        )
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
    if not has_terminal():
        raise ConfigurationError(
            "No model was named; run 'heretic MODEL', or 'heretic --model demo' to try the bundled toy model."
        )
    from heretic.interface.picker import ask_model

    return ask_model()

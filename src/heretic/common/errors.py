"""Every error that Heretic raises on purpose.

A message is one sentence (or two) that says what is wrong and what to do next; the command line prints it without a
traceback and exits with the class's code (0 done, 1 failed, 2 user error, 130 interrupted, 143 terminated).
"""

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic_core import ErrorDetails, ValidationError

INTERRUPTED = 130
"""Exit code after Ctrl+C."""
TERMINATED = 143
"""Exit code after SIGTERM or SIGHUP."""


class HereticError(Exception):
    """Something failed while running: exit code 1."""

    exit_code = 1


class UserError(HereticError):
    """Something the user gave cannot be used: exit code 2."""

    exit_code = 2


class ConfigurationError(UserError):
    """A setting is unknown, has the wrong type, or contradicts another."""


class ModelError(UserError):
    """A model cannot be loaded or cannot be used as it is."""


class LayoutError(UserError):
    """A model has a layer in which nothing that writes the residual stream can be edited."""


class PromptError(UserError):
    """A prompt set cannot be read, is empty, or lacks the named column or split."""


class StudyError(UserError):
    """A stored study cannot be opened, or was made with other inputs."""


class VersionSkewError(StudyError):
    """Something in a stored study is not as this version writes it: a newer or older one did, or it is damaged."""


class SelectionError(UserError):
    """Nothing can be chosen: no finished trial, or no terminal to ask in."""


class PluginError(UserError):
    """No extractor or evaluator of that name is registered, or it could not be loaded."""


class ExportError(HereticError):
    """A model could not be saved or uploaded; the target folder is as it was before."""


class CacheMismatchError(HereticError):
    """The weight cache does not fit the model: names layer, component and tensor."""


class OutOfMemoryError(HereticError):
    """The device ran out of memory even at the smallest batch size."""


class SearchOutOfMemoryError(OutOfMemoryError):
    """The same in a search, or at a step of a run that has no smaller form: the command goes on with what is kept."""


class CloudError(HereticError):
    """A provider of rented machines, or a rented machine, did not do what it was asked to."""


class OutputError(HereticError):
    """Standard output cannot be written; its cause is a BrokenPipeError where its reader has gone."""


class TrialFailed(HereticError):
    """One trial could not be measured; the search records the reason and goes on."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP asked the process to end; like KeyboardInterrupt nothing but the outermost level catches it."""


LONGEST_DETAIL = 200
"""Characters of a foreign message that are quoted."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, to be quoted in a sentence: no full stop, not too long.

    The name of its class where it has no message; what is wrong first of what pydantic found, and where.
    """
    text = _found(first_detail(error)) if isinstance(error, ValidationError) else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:LONGEST_DETAIL].rstrip(".") if lines else type(error).__name__


def first_detail(error: ValidationError) -> ErrorDetails:
    """What says most: a misspelled key is two errors, of which the unknown key tells more than the missing one."""
    return min(error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden")


def _found(detail: ErrorDetails) -> str:
    where, what = ".".join(map(str, detail["loc"])), detail["msg"].removeprefix("Value error, ")
    return " ".join((f"{where}: {what}" if where else what).split())


def lines_of(error: ValidationError, names: Iterable[str] = ()) -> list[str]:
    """What pydantic found, a clause each; an unknown key is told the one that it is like.

    Args:
        error: What it raised.
        names: Keys that there are.
    """
    known = list(names)
    details = error.errors(include_url=False)
    unknown = [str(detail["loc"][-1]) for detail in details if detail["type"] == "extra_forbidden"]
    near = {name: did_you_mean(name, known) for name in unknown}
    meant = " ".join(near.values())
    lines = []
    for detail in details:
        name = str(detail["loc"][-1]) if detail["loc"] else ""
        if detail["type"] == "missing" and f" {name}?" in meant:
            # A misspelled key is two errors, of which the unknown key tells more.
            continue
        guess = near.get(name, "") if detail["type"] == "extra_forbidden" else ""
        lines.append(f"{_found(detail)[:LONGEST_DETAIL].rstrip('.')}{f' ({guess})' if guess else ''}")
    return lines


def nearest(name: str, names: Iterable[str], alike: float = 0.6) -> str:
    """The one of some names that another one is like, from 0 to 1 at least so much; empty for none.

    Case does not count: no two names differ in it alone.
    """
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    found = get_close_matches(name.lower(), list(by_lower_case), n=1, cutoff=alike)
    return by_lower_case[found[0]] if found else ""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """``did you mean hedging?`` for a name that is like one of those that there are; empty for others."""
    near = nearest(name, names)
    return f"did you mean {near}?" if near else ""


def choose_one(name: str, names: Iterable[str]) -> str:
    """What to do about a name that there is not: ``did you mean hedging? Else choose one of hedging, verbosity``."""
    names = list(names)
    near = did_you_mean(name, names)
    return f"{near} Else choose one of {', '.join(names)}" if near else f"choose one of {', '.join(names)}"


def causes(error: BaseException) -> list[BaseException]:
    """The exception and its explicit causes, outermost first.

    What was merely being handled when it was raised (an optional import that failed, say) explains nothing.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    return chain

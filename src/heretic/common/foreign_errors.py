"""What libraries raised and nobody on the way put into words: told in one sentence, by the library that it is from.

A library reports what the world did to it: a server, a disk, a file of somebody else. `Internal error` is left for what
Python itself raises of our mistakes. Told by the names of modules, so that none has to be imported.
"""

import errno
import traceback
from collections import deque
from collections.abc import Mapping

from heretic.common.errors import HereticError, ModelError, PromptError, StudyError, UserError, causes, first_line

_STUDY = (
    StudyError,
    "The study's database cannot be used ({detail}); see to its file and disk, or name another --storage.",
)
_FILES = (ModelError, "A model's file cannot be read or written ({detail}); see to its disk, or get the file again.")
_NETWORK = (
    HereticError,
    "A request over the network failed ({detail}); check the connection, then run the same command again.",
)
_BY_LIBRARY: Mapping[str, tuple[type[HereticError], str]] = {
    **dict.fromkeys(("sqlite3", "sqlalchemy", "optuna"), _STUDY),
    **dict.fromkeys(("safetensors", "safetensors_rust", "tokenizers"), _FILES),
    **dict.fromkeys(("httpx", "httpx2", "httpcore", "httpcore2", "requests", "urllib3", "huggingface_hub"), _NETWORK),
    "filelock": (
        HereticError,
        "A lock file cannot be had ({detail}); wait for the process that has it, then run the same command again.",
    ),
    "jinja2": (
        ModelError,
        "A model's chat template cannot be used ({detail}); correct it in the model's folder, or name another model.",
    ),
    "datasets": (
        PromptError,
        "A dataset cannot be read ({detail}); check its name and its files, or name another one.",
    ),
    "matplotlib": (HereticError, "A chart cannot be drawn ({detail}); run again with --report false."),
}
_OF_THE_SYSTEM = {
    getattr(errno, name)
    for name in [
        "EACCES",
        "EPERM",
        "EROFS",
        "ENOSPC",
        "EDQUOT",
        "EFBIG",
        "EIO",
        "EMFILE",
        "ENFILE",
        "ENODEV",
        "ESTALE",
        "ETIMEDOUT",
        "ENOTCONN",
    ]
    if hasattr(errno, name)
}
"""Numbers of errors that a disk or a system gives, whatever the program does."""


def foreign_error(error: Exception) -> HereticError | None:
    """A library's error as one of Heretic's, with its exit code; None for what only a mistake of ours raises."""
    detail = first_line(error)
    for kind in type(error).__mro__:
        library = kind.__module__.partition(".")[0]
        told = _BY_LIBRARY.get(library)
        if told is not None:
            if told is _NETWORK:
                return _hub_error(error) or HereticError(told[1].format(detail=detail))
            return told[0](told[1].format(detail=detail))
    if type(error) is Exception and _raised_in(error) in ("tokenizers", "transformers"):
        # The tokenizers library, written in Rust, has neither classes nor frames of its own.
        return _FILES[0](_FILES[1].format(detail=detail))
    if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
        return HereticError(f"The system refuses ({detail}); see to that, then run the same command again.")
    return None


def _raised_in(error: Exception) -> str:
    """The package of the innermost Python code that an error came from; empty where there is none."""
    innermost = deque(traceback.walk_tb(error.__traceback__), maxlen=1)
    return "".join(frame.f_globals.get("__name__", "").partition(".")[0] for frame, _line in innermost)


def _hub_error(error: Exception) -> HereticError | None:
    from heretic.common.hub_errors import LOG_IN, OUT_OF_REACH, connection_problem, hub_failure

    failed = hub_failure(causes(error))
    if failed is None:
        return None
    problem = connection_problem(*failed, "what is needed")
    if problem is not None:
        return UserError(f"T{problem[1:]}.")
    if failed[0] in OUT_OF_REACH:
        return UserError(f"The hub cannot be reached ({first_line(error)}); check the network, or name local files.")
    return UserError(
        f"The hub does not give what is needed: {failed[0].value} ({first_line(error)}); check the name, or {LOG_IN}."
    )

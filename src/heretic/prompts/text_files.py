"""Prompts in text files, one a line: the user's own, and the bundled packs."""

from pathlib import Path

from heretic.common.errors import PromptError

BUNDLED_FOLDER = Path(__file__).parent / "behaviors"
BUNDLED_PREFIX = "bundled:"
ENDINGS = (".txt", ".json", ".jsonl", ".csv", ".parquet")
"""Of files with prompts."""


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file that are not blank; a byte order mark is skipped.

    Raises:
        PromptError: The file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise PromptError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    # Not splitlines(), which also breaks at separators that may stand within a prompt.
    return [line for line in text.split("\n") if line.strip()]


def bundled_packs() -> dict[str, dict[str, Path]]:
    """Name of each bundled set, such as ``refusal/target`` or ``hedging/keep/doubt``, to its splits and their files."""
    folders = sorted({file.parent for file in BUNDLED_FOLDER.glob("*/**/*.txt")})
    return {
        folder.relative_to(BUNDLED_FOLDER).as_posix(): {file.stem: file for file in sorted(folder.glob("*.txt"))}
        for folder in folders
    }


def read_bundled(name: str, split: str) -> list[str]:
    """Lines of a bundled set.

    Args:
        name: Such as ``bundled:refusal/target``.
        split: ``train`` where empty.

    Raises:
        PromptError: There is no such set or split.
    """
    packs = bundled_packs()
    # A look-up instead of a path: nothing outside the folder can be named.
    splits = packs.get(name.removeprefix(BUNDLED_PREFIX))
    if splits is None:
        names = ", ".join(f"{BUNDLED_PREFIX}{pack}" for pack in packs)
        raise PromptError(f"there is no bundled set {name}; use one of {names}.")
    file = splits.get(split or "train")
    if file is None:
        raise PromptError(f"{name} has no split {split}; it has {', '.join(splits)}.")
    return read_lines(file)

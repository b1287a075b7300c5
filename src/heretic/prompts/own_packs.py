"""Packs of one's own: a new one that works as it is, and copies of bundled ones."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heretic.common.errors import ConfigurationError, UserError
from heretic.prompts.packs import PACK_FILE, bundled_behaviors, bundled_prompts, read_pack, without_prompts_table

_SKELETON = Path(__file__).parent / "skeleton"
_NAME_LINE = re.compile(r'^name = ".*"$', re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LONG_LIST = re.compile(r"^(?P<name>\w+) = \[\n(?P<lines>(?:(?:  (?:#.*|'''.*''',|'[^'\n]+',))?\n)+)\]\n", re.MULTILINE)
"""An option whose entries are literal strings of a line each, as patterns are."""
_QUOTED = re.compile(r"^('''|')(.*)\1,$")


def new_pack(target: Path) -> None:
    """Write a pack with comments that works as it is; it is called like its folder, where a pack may be.

    Raises:
        UserError: The folder exists, or cannot be written.
    """
    texts = {file.relative_to(_SKELETON): file.read_text(encoding="utf-8") for file in sorted(_SKELETON.rglob("*.t*"))}
    if _NAME.fullmatch(target.name):
        texts[Path(PACK_FILE)] = _NAME_LINE.sub(f'name = "{target.name}"', texts[Path(PACK_FILE)])
    with _written(target, "--new"):
        target.mkdir(parents=True)
        for place, text in texts.items():
            (target / place).parent.mkdir(exist_ok=True)
            (target / place).write_text(text.replace("FOLDER", str(target)), encoding="utf-8")


def copy_pack(name: str, target: Path) -> bool:
    """Copy a bundled pack and, where they are bundled too, its prompts to files beside it; long lists as well.

    Returns:
        Whether the prompts were copied; else the copy names the same ones on a hub.

    Raises:
        ConfigurationError: There is no bundled pack of that name.
        UserError: The folder exists, or cannot be written.
    """
    bundled = bundled_behaviors()
    if name not in bundled:
        raise ConfigurationError(f"{name} is no bundled pack; copy one of {', '.join(bundled)}.")
    text = bundled[name].read_text(encoding="utf-8")
    prompts = bundled_prompts(read_pack(bundled[name]))
    text, lists = _with_lists_apart(without_prompts_table(text) if prompts else text)
    with _written(target, "--copy"):
        target.mkdir(parents=True)
        for file, content in {PACK_FILE: text, **lists}.items():
            (target / file).write_text(content, encoding="utf-8")
        for place, source in prompts.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / place)
    return bool(prompts)


def _with_lists_apart(text: str) -> tuple[str, dict[str, str]]:
    """A pack's TOML that names text files for its long lists, and these files, an entry or comment a line."""
    lists: dict[str, str] = {}

    def moved(found: re.Match[str]) -> str:
        lines = [line.strip() for line in found["lines"].splitlines()]
        entries = [_QUOTED.sub(r"\2", line) for line in lines]
        # What has to stay may have lists of the same name.
        file = f"{found['name']}.txt" if not lists else f"{found['name']}-{len(lists) + 1}.txt"
        lists[file] = "\n".join(entries) + "\n"
        return f'{found["name"]} = "{file}"\n'

    return _LONG_LIST.sub(moved, text), lists


@contextmanager
def _written(target: Path, option: str) -> Iterator[None]:
    """In the with-block a folder is written that does not exist.

    Raises:
        UserError: It does, or cannot be written.
    """
    try:
        yield
    except FileExistsError as error:
        raise UserError(f"{target} exists already; name a new folder with {option}.") from error
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}); name another folder with {option}.") from error

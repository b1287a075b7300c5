"""Packs of one's own: a new one that works as it is, and copies of bundled ones."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomlkit
from tomlkit.items import Array

from heretic.common.errors import ConfigurationError, UserError
from heretic.prompts.packs import PACK_FILE, bundled_behaviors, bundled_prompts, read_pack

_SKELETON = Path(__file__).parent / "skeleton"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LONG = 8
"""Entries from which on a list stands better in a file of its own."""


def new_pack(target: Path) -> None:
    """Write a pack with comments that works as it is; it is called like its folder, where a pack may be.

    Raises:
        UserError: The folder exists, or cannot be written.
    """
    texts = {file.relative_to(_SKELETON): file.read_text(encoding="utf-8") for file in sorted(_SKELETON.rglob("*.t*"))}
    if _NAME.fullmatch(target.name):
        pack = tomlkit.parse(texts[Path(PACK_FILE)])
        pack["name"] = target.name
        texts[Path(PACK_FILE)] = tomlkit.dumps(pack)
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
    document = tomlkit.parse(bundled[name].read_text(encoding="utf-8"))
    prompts = bundled_prompts(read_pack(bundled[name]))
    if prompts:
        # Those beside it are read then.
        for table in (document, *document.get("keep", ())):
            table.pop("prompts", None)
    lists = _lists_moved_out(document)
    with _written(target, "--copy"):
        target.mkdir(parents=True)
        for file, content in {PACK_FILE: tomlkit.dumps(document), **lists}.items():
            (target / file).write_text(content, encoding="utf-8")
        for place, source in prompts.items():
            (target / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / place)
    return bool(prompts)


def _lists_moved_out(document: tomlkit.TOMLDocument) -> dict[str, str]:
    """Have a pack's TOML name text files for its long lists; these files, an entry or comment a line."""
    lists: dict[str, str] = {}
    for table in (document, *document.get("keep", ())):
        options = table.get("options", {})
        for name, value in options.items():
            if isinstance(value, Array) and len(value) >= _LONG:
                # What has to stay may have lists of the same name.
                file = f"{name}.txt" if not lists else f"{name}-{len(lists) + 1}.txt"
                lists[file] = "".join(f"{_entry(line.strip())}\n" for line in value.as_string().splitlines()[1:-1])
                options[name] = file
    return lists


def _entry(line: str) -> str:
    """The text of an entry that has a line of its own in a list; comments and empty lines as they are."""
    return line if not line or line.startswith("#") else str(tomlkit.value(line.rstrip(",")))


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

"""Pages of the documentation that the code and the measurements write themselves; mkdocs-gen-files runs this.

Settings, commands and behaviours come from where the program has them; what was measured is the README of its folder.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import mkdocs_gen_files

from heretic.commands.base import command_names, find_command
from heretic.config.catalogue import SETTINGS, Setting
from heretic.config.sections import SECTIONS
from heretic.prompts.packs import bundled_behaviors, find_pack

ROOT = Path(__file__).parents[1]
MEASURED = {
    "experiments/methods": "methods",
    "experiments/detection": "detection",
    "benchmarks": "benchmarks",
    "experiments/refusal": "over-refusal",
    "experiments/verbosity": "verbosity",
    "experiments/hedging": "hedging",
    "experiments/sycophancy": "flattery",
    "experiments/meta_commentary": "meta-commentary",
}
"""Folder -> page below measured/; a behaviour's page is named like its pack."""
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:|#)([^)]+)\)")


def settings() -> Iterator[str]:
    """Every setting by section, as `heretic --help` has them."""
    yield "# Settings\n"
    yield "Each is an option of the command line, a variable of the environment, and a key of `config.toml`.\n"
    for section in SECTIONS:
        yield f"## {section.title}\n"
        for setting in SETTINGS.values():
            if setting.section is section and len(setting.path) == 1:
                yield from entry(setting)


def entry(setting: Setting) -> Iterator[str]:
    """One setting."""
    default = setting.field.default
    yield f"### `{setting.flag}` {{ #{setting.name} }}\n"
    yield f"{setting.field.description}\n"
    if not setting.is_prompt_set:
        shown = "not set" if default is None else f"`{default}`"
        yield f"Must be {setting.expected}. Default: {shown}. `{setting.variable}`\n"


def commands() -> Iterator[str]:
    """The help of every command."""
    yield "# Commands\n"
    yield "`heretic --help` lists the options of a run, which [Settings](settings.md) explains.\n"
    for name in command_names():
        yield f"## heretic {name}\n\n```text\n{find_command(name).help().rstrip()}\n```\n"


def behaviours() -> Iterator[str]:
    """What every bundled pack is, and where it was measured."""
    yield (ROOT / "docs" / "behaviours.head.md").read_text(encoding="utf-8")
    measured = set(MEASURED.values())
    for name in bundled_behaviors():
        pack = find_pack(name)
        yield f"## {name} {{ #{name} }}\n\n{pack.description}\n\n> {pack.card}\n"
        yield from (f"* What stays, {kept.name}: {kept.description}\n" for kept in pack.keep)
        if name in measured:
            yield f"Measured on a real 0.5 B model: [{name}](measured/{name}.md).\n"


def measured(folder: str) -> Callable[[], Iterator[str]]:
    """The README of a folder, whose links to what is no page become names."""

    def page() -> Iterator[str]:
        yield LINK.sub(lambda match: _linked(folder, *match.groups()), (ROOT / folder / "README.md").read_text("utf-8"))

    return page


def _linked(folder: str, text: str, target: str) -> str:
    path, _, anchor = target.partition("#")
    there = PurePosixPath(_normal(f"{folder}/{path}"))
    place = str(there.parent) if there.name == "README.md" else str(there)
    if place in MEASURED:
        return f"[{text}]({MEASURED[place]}.md{'#' + anchor if anchor else ''})"
    return f"{text} (`{there}`)"


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "settings.md": settings,
    "commands.md": commands,
    "behaviours.md": behaviours,
    **{f"measured/{name}.md": measured(folder) for folder, name in MEASURED.items()},
}

for name, lines in PAGES.items():
    with mkdocs_gen_files.open(name, "w") as file:
        file.write("\n".join(lines()))

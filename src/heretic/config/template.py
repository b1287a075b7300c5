"""config.default.toml, made from the field descriptions so that it cannot go out of date.

``python -m heretic.config.template`` prints it; with ``--check FILE`` it only says (exit code 1) that the file differs.
"""

import argparse
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit

from heretic.config.catalogue import SETTINGS, Setting
from heretic.config.sections import SECTIONS, PromptSpecification

_INTRODUCTION = """\
# Every setting of Heretic with its default. Copy this file to config.toml in the folder where you run heretic (or name
# it with --config), and take away the # in front of the settings that you want to change.
#
# The command line (--n-trials 60) and the environment (HERETIC_N_TRIALS=60) win over the file.
# A prompt set may also be written as a table ([good_prompts], below all other settings) or, where its dataset says it
# all, as plain text: good_prompts = "prompts.txt". Its parts are:
"""

_TITLES = tuple(section.title for section in SECTIONS)


def template() -> str:
    """Write the whole file; every setting is commented out, without a space after the #."""
    parts = (f"#   {name}: {field.description}" for name, field in PromptSpecification.model_fields.items())
    return "\n".join([_INTRODUCTION.rstrip(), *parts, "", *(line for title in _TITLES for line in _section(title))])


def _section(title: str) -> Iterator[str]:
    yield f"# --- {title} " + "-" * (114 - len(title))
    yield ""
    for setting in SETTINGS.values():
        if setting.section.title == title and len(setting.path) == 1:
            yield from _entry(setting)
            yield ""


def _entry(setting: Setting) -> Iterator[str]:
    default = setting.field.default
    text = setting.field.description or ""
    if setting.choices or {int, float} & set(setting.kinds):
        text += f" Must be {setting.expected}."
    if default is None:
        yield from _comment(f"{text} Not set by default; for example:")
        yield f"#{setting.name} = {_toml((setting.field.examples or [''])[0])}"
    elif setting.is_prompt_set:
        yield from _comment(text)
        for part, value in _parts(default).items():
            yield f"#{setting.name}.{part} = {_toml(value)}"
    else:
        yield from _comment(text)
        yield f"#{setting.name} = {_toml(default)}"


def _parts(default: PromptSpecification) -> Mapping[str, Any]:
    return {part: value for part, value in default.model_dump().items() if value is not None}


def _comment(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, 119, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    """Write a value, tables on one line."""
    if isinstance(value, dict):
        table = tomlkit.inline_table()
        table.update(value)
        return table.as_string()
    text: str = tomlkit.item(value).as_string()
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Print the file, or compare one with it."""
    parser = argparse.ArgumentParser(prog="python -m heretic.config.template", description=__doc__)
    parser.add_argument("--check", metavar="FILE", type=Path, help="say whether this file is up to date")
    arguments = parser.parse_args(argv)
    if arguments.check is None:
        sys.stdout.write(template())
        return 0
    if arguments.check.read_text(encoding="utf-8") == template():
        return 0
    sys.stderr.write(f"{arguments.check} is out of date; write it with: {parser.prog} > {arguments.check}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

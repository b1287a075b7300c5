"""Texts of ``heretic --help``, ``--help-all`` and ``heretic help``."""

import json
import textwrap
from collections.abc import Iterator, Mapping

from heretic.common.errors import ConfigurationError, did_you_mean
from heretic.config.catalogue import SETTINGS, Setting
from heretic.config.command_line import WIDTH, entry
from heretic.config.sections import SECTIONS, PromptSpecification, Section

_INTRODUCTION = """\
Usage: heretic [MODEL] [options]    or    heretic COMMAND ...

Find the direction of a behaviour (such as refusing) in an open-weight language
model, remove it from the weights, and search for the edit that changes the
behaviour most and everything else least.

Examples:
"""

_EXAMPLES = {
    "heretic demo": "the bundled toy model; no download",
    "heretic Qwen/Qwen3-4B-Instruct-2507": "a model from the hub; you choose",
    "heretic MODEL --behavior hedging": "another behaviour than refusing",
    "heretic behaviors --new mine": "begin a behaviour of your own",
    "heretic MODEL --time-limit 30m": "as many edits as there is time for",
}

USUAL = {
    "behavior": "what to edit: a bundled pack, or your own",
    "n_trials": "how many edits are tried",
    "quick": "a first look in a few minutes",
    "time_limit": "how long the run may take, e.g. 30m",
    "device": "auto, cpu, cuda, ...",
    "quantization": "search on 4- or 8-bit weights",
    "auto_select": "choose an edit without asking",
    "auto_select_path": "folder that it is saved to",
    "save_format": "whole model, or an adapter",
    "enable_validation": "questions, before and after the edit",
}
"""The settings that people use, with what they are in a few words."""
_FLAG_WIDTH = 30
_NAME_WIDTH = 10

_SOURCES = """Every option is also a key of config.toml (n_trials = 60) and an environment
variable (HERETIC_N_TRIALS=60). The command line wins over the environment, the
environment over config.toml, and config.toml over the defaults.

General
  --config PATH
      Read this file instead of config.toml in the current folder.
  --version
      Print the version.
  -h, --help
      Print what fits a screen.
  --help-all
      Print this.
"""

_CONCLUSION = """\
Exit codes: 0 done, 1 failed, 2 something given cannot be used,
130 interrupted, 143 terminated (SIGTERM).
"""


def short_help(commands: Mapping[str, str]) -> str:
    """Write the help that fits a screen, at most 80 columns wide.

    Args:
        commands: Name of every further command, and what it does in a line.
    """
    listed = [f"  {name:<{_NAME_WIDTH}} {summary}" for name, summary in commands.items()]
    usual = [f"  {_usage(SETTINGS[name]):<{_FLAG_WIDTH}}{text}" for name, text in USUAL.items()]
    topics = ", ".join(section.title.lower() for section in SECTIONS)
    more = textwrap.fill(
        f"heretic COMMAND --help explains a command; heretic help TOPIC an option, or all of {topics}; heretic "
        "--help-all prints everything.",
        WIDTH,
    )
    return "\n".join(
        [_INTRODUCTION + _examples(), "", "Commands:", *listed, "", "Options that people use:", *usual, "", more, ""]
    )


def whole_help(commands: Mapping[str, str]) -> str:
    """Write the whole help, at most 80 columns wide, grouped by section.

    Args:
        commands: Further commands, e.g. ``verify FOLDER``, and what each does.
    """
    listed = [line for usage, summary in commands.items() for line in entry(f"heretic {usage}", summary)]
    further = "\n".join(["Further commands (heretic COMMAND -h explains them):", *listed, ""])
    parts = [f"{_INTRODUCTION}{_examples()}\n", further, _SOURCES]
    return "\n".join([*parts, *map(section_help, SECTIONS), _CONCLUSION])


def _examples() -> str:
    return "\n".join(f"  {command:<38}{text}" for command, text in _EXAMPLES.items())


def section_help(section: type[Section]) -> str:
    """Every setting of a section."""
    settings = [setting for setting in SETTINGS.values() if setting.section is section and len(setting.path) == 1]
    lines = [line for setting in settings for line in _setting(setting, setting.flag)]
    text = "\n".join([section.title, *lines, ""])
    shared = any(setting.is_prompt_set for setting in settings)
    return text + ("\n" + "\n".join(_prompt_set_parts()) if shared else "")


def topic_help(topic: str) -> str:
    """What is said of a section or a setting, however it is spelt.

    Raises:
        ConfigurationError: It is neither; the message has the one that it is like, or the sections.
    """
    plain = topic.strip().lower().lstrip("-").removeprefix("heretic_").replace("-", "_")
    sections = {section.title.lower(): section for section in SECTIONS}
    if plain in sections:
        return section_help(sections[plain])
    if plain in SETTINGS:
        setting = SETTINGS[plain]
        return "\n".join([*_setting(setting, setting.flag), ""])
    near = did_you_mean(plain, [*sections, *SETTINGS])
    raise ConfigurationError(
        f"There is no help on {topic}; {near or 'name a command, an option, or one of ' + ', '.join(sections) + '.'}"
    )


def _usage(setting: Setting) -> str:
    """A flag and what stands behind it; choices are too long for a line."""
    return (
        setting.flag if setting.is_switch else f"{setting.flag} {'WORD' if setting.choices else _placeholder(setting)}"
    )


def _prompt_set_parts() -> Iterator[str]:
    """List the parts that all prompt sets share once."""
    yield from textwrap.wrap(
        "Every prompt set takes these as well, e.g. --good-prompts.split 'train[:50]':", WIDTH, initial_indent="  "
    )
    for part in PromptSpecification.model_fields:
        setting = SETTINGS[f"good_prompts.{part}"]
        if part != "dataset":
            yield from _setting(setting, "." + part.replace("_", "-"), indent="    ")
    yield ""


def _setting(setting: Setting, flag: str, indent: str = "  ") -> list[str]:
    text = f"{setting.field.description} [{_default(setting)}]"
    return entry(f"{flag} {_placeholder(setting)}", text, indent)


def _placeholder(setting: Setting) -> str:
    if setting.choices:
        return "|".join(setting.choices)
    if setting.is_switch:
        return "[true|false]"
    words = {str: "TEXT", int: "NUMBER", float: "NUMBER", list: "A,B,...", dict: "JSON", PromptSpecification: "DATASET"}
    return "|".join(words[kind] for kind in setting.kinds)


def _default(setting: Setting) -> str:
    value = setting.field.default
    if value is None:
        return "not set"
    if isinstance(value, PromptSpecification):
        return f"{value.dataset}, {value.split}, column {value.column}"
    if value in ("", []):
        return "empty"
    if isinstance(value, list):
        return ",".join(str(entry) for entry in value)
    return value if isinstance(value, str) else json.dumps(value)

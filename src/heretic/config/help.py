"""Text of ``heretic --help``, made from the field descriptions, and how all helps lay out an entry."""

import json
import textwrap
from collections.abc import Iterator, Mapping

from heretic.config.catalogue import SETTINGS, Setting
from heretic.config.sections import SECTIONS, PromptSpecification

WIDTH = 79

_INTRODUCTION = """\
Usage: heretic [MODEL] [options]

Find the direction of a behaviour (such as refusing) in an open-weight language
model, remove it from the weights, and search for the edit that changes the
behaviour most and everything else least.

Examples:
  heretic demo
      Try it on the bundled toy model; nothing is downloaded.
  heretic Qwen/Qwen3-4B-Instruct-2507
      Edit a model from the hub, and choose among the best edits in the end.
  heretic path/to/folder --n-trials 60 --auto-select --auto-select-path out
      Edit a local model, choose automatically, and save to the folder 'out'.
"""

_SOURCES = """Every option is also a key of config.toml (n_trials = 60) and an environment
variable (HERETIC_N_TRIALS=60). The command line wins over the environment, the
environment over config.toml, and config.toml over the defaults.

General
  --config PATH
      Read this file instead of config.toml in the current folder.
  --version
      Print the version.
  -h, --help
      Print this help.
"""

_CONCLUSION = """\
Exit codes: 0 done, 1 failed, 2 something given cannot be used,
130 interrupted, 143 terminated (SIGTERM).
"""


def help_text(commands: Mapping[str, str]) -> str:
    """Write the whole help, at most 80 columns wide, grouped by section.

    Args:
        commands: Further commands, e.g. ``verify FOLDER``, and what each does.
    """
    listed = [line for usage, summary in commands.items() for line in entry(f"heretic {usage}", summary)]
    parts = [_INTRODUCTION, "\n".join(["Further commands (heretic COMMAND -h explains them):", *listed, ""]), _SOURCES]
    for section in SECTIONS:
        settings = [setting for setting in SETTINGS.values() if setting.section is section and len(setting.path) == 1]
        lines = [line for setting in settings for line in _setting(setting, setting.flag)]
        parts.append("\n".join([section.title, *lines, ""]))
        if any(setting.is_prompt_set for setting in settings):
            parts.append("\n".join(_prompt_set_parts()))
    return "\n".join([*parts, _CONCLUSION])


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


def entry(head: str, text: str, indent: str = "  ") -> list[str]:
    """An option, command or example, and below it what it does."""
    return [
        indent + head,
        *textwrap.wrap(text, WIDTH, initial_indent=indent + "    ", subsequent_indent=indent + "    "),
    ]


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

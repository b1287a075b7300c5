"""Where settings come from besides the command line: environment, configuration file, built-in profile.

Each source is read into a `Layer` of values. What is wrong with it is collected rather than raised, so that a user sees
all problems at once.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heretic.common.errors import first_line
from heretic.common.redaction import quoted_without_secrets
from heretic.config.catalogue import NAMED, SETTINGS, Setting, variable_of
from heretic.config.checks import is_unicode
from heretic.config.command_line import VARIABLE_PREFIX, unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    # mypy checks for the oldest Python, but runs where this backport need not be installed.
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

parse_toml, TomlError = tomllib.loads, tomllib.TOMLDecodeError

DEFAULT_FILE = "config.toml"
TABLE = "heretic"
_LONGEST_QUOTE = 80
_MAY_BE_EMPTY = ("system_prompt", "response_prefix", "prefix", "suffix")
_SERVICE = re.compile(r"HERETIC_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_ADDRESS_OF_SERVICE = re.compile(r"HERETIC_(\w+_)?PORT=(tcp|udp|sctp)://.*")
"""As Kubernetes names them: https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables."""


@dataclass
class Layer:
    """What one source says.

    Attributes:
        label: Short name of the source.
        values: Setting -> value; a prompt set is a table of its parts.
        problems: One sentence for everything that is wrong with it.
        speakers: Setting -> who is quoted where its value is wrong, unless that is the label.
        spellings: Setting -> which of its names was used.
    """

    label: str
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    speakers: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, str] = field(default_factory=dict)

    def put(self, setting: Setting, value: Any, speaker: str | None = None, spelling: str = "") -> None:
        """Add a value; a prompt set that is given in several pieces is put together.

        Args:
            setting: Whose value it is.
            value: The value.
            speaker: Who is quoted where it is wrong, unless that is the label.
            spelling: The name that it has here; two names of one setting must not differ.
        """
        name, *part = setting.path
        before = self.spellings.setdefault(setting.name, spelling)
        if before != spelling and value != self.get(setting.name):
            self.problems.append(
                f"{before} and {spelling} ({self.label}) are one setting, but their values differ; leave one out."
            )
        if part:
            value = {part[0]: value}
        elif setting.is_prompt_set and isinstance(value, str):
            value = {"dataset": value}
        present = self.values.get(name)
        if SETTINGS[name].is_prompt_set and isinstance(present, dict) and isinstance(value, dict):
            value = {**present, **value}
        self.values[name] = value
        if speaker:
            self.speakers[setting.name] = speaker

    def has(self, name: str) -> bool:
        """Whether this source says something about a setting or a part of a prompt set."""
        head, _, part = name.partition(".")
        table = self.values.get(head)
        return (isinstance(table, dict) and part in table) if part else head in self.values

    def get(self, name: str) -> Any:
        """Look up a value, where `has` holds."""
        head, _, part = name.partition(".")
        return self.values[head][part] if part else self.values[head]

    def speaker(self, name: str) -> str:
        """Subject of a sentence that quotes a value, e.g. ``HERETIC_N_TRIALS``."""
        return self.speakers.get(name) or self.speakers.get(name.partition(".")[0]) or self.label


def environment_layer(environment: Mapping[str, str]) -> Layer:
    """Read all variables that start with ``HERETIC_``.

    An empty one says nothing, as compose files pass on what nobody set, unless emptiness can be meant. Those that
    Kubernetes sets in the pods beside a service of that name are none of ours.
    """
    layer = Layer("environment")
    settings = {variable_of(name): setting for name, setting in NAMED.items()}
    # In order of their names, so that the parts of a prompt set come after the whole, and win.
    for variable in sorted(environment):
        name, value = variable.upper(), environment[variable]
        if _SERVICE.fullmatch(name) or _ADDRESS_OF_SERVICE.fullmatch(f"{name}={value}"):
            continue
        if name in settings and not value.strip() and settings[name].path[-1] not in _MAY_BE_EMPTY:
            continue
        if name in settings and not is_unicode(value):
            layer.problems.append(f"{name} holds bytes that are not UTF-8 text; write it in UTF-8.")
        elif name in settings:
            layer.put(settings[name], settings[name].from_text(value), name, name)
        elif name.startswith(VARIABLE_PREFIX):
            layer.problems.append(unknown_name(f"setting {variable}", " in the environment", name, settings))
    return layer


def file_layer(path: Path, label: str) -> Layer:
    """Read a TOML file, from its ``[heretic]`` table where it has one."""
    layer = Layer(label)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = tomllib.loads(text)
    except FileNotFoundError:
        layer.problems.append(f"There is no configuration file {label}; check the path after --config.")
    except IsADirectoryError:
        layer.problems.append(f"The configuration file {label} is a folder; name a TOML file.")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        layer.problems.append(f"Line {line} of {label} is not UTF-8 text; save the file with UTF-8 encoding.")
    except OSError as error:
        layer.problems.append(f"The configuration file {label} cannot be read: {error.strerror}.")
    except tomllib.TOMLDecodeError as error:
        end = f"at line {text.count(chr(10)) + 1}, at the end of the file"
        layer.problems.append(f"{label} is not valid TOML: {str(error).replace('at end of document', end)}.")
    except RecursionError:
        layer.problems.append(f"{label} nests lists or tables too deeply; no setting needs more than three levels.")
    except ValueError as error:  # e.g. a number of thousands of digits, or a NUL character in the path
        layer.problems.append(f"The configuration file {label!r} cannot be read: {first_line(error)}.")
    else:
        _fill_from_table(layer, _settings_table(layer, content))
    return layer


def _settings_table(layer: Layer, content: dict[str, Any]) -> dict[str, Any]:
    """Find the table that holds the settings; other tables beside ``[heretic]`` belong to other tools."""
    if TABLE not in content:
        return content
    table = content[TABLE]
    if not isinstance(table, dict):
        layer.problems.append(f"'{TABLE}' in {layer.label} must be a table; write [{TABLE}] above the settings.")
        return {}
    outside = [key for key, value in content.items() if key in SETTINGS or not isinstance(value, dict)]
    if outside:
        layer.problems.append(
            f"{layer.label} has a [{TABLE}] table, but also {', '.join(outside)} outside of it; "
            "keep all settings in one place."
        )
    return table


def _fill_from_table(layer: Layer, table: Mapping[str, Any]) -> None:
    """Take over a table as it is: what is unknown or wrong in it is found together with that of the other sources."""
    for name, value in table.items():
        if name in NAMED and "." not in name:
            layer.put(NAMED[name], value, spelling=name)
        else:
            layer.values[name] = value


def profile_layer(name: str) -> Layer:
    """Read the built-in defaults of that name.

    Raises:
        FileNotFoundError: There is no such profile.
    """
    text = (files("heretic.config") / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    layer = Layer(f"profile {name}")
    _fill_from_table(layer, tomllib.loads(text))
    return layer


def sentences(error: ValidationError, layers: Sequence[Layer]) -> Iterator[str]:
    """One sentence for each wrong setting of those that the layers give."""
    seen = set()
    for detail in error.errors(include_url=False):
        location, reason = [str(part) for part in detail["loc"]], detail.get("ctx", {}).get("error")
        if detail["type"] == "extra_forbidden":
            name = ".".join(location)
            speaker = next(layer.speaker(name) for layer in layers if layer.has(name))
            yield unknown_name(f"setting {name}", f" in {speaker}", name, [*SETTINGS, TABLE])
            continue
        # What a prompt set lacks nobody has given, but the rest of it.
        is_part = ".".join(location[:2]) in SETTINGS and detail["type"] != "missing"
        name = ".".join(location[:2]) if is_part else location[0]
        if name in seen:
            continue
        seen.add(name)
        requirement = str(reason) if isinstance(reason, ValueError) else f"must be {SETTINGS[name].expected}"
        layer = next(layer for layer in layers if layer.has(name))
        yield f"{name} {requirement}, but {layer.speaker(name)} says {_quoted(layer.get(name))}."


def _quoted(value: Any) -> str:
    try:
        text = quoted_without_secrets(json.dumps(value, default=str))
    except (ValueError, RecursionError):  # a number of thousands of digits, hundreds of nested lists
        return "something too large to be shown"
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 3] + "..."

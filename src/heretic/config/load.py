"""From the sources to `Settings`: which source wins, what was changed, and sentences for what is wrong."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heretic.common.errors import ConfigurationError
from heretic.common.file_names import expanded
from heretic.common.redaction import quoted_without_secrets, remember_password
from heretic.config.arguments import Arguments, read_arguments
from heretic.config.catalogue import SETTINGS
from heretic.config.settings import Settings
from heretic.config.sources import DEFAULT_FILE, Layer, environment_layer, file_layer, profile_layer, sentences

_PROFILES = {"demo": "demo", "demo-edited": "demo"}
"""Model -> profile with the defaults that suit it."""


@dataclass(frozen=True)
class LoadedSettings:
    """Settings and how they came about.

    Attributes:
        settings: The settings of the run.
        configuration_file: The file that was read, or None.
        profile: Names of the built-in defaults in use, or None.
        changed: Setting -> ``value (source)`` for all that differ from the defaults.
    """

    settings: Settings
    configuration_file: Path | None
    profile: str | None
    changed: Mapping[str, str]


def load_settings(argv: Sequence[str], environment: Mapping[str, str], working_directory: Path) -> LoadedSettings:
    """Read all sources.

    The first one wins: command line, ``HERETIC_*`` variables, configuration file, built-in profile, defaults. Tables
    merge key by key, so that one part of a prompt set can be given alone; but the built-in split, column and so on
    are dropped with the built-in dataset.

    Args:
        argv: Arguments after the program's name.
        environment: Environment variables.
        working_directory: Where config.toml is looked for, and where ``--config`` starts from.

    Raises:
        ConfigurationError: Something is unknown, missing or wrong; one line per problem.
    """
    arguments = read_arguments(argv)
    file, label = _configuration_file(arguments, working_directory)
    layers = [arguments.layer, environment_layer(environment)]
    if file is not None:
        layers.append(file_layer(file, label))
    problems = [problem for layer in layers for problem in layer.problems]
    for url in (layer.get("storage") for layer in layers if layer.has("storage")):
        if isinstance(url, str):
            remember_password(url)

    model = next((layer.get("model") for layer in layers if layer.has("model")), None)
    quick = next((layer.get("quick") for layer in layers if layer.has("quick")), False)
    own = _PROFILES.get(model) if isinstance(model, str) else None
    # "true" of an environment variable is read before; whatever else is no switch is refused below.
    profiles = [*(["quick"] if quick is True else []), *([own] if own is not None else [])]
    timed = any(layer.has("time_limit") for layer in layers)
    for name in profiles:
        layers.append(profile_layer(name))
        if timed:
            # Nobody gave this number, so the time decides alone.
            layers[-1].values.pop("n_trials", None)

    try:
        settings = Settings.of([layer.values for layer in layers])
    except ValidationError as error:
        problems.extend(sentences(error, layers))
        raise ConfigurationError("\n".join(problems)) from error
    if problems:
        raise ConfigurationError("\n".join(problems))
    return LoadedSettings(settings, file, ", ".join(profiles) or None, _changed(settings, layers))


def _configuration_file(arguments: Arguments, working_directory: Path) -> tuple[Path | None, str]:
    if arguments.config is not None:
        return working_directory / expanded(arguments.config), arguments.config
    path = working_directory / DEFAULT_FILE
    # A dangling link is no absent file: whoever made it expects it to be read.
    return (path, DEFAULT_FILE) if path.exists() or path.is_symlink() else (None, DEFAULT_FILE)


def _changed(settings: Settings, layers: Sequence[Layer]) -> dict[str, str]:
    """List every given setting, and part of a prompt set, that differs from the defaults, with its source."""
    values, defaults = settings.model_dump(mode="json"), Settings().model_dump(mode="json")
    changed = {}
    for name, setting in SETTINGS.items():
        if setting.is_prompt_set:
            continue
        value, default = _part(values, setting.path), _part(defaults, setting.path)
        source = next((layer.label for layer in layers if layer.has(name)), None)
        # Where nobody gave a part that differs, it was dropped together with its dataset.
        if value != default and source is not None:
            changed[name] = with_source(value, source)
    return changed


def with_source(value: Any, source: str) -> str:
    """A setting's plain JSON value as a run shows it, and who gave it; no secrets."""
    text = value if isinstance(value, str) else "none" if value is None else json.dumps(value)
    return f"{quoted_without_secrets(text)} ({source})"


def _part(values: Mapping[str, Any] | None, path: tuple[str, ...]) -> Any:
    """What stands at a path; None in a prompt set that is not named."""
    if values is None:
        return None
    return _part(values[path[0]], path[1:]) if len(path) > 1 else values[path[0]]

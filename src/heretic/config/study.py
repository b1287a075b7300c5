"""Where a run in a folder keeps its study: storage and name, read without what the rest of the settings says."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from heretic.common.errors import ConfigurationError
from heretic.common.file_names import expanded
from heretic.config.catalogue import SETTINGS
from heretic.config.checks import check_database_url, check_text, is_unicode
from heretic.config.sources import DEFAULT_FILE, Layer, environment_layer, file_layer


def study_of_a_run(
    storage: str | None, study_name: str | None, config: str | None, environment: Mapping[str, str], folder: Path
) -> tuple[str, str]:
    """Storage and name of the study that a run would use.

    Args:
        storage: What the command line says, if anything.
        study_name: The same.
        config: The configuration file that the command line names.
        environment: Variables.
        folder: The working directory.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    variables = [SETTINGS[name].variable for name in ("storage", "study_name")]
    study_variables = {variable: value for variable, value in environment.items() if variable.upper() in variables}
    layers = [_command_line(storage, study_name), environment_layer(study_variables)]
    path = folder / expanded(config or DEFAULT_FILE)
    if config is not None or path.exists():
        layers.append(file_layer(path, config or DEFAULT_FILE))
    problem = next((problem for layer in layers for problem in layer.problems), None)
    if problem is not None:
        raise ConfigurationError(problem)
    return _checked("storage", layers, check_database_url), _checked("study_name", layers, _check_name)


def named_study(storage: str | None, study_name: str | None) -> tuple[str | None, str | None]:
    """Storage and name of a study as far as the command line names them.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    layers = [_command_line(storage, study_name)]
    return (
        None if storage is None else _checked("storage", layers, check_database_url),
        None if study_name is None else _checked("study_name", layers, _check_name),
    )


def _command_line(storage: str | None, study_name: str | None) -> Layer:
    given = {"storage": storage, "study_name": study_name}
    return Layer("the command line", {name: value for name, value in given.items() if value is not None})


def _check_name(value: str) -> str:
    """Refuse what no study can be called: nothing, and bytes of the command line that are no text."""
    if not is_unicode(value):
        raise ValueError("must be UTF-8 text")
    return check_text(value)


def _checked(name: str, layers: Sequence[Layer], check: Callable[[str], str]) -> str:
    layer = next((layer for layer in layers if layer.has(name)), None)
    if layer is None:
        return str(SETTINGS[name].field.default)
    value = layer.get(name)
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be text, but {layer.speaker(name)} says {value}.")
    try:
        return check(value)
    except ValueError as error:
        raise ConfigurationError(f"{name} {error}, which what {layer.speaker(name)} says is not.") from error

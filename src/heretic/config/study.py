"""Where a run in a folder keeps its study: storage and name, read without what the rest of the settings says."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from heretic.common.errors import ConfigurationError
from heretic.common.file_names import expanded
from heretic.config.catalogue import variable_of
from heretic.config.sections import SearchSection
from heretic.config.sources import DEFAULT_FILE, Layer, environment_layer, file_layer, sentences

_NAMES = ("storage", "study_name")


def study_of_a_run(
    storage: str | None, study_name: str | None, config: str | None, environment: Mapping[str, str], folder: Path
) -> tuple[str, str | None]:
    """Storage and name of the study that a run would use; None for a name that it makes of model and behaviour.

    Args:
        storage: What the command line says, if anything.
        study_name: The same.
        config: The configuration file that the command line names.
        environment: Variables.
        folder: The working directory.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    variables = list(map(variable_of, _NAMES))
    study_variables = {variable: value for variable, value in environment.items() if variable.upper() in variables}
    layers = [_command_line(storage, study_name), environment_layer(study_variables)]
    path = folder / expanded(config or DEFAULT_FILE)
    if config is not None or path.exists():
        layers.append(file_layer(path, config or DEFAULT_FILE))
    return _read(layers)


def named_study(storage: str | None, study_name: str | None) -> tuple[str | None, str | None]:
    """Storage and name of a study as far as the command line names them.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    read = _read([_command_line(storage, study_name)])
    return None if storage is None else read[0], None if study_name is None else read[1]


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases, and for one in memory or under a URI of its own."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    database = parsed.database
    if parsed.get_backend_name() != "sqlite" or not database or database == ":memory:" or database.startswith("file:"):
        return None
    return expanded(database)


def _command_line(storage: str | None, study_name: str | None) -> Layer:
    given = {"storage": storage, "study_name": study_name}
    return Layer("the command line", {name: value for name, value in given.items() if value is not None})


def _read(layers: Sequence[Layer]) -> tuple[str, str | None]:
    """What the layers say, the first one winning."""
    problems = [problem for layer in layers for problem in layer.problems]
    given = {name: layer.get(name) for layer in reversed(layers) for name in _NAMES if layer.has(name)}
    try:
        settings = SearchSection.model_validate(given)
    except ValidationError as error:
        problems += sentences(error, layers)
    if problems:
        raise ConfigurationError(problems[0])
    return settings.storage, settings.study_name

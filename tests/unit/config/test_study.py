"""Which study a run in a folder would use, read without the rest of the settings."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from heretic.common.errors import ConfigurationError
from heretic.config.load import load_settings
from heretic.config.study import named_study, study_of_a_run


def study(
    folder: Path,
    environment: Mapping[str, str] | None = None,
    storage: str | None = None,
    study_name: str | None = None,
    config: str | None = None,
) -> tuple[str, str | None]:
    return study_of_a_run(storage, study_name, config, environment or {}, folder)


def test_storage_and_name_are_those_of_a_run(tmp_path: Path) -> None:
    assert study(tmp_path) == ("sqlite:///heretic_study.db", None)
    # What is wrong with the rest of the file is no reason not to look.
    (tmp_path / "config.toml").write_text('study_name = "file"\nstorage = "sqlite:///file.db"\nn_trials = "many"\n')
    (tmp_path / "other.toml").write_text('[heretic]\nstudy_name = "other"\n')
    assert study(tmp_path) == ("sqlite:///file.db", "file")
    assert study(tmp_path, config="other.toml") == ("sqlite:///heretic_study.db", "other")
    environment = {"HERETIC_STUDY_NAME": "environment"}
    assert study(tmp_path, environment) == ("sqlite:///file.db", "environment")
    given = study(tmp_path, environment, "mysql://host/db", "line")
    assert given == named_study("mysql://host/db", "line") == ("mysql://host/db", "line")
    assert named_study(None, "line") == (None, "line")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"storage": "file.db"}, "storage must be a database URL"),
        ({"study_name": " "}, "study_name must be text that is not empty"),
        ({"config": "gone.toml"}, "There is no configuration file gone.toml"),
        ({"config": "number.toml"}, "study_name must be text, but number.toml says 3"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    (tmp_path / "number.toml").write_text("study_name = 3\n")
    with pytest.raises(ConfigurationError) as raised:
        study(tmp_path, **arguments)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("variable", ["HERETIC_STUDY_NAME", "HERETIC_STORAGE"])
def test_a_variable_that_is_no_text_is_refused_as_by_a_run(tmp_path: Path, variable: str) -> None:
    environment = {variable: "caf\udce9", "HERETIC_MODEL": "\udce9"}
    with pytest.raises(ConfigurationError) as of_a_run:
        load_settings([], {variable: environment[variable]}, tmp_path)
    # Also where the command line wins, as there.
    for given in ({}, {"study_name": "line", "storage": "sqlite:///line.db"}):
        with pytest.raises(ConfigurationError) as raised:
            study(tmp_path, environment, **given)
        assert str(raised.value) == str(of_a_run.value)
        assert variable in str(raised.value)
    # What is wrong with other variables is no reason not to look.
    assert study(tmp_path, {"HERETIC_MODEL": "\udce9"})[1] is None

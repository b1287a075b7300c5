import re
from pathlib import Path

import pytest

from heretic.config import Settings, load_settings
from heretic.config.catalogue import SETTINGS
from heretic.config.help import whole_help
from heretic.config.template import main, template

FILE = Path(__file__).parents[3] / "config.default.toml"

HELP = whole_help({"verify FOLDER": "Compare it."})


def test_the_file_is_what_the_fields_say():
    assert FILE.read_text(encoding="utf-8") == template()


def test_as_it_stands_the_file_changes_nothing(tmp_path):
    (tmp_path / "config.toml").write_text(template())
    assert load_settings([], {}, tmp_path).settings == Settings()


def test_with_every_line_in_use_it_holds_the_defaults_and_examples(tmp_path):
    (tmp_path / "config.toml").write_text(re.sub(r"(?m)^#(?! |$)", "", template()))
    loaded = load_settings([], {}, tmp_path)
    values, defaults = loaded.settings.model_dump(), Settings().model_dump()
    examples = {name: SETTINGS[name].field.examples[0] for name in defaults if defaults[name] is None}
    # The example's model is the demo, whose profile the file's own lines win over.
    assert values == Settings(**examples).model_dump()


def test_check_compares_a_file(tmp_path, capsys):
    path = tmp_path / "config.default.toml"
    path.write_text(template())
    assert main(["--check", str(path)]) == 0
    path.write_text(template().replace("200", "201"))
    assert main(["--check", str(path)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert main([]) == 0
    assert capsys.readouterr().out == template()


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_the_help_knows_every_setting(setting):
    shown = "." + setting.path[-1].replace("_", "-") if len(setting.path) > 1 else setting.flag
    if setting.path[1:] != ("dataset",):
        assert re.search(rf"(?m)^ +{re.escape(shown)} ", HELP)
    first_words = " ".join(setting.field.description.split()[:4])
    assert first_words in " ".join(HELP.split()) or setting.path[1:] == ("dataset",)


def test_the_help_is_plain_text_of_80_columns():
    assert HELP.isascii()
    assert max(map(len, HELP.splitlines())) <= 80
    assert "[200]" in HELP

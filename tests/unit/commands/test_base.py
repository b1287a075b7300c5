"""What every command keeps to, and how arguments are declared."""

import subprocess
import sys
from pathlib import Path

import pytest

import heretic.commands
from heretic import cli
from heretic.commands.base import command_names, find_command
from heretic.commands.directions import COMMAND as DIRECTIONS
from heretic.commands.directions import DirectionArguments
from heretic.common.errors import ConfigurationError
from heretic.config.catalogue import SETTINGS
from heretic.config.help import USUAL

NAMES = command_names()
OPTIONS = {
    (name, line.split()[0]): " " in line.strip()
    for name in NAMES
    for line in find_command(name).help().splitlines()
    if line.startswith("  --")
}
"""(Command, option) -> whether it takes a value."""
USAGES = {name: find_command(name).usage.removeprefix(name).strip() for name in NAMES}
"""Command -> what stands after it without a flag."""
NEEDY = [name for name, usage in USAGES.items() if usage and not usage.startswith("[")]
SCREEN = 45
"""Lines."""


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one sentence with which a command line is refused."""
    assert cli.main(list(argv)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line.removeprefix("Error: ")


def test_every_file_is_the_command_that_it_is_named_after() -> None:
    assert {"behaviors", "checksum", "directions", "migrate", "plan", "report", "status", "verify"} <= set(NAMES)
    assert [find_command(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_quoted_as_typed(capsys: pytest.CaptureFixture[str], name: str) -> None:
    see_help = f"run 'heretic {name} --help' to see how it is used."
    assert refused(capsys, name, "--FooBar=x") == f"Unknown option --FooBar; {see_help}"


@pytest.mark.parametrize(("name", "option"), [*OPTIONS, *((name, "--help") for name in NAMES)])
@pytest.mark.parametrize("typed", ["{}x", "{}"], ids=["misspelt", "in capitals"])
def test_an_unknown_option_names_the_nearest(
    capsys: pytest.CaptureFixture[str], name: str, option: str, typed: str
) -> None:
    typed = typed.format(option if "x" in typed else option.upper())
    # What follows may be its value, and is not complained about.
    assert refused(capsys, name, "a", typed, "b", "c") == f"Unknown option {typed}; did you mean {option}?"


@pytest.mark.parametrize("name", NEEDY)
def test_what_a_command_needs_has_to_be_there(capsys: pytest.CaptureFixture[str], name: str) -> None:
    word = USAGES[name].split()[0].lower()
    assert refused(capsys, name) == f"No {word} was named; run 'heretic {name} --help' to see how it is used."


@pytest.mark.parametrize("name", [name for name, usage in USAGES.items() if usage and " " not in usage])
def test_one_is_not_two(capsys: pytest.CaptureFixture[str], name: str) -> None:
    word = USAGES[name].strip("[]").lower()
    assert refused(capsys, name, "a", "b").startswith(f"Only one {word} can be named, but 2 are; run")


@pytest.mark.parametrize("name", [name for name, usage in USAGES.items() if usage])
def test_what_is_named_is_not_empty(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert " is empty; run 'heretic" in refused(capsys, name, " ")


@pytest.mark.parametrize(("name", "option"), [key for key, takes_value in OPTIONS.items() if takes_value])
def test_an_option_needs_a_value_that_is_not_empty(capsys: pytest.CaptureFixture[str], name: str, option: str) -> None:
    rest = ["a"] if name in NEEDY else []
    assert refused(capsys, name, *rest, option).startswith(f"{option} needs a value; write {option} VALUE or")
    assert refused(capsys, name, *rest, f"{option}= ").startswith(f"{option} is empty; write {option} ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("argv", [["--help"], ["--zzz", "-h", "x", "y"]])
def test_help_is_found_wherever_it_stands_and_fits_a_screen(
    capsys: pytest.CaptureFixture[str], name: str, argv: list[str]
) -> None:
    assert cli.main([name, *argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[0].startswith(f"Usage: heretic {find_command(name).usage}")
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    assert "Examples:" in lines
    assert "Exit codes: 0 " in captured.out


def test_the_main_help_names_every_command_and_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in map(find_command, NAMES):
        assert f"  {command.name:<10} {command.summary}\n" in shown
    lines = shown.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    for name in USUAL:
        assert SETTINGS[name].flag in shown


def test_the_whole_help_names_every_command_and_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help-all"]) == cli.main(["help", "all"]) == 0
    shown = capsys.readouterr().out
    for command in map(find_command, NAMES):
        assert shown.count(f"  heretic {command.usage}\n      {command.summary}\n") == 2
    for setting in SETTINGS.values():
        assert len(setting.path) > 1 or f"  {setting.flag} " in shown


def test_help_explains_a_command_a_setting_and_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    for topic, words in (
        ("status", "Usage: heretic status"),
        ("n-trials", "--n-trials NUMBER"),
        ("N_TRIALS", "--n-trials NUMBER"),
        ("Search", "--n-startup-trials NUMBER"),
    ):
        assert cli.main(["help", topic]) == 0
        assert words in capsys.readouterr().out
    assert refused(capsys, "help", "n-trails") == "There is no help on n-trails; did you mean n_trials?"
    assert refused(capsys, "help", "zzz").startswith("There is no help on zzz; name a command, an option, or one of")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("behaviours", "behaviors"),
        ("list", "studies"),
        ("study", "studies"),
        ("statsu", "status"),
        ("reports", "report"),
    ],
)
def test_a_word_near_a_command_is_asked_about(capsys: pytest.CaptureFixture[str], word: str, near: str) -> None:
    assert refused(capsys, word) == (
        f"{word} is no command; did you mean 'heretic {near}'? A model of that name is named with --model {word}."
    )


@pytest.mark.parametrize("word", ["demo", "gpt2", "owner/status", "--statsu", "distilgpt2", "bert"])
def test_other_words_may_be_models(word: str) -> None:
    assert cli.near_command(word) == ""


def test_a_folder_that_is_called_like_a_command_is_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studys").mkdir()
    assert cli.near_command("studys") == ""


def test_listing_the_commands_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from heretic.commands.base import *; list(map(find_command, command_names()));"
        "assert not {'torch', 'rich.console', 'numpy', 'optuna', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_further_file_is_a_further_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "throwaway.py").write_text("""\
from dataclasses import dataclass

from heretic.commands.base import Command, option, positional, switch


@dataclass(frozen=True)
class Arguments:
    names: tuple[str, ...] = positional("[NAME ...]")
    times: int = option("NUMBER", "How often.", default=1, read=int)
    loud: bool = switch("In capitals.")


def run(arguments, printer):
    for _ in range(arguments.times):
        printer.row("Greeted", " ".join(arguments.names).upper() if arguments.loud else " ".join(arguments.names))
    return 3


COMMAND = Command("throwaway", Arguments, run, summary="Greet.", description="Greet everybody.")
""")
    monkeypatch.setattr(heretic.commands, "__path__", [*heretic.commands.__path__, str(tmp_path)])
    assert command_names() == tuple(sorted([*NAMES, "throwaway"]))
    assert cli.main(["--help"]) == 0
    assert "  throwaway  Greet.\n" in capsys.readouterr().out
    assert cli.main(["throwaway", "Ada", "--times", "2", "--loud", "Bob"]) == 3
    assert capsys.readouterr().out == "Greeted        ADA BOB\n" * 2
    assert refused(capsys, "throwaway", "--loud=yes") == "--loud takes no value; leave out =yes."


def test_values_may_begin_with_a_minus_and_names_too() -> None:
    read = DIRECTIONS.read(["a", "--weights", "-1,0.5", "--output", "c", "--", "--odd"])
    assert read == DirectionArguments(("a", "--odd"), output="c", weights=(-1.0, 0.5))


def test_every_problem_has_its_line() -> None:
    with pytest.raises(ConfigurationError) as raised:
        DIRECTIONS.read(["--zzz", "--weights", "x", "--plots"])
    starts = [line.split()[0] for line in str(raised.value).splitlines()]
    assert starts == ["Unknown", "--plots", "--weights"]

import os
import signal
import subprocess
import sys
import types

import pytest
from tests.unit.search.studies import IDENTITY, SPACE, record, url_of

from heretic import __version__, cli
from heretic.common.errors import ExportError, StudyError
from heretic.search.records import tell
from heretic.search.storage import open_study

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.upper().startswith("HERETIC_")}


def heretic(folder, *argv, **environment):
    return subprocess.run(
        [sys.executable, "-m", "heretic", *argv],
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(autouse=True)
def own_signals():
    """The command changes what signals do, which ends with its process otherwise."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def workflow(monkeypatch):
    """Stands in for the main path, and remembers what it was called with."""
    for key in [key for key in os.environ if key.upper().startswith("HERETIC_")]:
        monkeypatch.delenv(key)
    module = types.ModuleType("heretic.interface.terminal")
    module.calls = []
    module.outcome = 0

    def run_in_terminal(loaded):
        module.calls.append(loaded)
        if isinstance(module.outcome, BaseException):
            raise module.outcome
        return module.outcome

    module.run_in_terminal = run_in_terminal
    monkeypatch.setitem(sys.modules, "heretic.interface.terminal", module)
    return module


@pytest.mark.integration
@pytest.mark.parametrize(
    ("argv", "file", "message"),
    [
        (["x", "--n-trials", "0"], None, "Error: n_trials must be a whole number from 1 to 1000000, but"),
        (["x", "--n-trails", "5"], None, "Error: Unknown option --n-trails; did you mean --n-trials?"),
        (["x"], b"n_trails = 5", "Error: Unknown setting n_trails in config.toml; did you mean n_trials?"),
        (["x"], b"n_trials = 'a'", "Error: n_trials must be a whole number"),
        (["x"], b"= 5", "Error: config.toml is not valid TOML: Invalid statement (at line 1, column 1)."),
        (["x"], b"a = '\xff'", "Error: Line 1 of config.toml is not UTF-8 text;"),
        (["x", "--config", "gone.toml"], None, "Error: There is no configuration file gone.toml;"),
        (["x", "--config", "."], None, "Error: The configuration file . is a folder;"),
        ([], None, "Error: No model was named; run 'heretic MODEL', or 'heretic --model demo'"),
    ],
    ids=str,
)
def test_what_cannot_be_used_gives_one_sentence_and_code_2(tmp_path, argv, file, message):
    if file is not None:
        (tmp_path / "config.toml").write_bytes(file)
    before = sorted(tmp_path.iterdir())
    result = heretic(tmp_path, *argv)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(message)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.integration
def test_every_problem_has_its_line(tmp_path):
    result = heretic(tmp_path, "x", "--seed", "-1", "--zzz", HERETIC_N_TRAILS="5")
    lines = result.stderr.splitlines()
    assert result.returncode == 2
    assert len(lines) == 3
    assert all(line.startswith("Error: ") for line in lines)


@pytest.mark.integration
def test_help_and_version_need_nothing_else(tmp_path):
    (tmp_path / "config.toml").write_text("this is no TOML")
    result = heretic(tmp_path, "--zzz", "--help", HERETIC_N_TRIALS="a")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: heretic [MODEL] [options]")
    assert "--n-trials NUMBER" in result.stdout
    assert heretic(tmp_path, "--version").stdout == f"heretic {__version__}\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("argv", "allowed"),
    [
        (["--help"], ()),
        (["--help-all"], ()),
        (["help", "search"], ("rich.console",)),
        (["--version"], ()),
        (["x", "--n-trials", "0"], ("pydantic_settings",)),
        (["behaviors"], ("rich.console", "pydantic_settings")),
        (["behaviors", "hedging", "--copy", "mine"], ("rich.console",)),
        (["checksum", "model"], ("rich.console",)),
        (["verify", "saved"], ("rich.console",)),
        (["plan", "demo"], ("rich.console", "pydantic_settings")),
        (["status", "--storage", "sqlite:///study.db"], ("rich.console", "optuna", "numpy", "sqlalchemy")),
    ],
    ids=str,
)
def test_nothing_heavy_is_imported_for_an_answer(tmp_path, argv, allowed):
    for name in ("model", "saved"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert cli.main(["checksum", str(tmp_path / "saved")]) == 0
    study = open_study(url_of(tmp_path / "study.db"), "heretic_study", IDENTITY)
    trial = study.ask()
    SPACE.suggest(trial)
    tell(study, trial, record(0, 12, 0.1))
    heavy = {"torch", "transformers", "datasets", "sklearn", "scipy", "optuna", "numpy", "sqlalchemy"}
    heavy |= {"rich.console", "questionary", "pydantic_settings"}
    script = (
        f"import sys; from heretic.cli import main; assert main({argv!r}) == {2 if '--n-trials' in argv else 0};"
        "print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert not (heavy - set(allowed)) & set(result.stderr.split())


@pytest.mark.integration
@pytest.mark.skipif(os.name == "nt", reason="Windows has another error for a closed pipe")
def test_a_reader_that_leaves_early_causes_no_complaint(tmp_path):
    # The sleep makes sure that the reader has gone before anything is written.
    script = "import time; time.sleep(0.2); from heretic.cli import main; import sys; sys.exit(main(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=600) == 1
    assert error == b""


def test_good_settings_reach_the_workflow(workflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HERETIC_SEED", "4")
    assert cli.main(["demo", "--n-trials", "7"]) == 0
    (loaded,) = workflow.calls
    assert (loaded.settings.model, loaded.settings.n_trials, loaded.settings.seed) == ("demo", 7, 4)
    assert loaded.profile == "demo"


def test_the_code_of_the_workflow_is_the_code_of_the_command(workflow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workflow.outcome = 130
    assert cli.main(["x"]) == 130


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (StudyError("The study is locked."), 2, "Error: The study is locked.\n"),
        (ExportError("The disk is full."), 1, "Error: The disk is full.\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
    ids=repr,
)
def test_expected_errors_become_a_sentence_and_their_code(
    workflow, tmp_path, monkeypatch, capsys, outcome, code, message
):
    monkeypatch.chdir(tmp_path)
    workflow.outcome = outcome
    assert cli.main(["x"]) == code
    assert capsys.readouterr().err == message


@pytest.mark.integration
@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes in another way")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_further_signal_on_the_way_out_shows_no_traceback(tmp_path, number):
    script = f"""
import os, sys
from heretic import cli
from heretic.common.errors import Terminated
def interrupted(_arguments):
    raise KeyboardInterrupt if {int(number)} == 2 else Terminated
cli._run = interrupted
class Late:
    def write(self, text):
        os.write(2, text.encode())
        os.kill(os.getpid(), {int(number)})
sys.stderr = Late()
cli.main(["x"])
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == -number
    assert result.stderr in ("Interrupted.\n", "Terminated.\n")


@pytest.mark.parametrize("outcome", [ZeroDivisionError("unforeseen"), BrokenPipeError("of a connection, not of ours")])
def test_an_unforeseen_error_says_so_and_keeps_its_traceback(workflow, tmp_path, monkeypatch, capsys, outcome):
    monkeypatch.chdir(tmp_path)
    workflow.outcome = outcome
    assert cli.main(["x"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"Internal error: {type(outcome).__name__}.")
    assert "report" in lines[0]
    assert lines[1].startswith("Traceback")
    assert lines[-1] == f"{type(outcome).__name__}: {outcome}"


@pytest.mark.parametrize(("answer", "code"), [("demo", 0), (None, 130)])
def test_alone_in_a_terminal_it_asks_for_the_model(workflow, tmp_path, monkeypatch, answer, code):
    monkeypatch.chdir(tmp_path)
    picker = types.ModuleType("heretic.interface.picker")
    picker.ask_model = lambda: answer
    monkeypatch.setitem(sys.modules, "heretic.interface.picker", picker)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert cli.main(["--seed", "1"]) == code
    assert [(loaded.settings.model, loaded.settings.seed, loaded.profile) for loaded in workflow.calls] == (
        [("demo", 1, "demo")] if answer else []
    )


def test_it_does_not_ask_before_the_rest_is_right(workflow, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert cli.main(["--n-trials", "0"]) == 2
    assert "n_trials" in capsys.readouterr().err


def test_a_registered_command_gets_the_arguments_after_its_name(workflow, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "command_names", lambda: ("status",))
    monkeypatch.setattr(cli, "find_command", lambda name: lambda argv: seen.append((name, argv)) or 5)
    assert cli.main(["status", "--zzz", "y"]) == 5
    assert seen == [("status", ["--zzz", "y"])]
    assert workflow.calls == []


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep such folders, or have no such names")
@pytest.mark.parametrize("argv", [["status"], ["behaviors"], ["x"]], ids=str)
def test_a_working_folder_that_has_been_removed(tmp_path, argv):
    (tmp_path / "gone").mkdir()
    script = "import os, sys; os.rmdir(os.getcwd()); from heretic.cli import main; sys.exit(main(sys.argv[1:]))"
    result = subprocess.run(
        [sys.executable, "-c", script, *argv], cwd=tmp_path / "gone", capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr == "Error: The working folder has been removed; change to one that exists.\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_working_folder_whose_name_is_no_text_is_refused_before_anything_is_done(
    workflow, tmp_path, monkeypatch, capsys
):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/b\xffd")
    os.mkdir(folder)
    monkeypatch.chdir(folder)
    assert cli.main(["x"]) == 2
    assert "no UTF-8 text" in capsys.readouterr().err
    assert workflow.calls == []


@pytest.mark.parametrize(
    "decided", [{}, {"GOMP_SPINCOUNT": "10"}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"KMP_BLOCKTIME": ""}]
)
def test_waiting_threads_sleep_unless_the_environment_decides(decided):
    environment = dict(decided)
    cli.wait_asleep(environment)
    assert environment == (decided if any(decided.values()) else {**decided, **cli.WAITING_THREADS})


def test_how_threads_wait_is_decided_before_torch_is_imported():
    program = """
import sys, os
from heretic import cli
cli.wait_asleep = lambda environment: print("torch" in sys.modules)
cli.main(["--version"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "False"


def test_something_is_said_before_torch_is_imported():
    program = (
        "import sys, heretic.interface.terminal; print(sorted({'torch', 'transformers', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

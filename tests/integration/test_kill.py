"""Runs that are killed at random moments lose nothing; `kill_study.py` does the same 100 times (nightly)."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.command import QUICK_DEMO, QUICK_PICO, WITH_REPORT, Command, saving_to
from tests.integration.kill_study import kill_study

pytestmark = pytest.mark.integration

PICO = ("pico", *QUICK_PICO, "--n-trials", "2")


def test_a_study_survives_kills(heretic: Command, tmp_path: Path) -> None:
    counts = kill_study(heretic, tmp_path, kills=5, generator=random.Random(1), seconds=4.0)
    assert counts["kills"] == 5
    assert counts["finished trials"] >= 12


AT_EVERY_WRITE = """
import hashlib, json, os, pathlib, signal
def counted(function):
    def call(*arguments, **keywords):
        global writes
        writes += 1
        look()
        return function(*arguments, **keywords)
    return call
writes = 0
for name in ('mkdir', 'replace', 'fsync', 'chmod', 'rmdir'):
    setattr(os, name, counted(getattr(os, name)))
def digests():
    files = [path for path in pathlib.Path('out').rglob('*') if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
"""
"""Code that calls `look` whenever saving is about to touch a file or folder."""


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_saved_folder_is_absent_or_whole_at_every_write(heretic: Command, folder: Path) -> None:
    """A kill at any of them would leave what is seen there."""
    look = (
        "def look():\n"
        "    with open('seen', 'a') as seen:\n"
        "        print(json.dumps(digests() if os.path.exists('out') else None), file=seen)\n"
    )
    heretic(folder, *PICO, *WITH_REPORT, *saving_to("out"), before=AT_EVERY_WRITE + look).assert_done()
    heretic(folder, "verify", "out").assert_done()
    seen = [json.loads(line) for line in (folder / "seen").read_text(encoding="utf-8").splitlines()]
    whole = {str(path.relative_to(folder)): digest(path) for path in (folder / "out").rglob("*") if path.is_file()}
    assert seen.count(None) > 10
    assert whole in seen
    assert all(files in (None, whole) for files in seen)


@pytest.mark.parametrize("moment", ["writes == 5", "os.path.exists('out')"], ids=["half written", "just renamed"])
def test_a_run_that_was_killed_while_saving_is_gone_on_with(heretic: Command, folder: Path, moment: str) -> None:
    look = f"def look():\n    if {moment}:\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    result = heretic(folder, *PICO, *saving_to("out"), before=AT_EVERY_WRITE + look)
    assert result.code == -signal.SIGKILL, result.errors
    if (folder / "out").exists():
        heretic(folder, "verify", "out").assert_done()
    heretic(folder, *PICO, *saving_to("second")).assert_done()
    heretic(folder, "verify", "second").assert_done()


def test_sigterm_keeps_finished_trials_and_exits_with_143(heretic: Command, folder: Path) -> None:
    """As spot machines send it, in the middle of a search."""
    after_two_trials = (
        "import os, signal\n"
        "from heretic.observability import events\n"
        "from heretic.search import loop\n"
        "emit = loop.emit\n"
        "def counted(event):\n"
        "    emit(event)\n"
        "    if isinstance(event, events.TrialFinished) and event.record.number == 1:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "loop.emit = counted\n"
    )
    arguments = (*PICO, "--candidates", "1", "--n-trials", "6", *saving_to("out"))
    result = heretic(folder, *arguments, before=after_two_trials)
    assert result.code == 143, result.errors + result.output
    assert "SIGTERM" in result.output
    assert not (folder / "out").exists()
    resumed = heretic(folder, *arguments)
    resumed.assert_done()
    assert "2 of 6 trials are finished" in resumed.output


def test_sigterm_while_loading_ends_at_once_and_leaves_nothing(heretic: Command, folder: Path) -> None:
    while_loading = (
        "import os, signal\n"
        "from heretic import workflow\n"
        "workflow.prepare = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    before = {*os.listdir(folder)}
    result = heretic(folder, *PICO, *saving_to("out"), before=while_loading)
    assert (result.code, result.errors) == (143, "Terminated.\n")
    assert {*os.listdir(folder)} == before


def test_two_runs_of_one_study(heretic: Command, folder: Path) -> None:
    another = (
        "import builtins, contextlib\n"
        "from heretic.search.claim import claimed\n"
        "stack = builtins.kept = contextlib.ExitStack()\n"
        "stack.enter_context(claimed('sqlite:///heretic_study.db', 'pico-refusal'))\n"
    )
    # The same process holds it, by another open file: as far as the lock goes, somebody else.
    result = heretic(folder, *PICO, *saving_to("out"), before=another)
    result.assert_one_sentence("Another run works on the study pico-refusal", "heretic status", "--study-name")
    assert "Loading" not in result.output


def test_a_damaged_study_is_named_before_anything_is_loaded(heretic: Command, folder: Path) -> None:
    heretic(folder, *PICO, *saving_to("out")).assert_done()
    study = folder / "heretic_study.db"
    content = study.read_bytes()
    study.write_bytes(content[: len(content) // 2])
    result = heretic(folder, *PICO, *saving_to("second"))
    result.assert_one_sentence("heretic_study.db is damaged", "heretic_study.db.damaged", "--storage")
    assert "Loading" not in result.output
    assert study.read_bytes() == content[: len(content) // 2]


def test_memory_that_never_suffices_ends_with_the_command_that_goes_on(heretic: Command, folder: Path) -> None:
    no_room = (
        "import torch\n"
        "from heretic.search import loop\n"
        "from heretic.engine.engine import Jobs\n"
        "run = Jobs.run\n"
        "def full(self, *arguments):\n"
        "    raise torch.OutOfMemoryError('CUDA out of memory.')\n"
        "Jobs.run = full\n"
    )
    result = heretic(folder, *PICO, "--n-trials", "20", *saving_to("my out"), before=no_room)
    assert result.code == 1, result.errors + result.output
    error, hint = result.errors.splitlines()
    assert error.startswith("Error: Memory ran out in 3 trials in a row")
    assert "to go on, run: heretic pico" in hint
    assert hint.endswith("'my out' --batch-size 1 --candidates 1")
    # The command that was printed.
    heretic(folder, *PICO, *saving_to("my out"), "--batch-size", "1", "--candidates", "1").assert_done()


@pytest.mark.parametrize("step", ["run.workbench.measure_original", "workflow.warm_start", "run.saving.save_model"])
def test_memory_that_runs_out_at_any_step_is_no_mistake_of_ours(heretic: Command, folder: Path, step: str) -> None:
    module, _, name = step.rpartition(".")
    no_room = f"import heretic.{module} as module\ndef full(*_a, **_k):\n    raise MemoryError\nmodule.{name} = full\n"
    result = heretic(folder, *PICO, *saving_to("out"), before=no_room)
    assert result.code == 1
    error, hint = result.errors.splitlines()
    assert error.startswith("Error: Memory ran out (host ")
    assert "to go on, run: heretic pico" in hint
    assert not (folder / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit memory in other ways")
def test_a_real_memory_limit_is_told_from_other_faults(heretic: Command, tmp_path: Path) -> None:
    """The operating system refuses what is more than a few megabytes above what the process has by then."""
    limited = (
        "import resource, torch\n"
        "from pathlib import Path\n"
        "from heretic import workflow\n"
        "from heretic.passes.side_by_side import RaggedSideBySide\n"
        # The demo model's trials fit into what was used before and given back, so these need more.
        "predict = RaggedSideBySide.predict\n"
        "def hungry(*arguments):\n"
        "    torch.ones(2**30, dtype=torch.uint8)\n"
        "    return predict(*arguments)\n"
        "RaggedSideBySide.predict = hungry\n"
        "start = workflow.warm_start\n"
        "def limited(*arguments):\n"
        "    pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "    allowed = pages * resource.getpagesize() + 4 * 2**20\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))\n"
        "    return start(*arguments)\n"
        "workflow.warm_start = limited\n"
    )
    arguments = (*QUICK_DEMO, "--candidates", "4", "--n-trials", "4", *saving_to("out"))
    result = heretic(tmp_path, *arguments, before=limited)
    assert result.code == 1, result.errors + result.output
    assert "Memory ran out in 3 trials in a row" in result.errors
    assert "to go on, run: heretic --model demo" in result.errors
    resumed = heretic(tmp_path, *arguments)
    resumed.assert_done()
    assert "4 trials finished" in resumed.output


ON_A_SMALL_DISK = """
import pathlib, sqlite3, sys
from tests.integration.joining import Sleeper
from tests.unit.search.studies import IDENTITY, SPACE
from heretic.common.errors import StudyError
from heretic.observability.events import TrialFinished, subscribed
from heretic.search.crew import Alone
from heretic.search.loop import search
from heretic.search.records import stored_records
from heretic.search.sampler import make_sampler
from heretic.search.storage import open_study
folder = pathlib.Path(sys.argv[1])
url, ballast, told = f'sqlite:///{folder}/study.db', folder / 'ballast', set()
ballast.write_bytes(bytes(100_000))
def run(trials):
    study = open_study(url, 'study', IDENTITY)
    study.sampler = make_sampler(0, 4, 0)
    return search(study, url, SPACE, Alone(Sleeper(0.0, 2)), trials)
def note(event):
    if isinstance(event, TrialFinished):
        told.add(event.record.number)
with subscribed(note):
    try:
        run(100_000)
    except StudyError as error:
        said = str(error)
assert 'disk is full; free some space' in said and len(said.splitlines()) == 1, said
assert len(told) > 10
ballast.unlink()
wanted = len(told) + 6
result = run(wanted)
assert told <= {record.number for record in result.records if record.is_complete}
assert result.complete == wanted
study = open_study(url, 'study', IDENTITY)
states = [trial.state.name for trial in study.trials]
assert states.count('COMPLETE') == wanted and not {'RUNNING', 'WAITING'} & set(states), states
assert sqlite3.connect(folder / 'study.db').execute('PRAGMA integrity_check').fetchone() == ('ok',)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_becomes_full_is_one_sentence_and_loses_no_trial(tmp_path: Path) -> None:
    program = shutil.which("unshare")
    assert program is not None
    mounting = 'mount -t tmpfs -o size=400k none "$1" && exec "$2" -c "$3" "$1"'
    command = [program, "--mount", "sh", "-c", mounting, "sh", str(tmp_path), sys.executable, ON_A_SMALL_DISK]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr

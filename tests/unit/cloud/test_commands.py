"""The commands against providers on 127.0.0.1, without a machine behind them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cloud.fakes import KEY, LOST, Fake, FakeRunPod, FakeVast, Fault

import heretic.commands.cloud
from heretic import cli
from heretic.cloud import renting
from heretic.cloud.machines import Machine
from heretic.cloud.shell import Unreachable
from heretic.commands.base import command_names, find_command
from heretic.commands.cloud.run import RunArguments
from heretic.common.errors import ConfigurationError

NAMES = command_names(heretic.commands.cloud)
CREATE = ("create", "RTX_4090", "--model", "demo", "--yes")


class Screen:
    def __init__(self, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._kind = kind
        self._capsys = capsys

    def __call__(self, *argv: str, code: int = 0) -> str:
        """What a command prints, both streams together."""
        done = cli.main(["cloud", "--provider", self._kind, *argv])
        captured = self._capsys.readouterr()
        shown = captured.out + captured.err
        assert done == code, shown
        assert KEY not in shown
        assert "Traceback" not in shown
        return shown


@pytest.fixture
def screen(kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Screen:
    # Nobody waits, and every machine is reached.
    monkeypatch.setattr("heretic.cloud.shell.reaches", lambda _access, _machine: True)
    monkeypatch.setattr(renting, "LOOK_SECONDS", 0.01)
    return Screen(kind, capsys)


def label(fake: Fake) -> str:
    return "label" if isinstance(fake, FakeVast) else "name"


def test_the_price_is_shown_and_a_yes_is_needed(screen: Screen, fake: Fake, ssh_key: Path) -> None:
    shown = screen("create", "RTX_4090", "--model", "demo", code=2)
    assert "an hour" in shown
    assert "Run again with --yes to rent without being asked." in shown
    assert fake.machines == {}


def test_from_create_to_terminate(screen: Screen, fake: Fake, kind: str, ssh_key: Path) -> None:
    assert "Machines       none" in screen("list")
    shown = screen(*CREATE, "--name", "my-box")
    (machine_id,) = fake.machines
    assert fake.machines[machine_id][label(fake)] == "heretic:my-box"
    assert f"Ready: {machine_id} (my-box)" in shown
    assert "$0.71 an hour" in shown if kind == "vast" else "$0.34 an hour" in shown
    assert "Disk           60 GB: " in shown
    shown = screen("list")
    assert f"{machine_id} (my-box): running, 1 x" in shown
    assert "There is a machine called my-box already" in screen(*CREATE, "--name", "my-box", code=2)
    assert "stays" not in screen("stop", "--yes", "--force")
    assert "is not accepted" not in screen("start", "my-box")
    assert "'heretic-" in screen("terminate", code=1)
    shown = screen("terminate", "--yes", "--force")
    assert f"{machine_id} (my-box) is gone; it cost at most $0.00." in shown
    assert fake.machines == {}


def test_a_machine_that_is_bid_for_is_rented_for_the_bid_and_outbid(
    screen: Screen, fake: Fake, kind: str, ssh_key: Path
) -> None:
    if kind == "runpod":
        assert "takes no bids; leave --bid out" in screen(*CREATE, "--bid", "0.4", code=2)
        assert fake.machines == {}
        return
    assert isinstance(fake, FakeVast)
    assert "for which $0.30 an hour are enough" in screen(*CREATE, "--bid", "0.3", code=1)
    shown = screen(*CREATE, "--name", "cheap", "--bid", "0.4")
    assert "It is stopped when somebody bids more" in shown
    assert "$0.40 an hour" in shown
    (rented,) = fake.asked_for("PUT", r"/api/v0/asks/\d+/")
    assert rented.body["price"] == 0.4
    (machine,) = fake.machines.values()
    assert "cheap): running, 1 x RTX 4090, 60 GB, interruptible, $0.40/h" in screen("list")
    # Somebody bids more. Its address leads nowhere, as that of a machine that is stopped does.
    machine.update(actual_status="exited", intended_status="stopped")
    shown = screen("watch", "--interval", "1", code=1)
    assert "was stopped, because somebody bid more for it; its disk is still paid for" in shown
    assert "'heretic-vast run MODEL --resume' goes on elsewhere" in shown


def test_several_machines_are_watched_below_each_other(
    screen: Screen, fake: Fake, ssh_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All where none is named; one that is gone ends nothing of the others."""
    for name in ("one", "two"):
        screen(*CREATE, "--name", name)
    gone, stays = fake.machines
    looks: list[str] = []

    class Site:
        def __init__(self, machine_id: str) -> None:
            self.machine_id = machine_id

        def look(self) -> dict[str, Any]:
            looks.append(self.machine_id)
            if self.machine_id == gone and looks.count(gone) == 2:
                del fake.machines[gone]
                raise Unreachable("It does not answer.")
            over = self.machine_id == stays and looks.count(stays) == 4
            state = {"state": "finished", "exit_code": 0} if over else {"state": "running"}
            disk = {"free": 10**11, "total": 10**11}
            return {"now": 1.0, "job": state, "status": None, "disk": disk, "models": [], "unfetched": []}

    @contextmanager
    def site_on(_access: object, machine: Machine) -> Iterator[Site]:
        yield Site(machine.id)

    monkeypatch.setattr("heretic.cloud.work.site_on", site_on)
    shown = screen("watch", "--interval", "1", code=1)
    page = shown.split("\n\n")[0]
    assert f"{gone} (one)" in page
    assert f"{stays} (two)" in page
    assert "The machine one is gone." in shown
    assert "two: the run ended with exit code 0" in shown
    assert looks.count(stays) == 4


def test_nothing_dearer_is_rented(screen: Screen, fake: Fake, kind: str, ssh_key: Path) -> None:
    assert "No machine with 1 x RTX_4090 with 60 GB of disk costs so little" in screen(
        *CREATE, "--max-price", "0.2", code=1
    )
    assert "must be dollars an hour" in screen(*CREATE, "--max-price", "nan", code=2)
    assert "No machine" not in screen(*CREATE, "--max-price", "0.72")
    if isinstance(fake, FakeVast):
        # What was agreed to is $0.72; the next one costs $1.90.
        fake.faults = [Fault("PUT /api/v0/asks/.*", 410, {"error": "no_such_ask"})]
        assert "nothing was rented" in screen(*CREATE, code=1)
    assert len(fake.machines) == 1


def test_a_lost_answer_rents_one_machine(screen: Screen, fake: Fake, ssh_key: Path) -> None:
    fake.faults = [Fault("(PUT /api/v0/asks/.*|POST /v2/pods)", kind=LOST)]
    shown = screen(*CREATE)
    assert "The answer was lost. Looking whether a machine was rented." in shown
    assert len(fake.ever) == 1


@pytest.mark.parametrize("end", ["vanished", "exited", "EXITED"])
def test_what_does_not_start_is_given_back(screen: Screen, fake: Fake, ssh_key: Path, end: str) -> None:
    fake.ends_as = end
    if end != "vanished" and (end == "EXITED") == isinstance(fake, FakeVast):
        pytest.skip("a word of the other provider's")
    shown = screen(*CREATE, code=1)
    assert "'heretic-" in shown
    assert fake.machines == {}


def test_half_created_machines_are_offered_for_removal(screen: Screen, fake: Fake, ssh_key: Path) -> None:
    screen(*CREATE)
    (machine_id,) = fake.machines
    fake.machines[machine_id]["actual_status" if isinstance(fake, FakeVast) else "status"] = "dreaming"
    assert f"terminate {machine_id}' gives it back" in screen("list")


def test_disk_and_memory_are_compared_with_the_model(
    screen: Screen, fake: Fake, ssh_key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heretic.models.weight_headers import Tensor

    tensors = (Tensor("w", "BF16", (32_800_000_000,)),)
    configuration = {"hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 40, "vocab_size": 152_064}
    monkeypatch.setattr("heretic.models.hub_index.hub_tensors", lambda _location, _revision: (tensors, configuration))
    create = ("create", "RTX_4090", "--model", "Qwen/Qwen2.5-32B-Instruct")
    shown = screen(*create, "--disk", "150", code=2)
    assert "need 200 GB of disk, and --disk asks for 150; write --disk 200 or more" in shown
    assert fake.asked == []
    shown = screen(*create, "--yes")
    assert "65.6 GB in its files" in shown
    assert "too much unless it is quantised" in shown
    assert "Disk           200 GB" in shown


def test_gpus_and_tiers(screen: Screen, fake: Fake, kind: str) -> None:
    shown = screen("gpus")
    assert f"RTX_4090       {'3 from $0.71' if kind == 'vast' else '2 from $0.34'}/h" in shown
    assert "H200           none" in shown
    assert "GPUs for 70 B" in screen("tiers")


def test_check_names_what_is_wrong(screen: Screen, fake: Fake, ssh_key: Path) -> None:
    assert "Nothing is wrong." in screen("check")
    ssh_key.chmod(0o644)
    ssh_key.write_text("-----BEGIN ENCRYPTED-----\n")
    shown = screen("check", code=1)
    assert f"chmod 600 {ssh_key}" in shown
    if isinstance(fake, FakeVast):
        fake.credit = -0.5
        assert "There is no credit" in screen("check", code=1)
    ssh_key.with_name("id_test.pub").unlink()
    assert "ssh-keygen -y -f" in screen("check", code=1)
    ssh_key.unlink()
    assert "CLOUD_SSH_KEY names no file; run 'ssh-keygen -t ed25519'" in screen("check", code=1)


@pytest.mark.parametrize("kind", ["runpod"], indirect=False)
def test_a_machine_behind_a_proxy_is_given_back(screen: Screen, fake: FakeRunPod, ssh_key: Path) -> None:
    fake.only_proxy = True
    assert "a proxy for terminals, which takes no files" in screen(*CREATE, code=1)
    assert fake.machines == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_help_and_refuses_what_it_does_not_know(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert cli.main(["cloud", "--provider", "vast", name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"Usage: heretic-vast {name}")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 45
    assert cli.main(["cloud", name, "--zzz"]) == 2
    assert f"'heretic cloud {name} --help'" in capsys.readouterr().err


def test_the_group_names_its_commands_and_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cloud", "--provider", "runpod", "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: heretic-runpod [COMMAND ...]")
    for name in NAMES:
        assert f"  {name:<9}  {find_command(name, heretic.commands.cloud).summary}\n" in shown
    for argv, words in (
        (["cloud", "--provider", "vast", "creat"], "Unknown command creat; did you mean create?"),
        (["cloud"], "No command was named; run 'heretic cloud --help'"),
        (["cloud", "list"], "No provider was named; use heretic-vast or heretic-runpod"),
        (["cloud", "--provider", "aws", "list"], "There is no provider named aws; choose one of runpod, vast."),
    ):
        assert cli.main(argv) == 2
        assert words in capsys.readouterr().err


def test_options_of_heretic_are_checked_before_anything_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    run = find_command("run", heretic.commands.cloud)
    read = run.read(["demo", "--n-trials", "5", "--max-hours", "2", "--verbose", "--kl-weight=0.5"])
    assert isinstance(read, RunArguments)
    assert (read.model, read.max_hours) == ("demo", 2.0)
    assert read.passed_on == ("--n-trials", "5", "--verbose", "--kl-weight", "0.5")
    with pytest.raises(ConfigurationError, match="Unknown option --n-trails; did you mean --n-trials"):
        run.read(["demo", "--n-trails", "5"])
    with pytest.raises(ConfigurationError, match="contradict each other"):
        run.read(["demo", "--stop-when-done", "--destroy-when-done"])


def test_values_are_checked_before_anything_is_sent(screen: Screen, fake: Fake) -> None:
    for option in ("n_trials", "optimization_mode"):
        assert f"{option} must be" in screen("run", "demo", f"--{option.replace('_', '-')}", "many", code=2)
    for local in ("./out", "/models/out", "../out", "~/out"):
        assert "is not on the machine; name a model of the hub" in screen("run", local, code=2)
    assert fake.asked == []


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from heretic.cli import main; main(['cloud', '--provider', 'vast', '--help']);"
        "heavy = {'torch', 'rich.console', 'numpy', 'optuna', 'requests', 'vastai', 'fabric', 'paramiko', 'pydantic'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")

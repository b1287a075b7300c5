"""No secret of the machine or the command line reaches anything that Heretic writes or prints."""

from pathlib import Path

import pytest
from tests.integration.command import QUICK_DEMO, QUICK_PICO, WITH_REPORT, Command, saving_to

pytestmark = pytest.mark.integration

SECRETS = {
    "HF_TOKEN": "hf_EnvironmentTokenOfTheHub",
    "OPENAI_API_KEY": "key-of-another-service-4711",
    "DATABASE_PASSWORD": "Storage-Passw0rd-1",
}
STORED = "hf_StoredTokenInTheFile00"
PASSWORD = "Storage-Passw0rd-2"  # noqa: S105 - no real one
EVERYTHING = (*SECRETS.values(), STORED, PASSWORD)

# A driver that repeats its whole address, and an event of somebody's plug-in, as indiscreet as can be.
INDISCREET = f"""
import os, pathlib
os.environ.update({SECRETS!r})
home = pathlib.Path.cwd() / "hub home"
home.mkdir(exist_ok=True)
(home / "token").write_text({STORED!r})
os.environ["HF_HOME"] = str(home)
"""


def assert_no_secret(folder: Path, *texts: str) -> None:
    for text in texts:
        assert not [secret for secret in EVERYTHING if secret in text]
    files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "hub home"]
    for path in files:
        content = path.read_bytes()
        assert not [secret for secret in EVERYTHING if secret.encode() in content], path


def test_an_option_that_the_driver_ignores(heretic: Command, folder: Path) -> None:
    storage = f"sqlite:///x.db?password={PASSWORD}"
    result = heretic(folder, "pico", *QUICK_PICO, *saving_to("out"), "--storage", storage, before=INDISCREET)
    result.assert_done()
    assert_no_secret(folder, result.output, result.errors)


def test_a_run_and_what_it_saves(heretic: Command, tmp_path: Path) -> None:
    result = heretic(
        tmp_path,
        *QUICK_DEMO,
        *saving_to("out"),
        *WITH_REPORT,
        "--verbose",
        "--system-prompt",
        SECRETS["HF_TOKEN"],
        *("--save-directions", "d.safetensors", "--log-file", "heretic.log", "--log-level", "debug"),
        *("--metrics-file", "heretic.prom", "--use-warm-start-params", "true", "--profile-store", "profiles.toml"),
        # A plan that is good enough to be kept.
        *("--use-shipped-profiles", "true"),
        before=INDISCREET,
    )
    result.assert_done()
    status = heretic(tmp_path, "status", "--json", before=INDISCREET)
    status.assert_done()
    for name in ("heretic_study.db", "heretic.log", "heretic.prom", "profiles.toml", "d.safetensors", "out/README.md"):
        assert (tmp_path / name).stat().st_size > 0
    assert (tmp_path / "out" / "heretic_metadata.json").is_file()
    assert_no_secret(tmp_path, result.output, result.errors, status.output, status.errors)


def test_what_a_plug_in_says_in_its_exception(heretic: Command, folder: Path) -> None:
    raising = f"""
{INDISCREET}
from heretic.evaluation.kl import KlEvaluator
def compare(self, row, edited):
    raise ValueError("cannot reach https://jane:" + {PASSWORD!r} + "@host/ with " + os.environ["HF_TOKEN"])
KlEvaluator.compare = compare
"""
    watched = ("--log-file", "heretic.log", "--metrics-file", "heretic.prom", "--engine", "inplace", "--verbose")
    result = heretic(folder, "pico", *QUICK_PICO, *saving_to("out"), *watched, "--n-trials", "20", before=raising)
    assert result.code == 1, result.errors
    assert "cannot reach https://jane:***@host/ with ***" in result.errors
    assert "cannot reach" in (folder / "heretic.log").read_text(encoding="utf-8")
    status = heretic(folder, "status", "--json", before=INDISCREET)
    status.assert_done()
    assert_no_secret(folder, result.output, result.errors, status.output, status.errors)


def test_a_driver_that_repeats_its_whole_address(heretic: Command, tmp_path: Path) -> None:
    storage = f"postgresql://jane:{PASSWORD}@localhost:1/db"
    indiscreet = f"""
{INDISCREET}
import optuna
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
def connect(url, **_options):
    words = f"no route from {{url}}; user jane, password {PASSWORD}, dsn host=localhost password={PASSWORD}"
    raise OperationalError(words, None, ValueError(words))
optuna.storages.RDBStorage.__init__ = lambda storage, url, **options: connect(url, **options)
Engine.connect = lambda engine: connect(engine.url.render_as_string(hide_password=False))
"""
    log = ("--log-file", "heretic.log")
    run = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), *log, "--storage", storage, before=indiscreet)
    run.assert_one_sentence("no route from")
    status = heretic(tmp_path, "status", "--json", "--storage", storage, before=indiscreet)
    status.assert_one_sentence("no route from")
    assert_no_secret(tmp_path, run.output, run.errors, status.output, status.errors)


@pytest.mark.parametrize(
    "storage",
    [
        f"postgresql://jane:{PASSWORD}@localhost:1/db",
        f"postgresql+psycopg://jane:a@b/{PASSWORD}@localhost/db",
        f"mysql://localhost/db?user=jane&password={PASSWORD}",
        f"postgresql:/jane:{PASSWORD}@localhost/db",
        f"nosuch://jane:{PASSWORD}@localhost/db",
    ],
)
def test_a_storage_that_cannot_be_used(heretic: Command, tmp_path: Path, storage: str) -> None:
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--storage", storage, before=INDISCREET)
    assert result.code == 2, result.errors
    assert result.errors.startswith("Error: ")
    assert "Traceback" not in result.errors
    assert_no_secret(tmp_path, result.output, result.errors)


def test_a_mistake_of_our_own_shows_its_traceback_without_secrets(heretic: Command, tmp_path: Path) -> None:
    raising = f"""
{INDISCREET}
import heretic.workflow
def check(settings):
    raise ZeroDivisionError("with " + {PASSWORD!r} + " in " + settings.storage + " and " + os.environ["HF_TOKEN"])
# Before the database is asked for, which is not there.
heretic.workflow.preflight = check
"""
    storage = f"postgresql://jane:{PASSWORD}@localhost:1/db"
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--storage", storage, before=raising)
    assert result.code == 1
    assert "ZeroDivisionError" in result.errors
    assert_no_secret(tmp_path, result.output, result.errors)

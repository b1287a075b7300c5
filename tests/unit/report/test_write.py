"""Where a report goes, what is in its folder, and what is never overwritten."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.report.reports import DATA, NOTHING

from heretic.common.errors import ExportError, UserError
from heretic.report import write
from heretic.report.write import check_report_folder, is_report, report_folder, write_report

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report; drawing takes seconds."""
    folder = tmp_path_factory.mktemp("written") / "new" / "r"
    assert write_report(folder, DATA) == folder / "heretic_report.html"
    return folder


def test_a_report_is_a_page_and_its_charts(written: Path) -> None:
    path = written / "heretic_report.html"
    files = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()}
    charts = {f"heretic_report/{name}.png" for name in ("pareto", "importance", "strengths", "quality")}
    assert files == {"heretic_report.html", "heretic_report/kept.json", *charts}
    assert all((path.parent / name).read_bytes().startswith(PNG) for name in charts)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in path.parent.parent.iterdir()] == ["r"]


def test_an_earlier_report_is_replaced_as_a_whole(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "r")
    first = (written / "heretic_report.html").read_bytes()
    assert write_report(tmp_path / "r", DATA).read_bytes() == first
    second = write_report(tmp_path / "r", NOTHING)
    assert second.read_bytes() != first
    assert list((tmp_path / "r" / "heretic_report").iterdir()) == []


def test_a_folder_that_is_empty_is_used(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    assert write_report(tmp_path / "r", NOTHING).exists()


@pytest.mark.parametrize(
    "name", ["notes.txt", "heretic_report/notes.txt", "heretic_report/mine.png/x", "heretic_metadata.json"]
)
def test_a_folder_with_anything_else_is_left_alone(written: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(written, tmp_path / "r")
    own = tmp_path / "r" / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    assert not is_report(tmp_path / "r")
    with pytest.raises(UserError, match="holds something else than a report") as raised:
        write_report(tmp_path / "r", NOTHING)
    assert "\n" not in str(raised.value)
    assert own.read_text() == "mine"


def test_somebody_elses_page_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "heretic_report.html").write_text("<p>mine</p>")
    with pytest.raises(UserError, match="is not replaced"):
        check_report_folder(tmp_path)
    assert (tmp_path / "heretic_report.html").read_text() == "<p>mine</p>"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "r").write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        write_report(tmp_path / "r", DATA)


def test_a_model_is_reported_beside_its_folder(tmp_path: Path) -> None:
    assert report_folder(tmp_path / "out") == tmp_path / "out_report"
    assert report_folder(tmp_path / "a" / ".." / "v1.0") == tmp_path / "v1.0_report"


NOTEBOOK = """
import sys
from pathlib import Path
from tests.unit.report.reports import DATA
from heretic.report.write import write_report
write_report(Path(sys.argv[1]), DATA)
"""


def test_neither_a_notebooks_backend_nor_a_users_file_changes_a_picture(written: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\naxes.facecolor: red\n")
    odd = {"MPLBACKEND": "module://no_such_package.backend", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    arguments = [sys.executable, "-c", NOTEBOOK, str(tmp_path / "r")]
    subprocess.run(arguments, env={**os.environ, **odd, "PYTHONPATH": os.pathsep.join(sys.path)}, check=True)
    for picture in (written / "heretic_report").glob("*.png"):
        assert (tmp_path / "r" / "heretic_report" / picture.name).read_bytes() == picture.read_bytes()


def test_settings_of_the_process_stay(tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"axes.facecolor": "red"}):
        write_report(tmp_path / "r", DATA)
        assert matplotlib.rcParams["axes.facecolor"] == "red"


def test_a_picture_that_cannot_be_drawn_is_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise ImportError("no font of this world")

    monkeypatch.setattr(write, "_png", fail)
    with pytest.raises(ExportError, match=r"charts cannot be drawn .ImportError: no font of this world"):
        write_report(tmp_path / "r", DATA)
    assert list(tmp_path.iterdir()) == []

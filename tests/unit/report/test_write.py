"""Where a report goes, what is in its folder, and what is never overwritten."""

from pathlib import Path

import pytest
from tests.unit.report.reports import DATA, NOTHING

from heretic.common.errors import UserError
from heretic.report.write import check_report_folder, is_report, report_folder, write_report

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_report_is_a_page_and_its_charts(tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "r", DATA)
    assert path == tmp_path / "new" / "r" / "heretic_report.html"
    files = {file.relative_to(path.parent).as_posix() for file in path.parent.rglob("*") if file.is_file()}
    charts = {f"heretic_report/{name}.png" for name in ("pareto", "importance", "strengths", "quality")}
    assert files == {"heretic_report.html", "heretic_report/kept.json", *charts}
    assert all((path.parent / name).read_bytes().startswith(PNG) for name in charts)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in path.parent.parent.iterdir()] == ["r"]


def test_an_earlier_report_is_replaced_as_a_whole(tmp_path: Path) -> None:
    first = write_report(tmp_path / "r", DATA).read_bytes()
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
def test_a_folder_with_anything_else_is_left_alone(tmp_path: Path, name: str) -> None:
    write_report(tmp_path / "r", DATA)
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

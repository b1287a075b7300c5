"""Writes a report: the page and its charts as files, in a folder of their own that appears complete or not at all."""

import io
from pathlib import Path

from heretic.common.errors import ExportError, UserError, first_line
from heretic.export.atomic import check_target, staged_folder
from heretic.report.charts import Chart, charts
from heretic.report.data import ReportData
from heretic.report.extras import EXTRAS_NAME, extras_text
from heretic.report.page import GENERATOR, Drawing, page
from heretic.report.style import DARK, DOTS_PER_INCH, LIGHT, Theme, plain_matplotlib

PAGE_NAME = "heretic_report.html"
CHART_FOLDER = "heretic_report"
_HEAD_BYTES = 4096
"""Of a page: its generator stands near the beginning."""


def report_folder(saved: Path) -> Path:
    """Where the report of a saved model goes: beside its folder, whose files are all in its manifest."""
    saved = saved.expanduser().resolve()
    return saved.with_name(f"{saved.name}_report")


def is_report(folder: Path) -> bool:
    """Whether a folder holds a report and nothing else, so that replacing it loses nothing."""
    content = {entry.name for entry in folder.iterdir()}
    if not {PAGE_NAME} <= content <= {PAGE_NAME, CHART_FOLDER}:
        return False
    drawn = folder / CHART_FOLDER
    if drawn.is_symlink() or (drawn.exists() and not drawn.is_dir()):
        return False
    charts_only = not drawn.exists() or all(
        entry.is_file() and (entry.suffix == ".png" or entry.name == EXTRAS_NAME) for entry in drawn.iterdir()
    )
    with (folder / PAGE_NAME).open("rb") as file:
        return charts_only and f'name="generator" content="{GENERATOR}'.encode() in file.read(_HEAD_BYTES)


def check_report_folder(folder: Path) -> Path:
    """Check that a report can be written to a folder, without touching anything; an earlier report is replaced.

    Returns:
        The absolute path.

    Raises:
        UserError: It holds something else, or nothing can be written there.
    """
    target = check_target(folder, replaces=lambda _folder: True)
    if target.is_dir() and any(target.iterdir()) and not is_report(target):
        raise UserError(f"{folder} holds something else than a report and is not replaced; name another folder.")
    return target


def write_report(folder: Path, data: ReportData) -> Path:
    """Write a report; an earlier one there is replaced.

    Args:
        folder: The report's own folder, see `report_folder`.
        data: What it says.

    Returns:
        The page's path.

    Raises:
        UserError: The folder holds something else, or nothing can be written there.
        ExportError: Drawing or writing failed; the folder is as it was before.
    """
    check_report_folder(folder)
    try:
        with plain_matplotlib():
            drawings = {name: _drawing(chart, data) for name, chart in charts(data).items()}
    except Exception as error:
        raise ExportError(f"Its charts cannot be drawn ({type(error).__name__}: {first_line(error)}).") from error
    text = page(data, drawings)
    with staged_folder(folder, replaces=is_report) as (staging, target):
        (staging / PAGE_NAME).write_text(text, encoding="utf-8", newline="\n")
        (staging / CHART_FOLDER).mkdir()
        for name, drawing in drawings.items():
            (staging / CHART_FOLDER / f"{name}.png").write_bytes(drawing.light)
        if data.examples or data.quality:
            extras = extras_text(data.created, data.examples, data.quality)
            (staging / CHART_FOLDER / EXTRAS_NAME).write_text(extras, encoding="utf-8", newline="\n")
    return target / PAGE_NAME


def _drawing(chart: Chart, data: ReportData) -> Drawing:
    light, dark = (_png(chart, data, theme) for theme in (LIGHT, DARK))
    width, height = (int.from_bytes(light[start : start + 4], "big") for start in (16, 20))
    return Drawing(light, dark, width, height)


def _png(chart: Chart, data: ReportData, theme: Theme) -> bytes:
    buffer = io.BytesIO()
    # Without a date or a version, so that the same data give the same file.
    chart(data, theme).savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()

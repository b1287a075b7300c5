"""Plots of direction files as PNG: curves over the layers, and where the prompts lie along the directions.

They share their style with the charts of a report, see `heretic.report.style`.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from heretic.common.errors import UserError
from heretic.common.file_systems import replacing
from heretic.directions.comparison import cosines_between, cosines_to_layer_below
from heretic.directions.projections import Projections, separation, standardized
from heretic.interface.direction_report import LabelledFile, best_positions
from heretic.report.style import COLORS, MARKERS, STYLES, new_figure, plain_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 8.0
DOTS_PER_INCH = 150
"""1200 pixels wide."""

BASELINE_COLOR, TARGET_COLOR = COLORS[:2]
_LONGEST_NAME = 32
_HISTOGRAM_BINS = 30


def check_plot_folder(path: Path) -> Path:
    """Check that plots can be written to a folder, without touching anything.

    Raises:
        UserError: It is a file, has no parent folder, or cannot be written to.
    """
    import os

    try:
        folder = path.expanduser().resolve()
        present, is_folder, has_parent = folder.exists(), folder.is_dir(), folder.parent.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # no access, no home folder, a NUL character
        raise UserError(f"The path {str(path)!r} cannot be used ({error}); choose another folder.") from error
    if present and not is_folder:
        raise UserError(f"{path} is a file; name a folder for the plots.")
    if not present and not has_parent:
        raise UserError(f"{path} cannot be made because there is no folder {folder.parent}; create it first.")
    if not os.access(folder if present else folder.parent, os.W_OK | os.X_OK):
        raise UserError(f"{path} is not writable; choose another folder for the plots.")
    return folder


@plain_matplotlib()
def write_plots(entries: Sequence[LabelledFile], folder: Path) -> list[Path]:
    """Draw everything that the files allow; the folder is made where there is none.

    Raises:
        UserError: The folder cannot be written to.
    """
    figures = {"curves.png": curve_figure(entries)}
    for entry in entries:
        if entry.file.projections is not None:
            name = "projections.png" if len(entries) == 1 else f"projections_{entry.label}.png"
            figures[name] = projection_figure(entry)
    written = []
    try:
        folder.mkdir(exist_ok=True)
        for name, figure in figures.items():
            target = folder / name
            with replacing(target) as unfinished:
                figure.savefig(unfinished, format="png", dpi=DOTS_PER_INCH)
            written.append(target)
    except OSError as error:
        raise UserError(
            f"The plots cannot be written to {folder} ({error.strerror}); choose another folder."
        ) from error
    return written


def _name(entry: LabelledFile) -> str:
    """The file's name, short enough for a legend; a dollar sign would begin a formula."""
    name = entry.file.name
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 14]}...{name[-11:]}"
    return short.replace("$", r"\$")


def curve_figure(entries: Sequence[LabelledFile]) -> "Figure":
    """Separation, quality, cosine to the layer below, and cosine between files: one panel each, over the layers."""
    first = entries[0].file.directions
    panels: list[tuple[str, list[tuple[LabelledFile, str, Tensor]]]] = []
    measured = [
        (entry, _name(entry), separation(entry.file.projections))
        for entry in entries
        if entry.file.projections is not None
    ]
    if measured:
        panels.append(("Separation\n(standard deviations)", measured))
    panels.append(_quality(entries))
    below = [(entry, _name(entry), cosines_to_layer_below(entry.file.directions)) for entry in entries]
    panels.append(("Cosine to\nlayer below", below))
    if len(entries) > 1:
        between = [
            (entry, f"{_name(entries[0])} and {_name(entry)}", cosines_between(first, entry.file.directions))
            for entry in entries[1:]
        ]
        panels.append(("Cosine between\nfiles", between))
    figure = new_figure(WIDTH_INCHES, 1.0 + 2.1 * len(panels))
    figure.suptitle("Directions by layer", fontsize=13)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    order = {entry.label: index for index, entry in enumerate(entries)}
    for panel, (label, curves) in zip(axes, panels, strict=True):
        for entry, name, values in curves:
            _curve(panel, values, name, order[entry.label])
        _finish(panel, label, len(first.vectors), is_cosine=label.startswith("Cosine"))
        # One file needs no legend: the title says which.
        if len(entries) > 1:
            panel.legend(fontsize=8, loc="best", framealpha=0.8)
    axes[0].set_title(_name(entries[0]) if len(entries) == 1 else "", fontsize=10)
    axes[-1].set_xlabel("Layer (0: embeddings)", fontsize=11)
    return figure


def _quality(entries: Sequence[LabelledFile]) -> tuple[str, list[tuple[LabelledFile, str, Tensor]]]:
    """Panel of the qualities; of several files as shares, since each extractor measures in a way of its own."""
    curves = [(entry, _name(entry), entry.file.directions.quality) for entry in entries]
    if len(entries) == 1:
        return "Quality\n(extractor's measure)", curves
    largest = [max(float(values.nan_to_num().abs().max()), torch.finfo(torch.float32).tiny) for _, _, values in curves]
    shares = [(entry, name, values / top) for (entry, name, values), top in zip(curves, largest, strict=True)]
    return "Quality (share of\nthe file's best)", shares


def _curve(panel: "Axes", values: Tensor, name: str, index: int) -> None:
    numbers = [value if math.isfinite(value) else math.nan for value in values.double().tolist()]
    panel.plot(
        range(len(numbers)),
        numbers,
        label=name,
        color=COLORS[index % len(COLORS)],
        linestyle=STYLES[index % len(STYLES)],
        marker=MARKERS[index % len(MARKERS)],
        markersize=4,
        linewidth=1.6,
    )


def _finish(panel: "Axes", label: str, positions: int, *, is_cosine: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    panel.set_ylabel(label, fontsize=10)
    panel.set_xlim(-0.5, positions - 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14))
    panel.tick_params(labelsize=9)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    if is_cosine:
        lowest = panel.get_ylim()[0]
        panel.set_ylim(-1.05 if lowest < -0.05 else -0.05, 1.05)
        panel.axhline(0, color="black", linewidth=0.8)


def projection_figure(entry: LabelledFile) -> "Figure":
    """Both classes along the direction: medians and percentiles over the layers, and histograms at the best one.

    Raises:
        ValueError: The file holds no projections.
    """
    if entry.file.projections is None:
        raise ValueError("the file holds no projections")
    figure = new_figure(WIDTH_INCHES, 7.4)
    figure.suptitle("Training prompts along the direction", fontsize=13)
    upper, lower = figure.subplots(2, 1, height_ratios=(1.25, 1))
    upper.set_title(_name(entry), fontsize=10)
    _bands(upper, standardized(entry.file.projections))
    best = best_positions(entry.file)
    _histogram(lower, entry.file.projections, best[0] if best else entry.file.projections.target.shape[1] - 1)
    return figure


def _bands(panel: "Axes", projections: Projections) -> None:
    """Median, the middle half, and 5 to 95 % of each class over the layers."""
    quantiles = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    classes = (
        ("Target prompts", projections.target, TARGET_COLOR, "-", "o"),
        ("Baseline prompts", projections.baseline, BASELINE_COLOR, "--", "s"),
    )
    for name, values, color, style, marker in classes:
        low, lower, middle, upper, high = values.double().quantile(quantiles, dim=0).tolist()
        positions = range(len(middle))
        label = f"{name} ({len(values)}): median"
        panel.plot(positions, middle, label=label, color=color, linestyle=style, marker=marker, markersize=4)
        panel.fill_between(positions, lower, upper, color=color, alpha=0.35, linewidth=0, label="middle half")
        panel.fill_between(positions, low, high, color=color, alpha=0.15, linewidth=0, label="5 to 95 %")
    _finish(panel, "Projection (standard deviations,\n0: halfway between the means)", len(middle), is_cosine=False)
    panel.set_xlabel("Layer (0: embeddings)", fontsize=11)
    panel.axhline(0, color="black", linewidth=0.8)
    # Room for the legend, which would hide part of a band anywhere else.
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.3 * (high - low))
    panel.legend(fontsize=8, ncols=2, loc="upper left", framealpha=0.8)


def _histogram(panel: "Axes", projections: Projections, position: int) -> None:
    target, baseline = (values[:, position].double() for values in (projections.target, projections.baseline))
    both = torch.cat([target, baseline])
    low, high = float(both.min()), float(both.max())
    edges: Any = torch.linspace(low, high if high > low else low + 1, _HISTOGRAM_BINS + 1, dtype=torch.float64).tolist()
    classes = (
        ("Target prompts", target, TARGET_COLOR, "-", ""),
        ("Baseline prompts", baseline, BASELINE_COLOR, "--", "//"),
    )
    for name, values, color, style, hatch in classes:
        numbers = values.tolist()
        panel.hist(numbers, edges, color=color, alpha=0.35, hatch=hatch, edgecolor=color, linewidth=0, label=name)
        panel.hist(numbers, edges, histtype="step", color=color, linestyle=style, linewidth=1.6)
    where = f"after layer {position}" if position else "of the embeddings"
    panel.set_xlabel(
        f"Projection of the residual {where}, where the classes separate best (residual units)", fontsize=11
    )
    panel.set_ylabel("Prompts (count)", fontsize=10)
    panel.tick_params(labelsize=9)
    panel.grid(alpha=0.3)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=9, loc="best", framealpha=0.8)

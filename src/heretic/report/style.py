"""How charts look: colours that people with colour-blindness tell apart, on a light and on a dark page.

Drawn on figures of their own, never through pyplot, whose state belongs to the whole process. Colours are those of
Okabe and Ito (2008); line styles, markers and hatches differ as well, so that no colour is needed to read a chart.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "//", "..", "xx", "\\\\")
DOTS_PER_INCH = 200


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a page.

    Attributes:
        paper: The background.
        ink: Text and the lines that matter.
        muted: Axes, grid, and what is not the point.
        colors: Of the data.
    """

    paper: str
    ink: str
    muted: str
    colors: tuple[str, ...]


LIGHT = Theme("#ffffff", "#1d2026", "#6b7280", COLORS)
# The same hues, lighter: on dark paper the originals' contrast is too low.
DARK = Theme(
    "#16181d", "#e6e8ec", "#9aa1ad", ("#56B4E9", "#F0803C", "#2FC69A", "#E39BC4", "#E69F00", "#7FB2D9", "#e6e8ec")
)


@contextmanager
def plain_matplotlib() -> Iterator[None]:
    """In the with-block figures are made and saved by matplotlib's own defaults.

    Neither a user's file (``text.usetex``) nor the variable counts that notebooks set for whatever they start, which
    names a backend that need not be installed. Nothing of it stays.
    """
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that keeps its parts apart by itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: "Figure", theme: Theme) -> None:
    """Give everything that is no data the colours of a theme."""
    figure.set_facecolor(theme.paper)
    for panel in figure.axes:
        _finish_panel(panel, theme)
    for legend in (*figure.legends, *(panel.get_legend() for panel in figure.axes)):
        if legend is None:
            continue
        legend.get_frame().set(facecolor=theme.paper, edgecolor="none")
        for text in legend.get_texts():
            text.set_color(theme.ink)


def _finish_panel(panel: "Axes", theme: Theme) -> None:
    panel.set_facecolor(theme.paper)
    panel.tick_params(which="both", colors=theme.muted, labelcolor=theme.ink, labelsize=9.5)
    panel.grid(visible=True, color=theme.muted, alpha=0.25, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(theme.muted)
    for text in (panel.title, panel.xaxis.label, panel.yaxis.label):
        text.set_color(theme.ink)


def plain(text: str, longest: int = 40) -> str:
    """Foreign text for a chart, on one line and short; a dollar sign would begin a formula."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    short = line if len(line) <= longest else f"{line[: longest - 3]}..."
    return short.replace("$", r"\$")

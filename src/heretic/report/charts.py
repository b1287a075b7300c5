"""The charts of a report: functions of its data that return figures. Drawn narrow, so that they read on a phone."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from heretic.report.data import Importance, ReportData
from heretic.report.style import COLORS, HATCHES, MARKERS, STYLES, Theme, finish, new_figure, plain
from heretic.report.words import is_finite, looked_at
from heretic.results.trial import TrialRecord
from heretic.results.words import measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 4.6
MOST_PARAMETERS = 15
"""Bars of one chart; what explains less is left out."""
_WIDE = 20.0
"""Divergences whose largest is more than so many times the least are drawn on a logarithmic axis."""
_DEPTHS = 101
"""Points of a curve over depth where the number of layers is not known."""

Chart = Callable[[ReportData, Theme], "Figure"]


def charts(data: ReportData) -> dict[str, Chart]:
    """What can be drawn of a report: name of the file, without its ending -> how it is drawn."""
    drawable: dict[str, Chart] = {}
    if any(is_finite(record) for record in data.records):
        drawable["pareto"] = pareto_figure
    if data.importances:
        drawable["importance"] = importance_figure
    if data.chosen is not None and components(data):
        drawable["strengths"] = strength_figure
    if any(map(math.isfinite, data.quality)):
        drawable["quality"] = quality_figure
    return drawable


def pareto_figure(data: ReportData, theme: Theme) -> "Figure":
    """Every trial by divergence and behaviour, one panel a behaviour; the front is connected, the chosen one ringed."""
    drawn = [record for record in data.records if is_finite(record)]
    names = [measured(score) for score in drawn[0].behaviors]
    figure = new_figure(WIDTH_INCHES, 0.9 + 3.0 * len(names))
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    on_front = {record.number for record in data.front}
    for place, (panel, name) in enumerate(zip(panels, names, strict=True)):
        _scale_divergence(panel, [record.kl.value for record in drawn])
        _trials(panel, drawn, place, on_front, theme)
        _front_line(panel, drawn, place, theme)
        _chosen_ring(panel, drawn, place, data.chosen_number, theme)
        panel.set_ylabel(plain(name), fontsize=10.5)
        panel.set_xlabel("KL divergence (nats)", fontsize=10.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=9)
    finish(figure, theme)
    return figure


def _scale_divergence(panel: "Axes", values: Sequence[float]) -> None:
    positive = [value for value in values if value > 0]
    if not positive or max(positive) <= _WIDE * min(positive):
        return
    if min(values) > 0:
        panel.set_xscale("log")
        # Labels of all steps between powers of ten would run into each other.
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.xaxis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if max(positive) < 100 * min(positive) else (1.0,))
        )
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:.4g}"))
    else:
        panel.set_xscale("symlog", linthresh=min(positive))


def _trials(panel: "Axes", drawn: Sequence[TrialRecord], place: int, on_front: set[int], theme: Theme) -> None:
    from matplotlib.ticker import MaxNLocator

    complete = [record for record in drawn if record.is_complete]
    stopped = [record for record in drawn if record.is_stopped]
    bound = [record for record in stopped if record.behaviors[place].is_known]
    unknown = [record for record in stopped if not record.behaviors[place].is_known]
    front = [record for record in complete if record.number in on_front]
    others = [record for record in complete if record.number not in on_front]

    def points(records: Sequence[TrialRecord]) -> tuple[list[float], list[float]]:
        return [record.kl.value for record in records], [record.behaviors[place].value for record in records]

    blue, orange = theme.colors[0], theme.colors[1]
    if bound:
        panel.plot(
            *points(bound), "^", color=theme.muted, alpha=0.45, markersize=6, linewidth=0, label="stopped: at least"
        )
    if unknown:
        panel.plot(
            points(unknown)[0],
            [0.0] * len(unknown),
            "|",
            color=theme.muted,
            alpha=0.6,
            markersize=11,
            linewidth=0,
            transform=panel.get_xaxis_transform(),
            clip_on=False,
            label="stopped by divergence",
        )
    if others:
        panel.plot(*points(others), "o", color=blue, alpha=0.6, markersize=6, linewidth=0, label="complete")
    if front:
        panel.plot(*points(front), "s", color=orange, markersize=6.5, linewidth=0, zorder=3, label="on the front")
    score = drawn[0].behaviors[place]
    panel.axhline(score.baseline, color=theme.ink, linewidth=1.0, linestyle=":", label="original model")
    if score.counts_answers:
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))


def _front_line(panel: "Axes", drawn: Sequence[TrialRecord], place: int, theme: Theme) -> None:
    """The edge of what was reached: with several behaviours, that of this panel's two numbers."""
    complete = [record for record in drawn if record.may_be_chosen]
    edge: list[tuple[float, float]] = []
    for kl, value in sorted((record.kl.value, record.behaviors[place].value) for record in complete):
        if not edge or value < edge[-1][1]:
            edge.append((kl, value))
    if len(edge) > 1:
        panel.plot(
            [kl for kl, _value in edge],
            [value for _kl, value in edge],
            drawstyle="steps-post",
            color=theme.colors[1],
            linewidth=1.4,
            zorder=2,
        )


def _chosen_ring(panel: "Axes", drawn: Sequence[TrialRecord], place: int, number: int | None, theme: Theme) -> None:
    from matplotlib.patheffects import withStroke

    chosen = next((record for record in drawn if record.number == number), None)
    if chosen is None:
        return
    at = chosen.kl.value, chosen.behaviors[place].value
    panel.plot(
        *at,
        "o",
        markersize=15,
        markerfacecolor="none",
        markeredgecolor=theme.ink,
        markeredgewidth=1.8,
        linewidth=0,
        zorder=4,
        clip_on=False,
        label=f"trial {chosen.shown}",
    )
    # Towards the middle, where there is room.
    across = panel.transAxes.inverted().transform(panel.transData.transform(at))[0]
    right = bool(across < 0.6)
    panel.annotate(
        f"trial {chosen.shown}",
        at,
        xytext=(11 if right else -11, 9),
        textcoords="offset points",
        horizontalalignment="left" if right else "right",
        color=theme.ink,
        fontsize=10,
        zorder=5,
        path_effects=[withStroke(linewidth=3, foreground=theme.paper)],
    )


def importance_figure(data: ReportData, theme: Theme) -> "Figure":
    """A group of bars for every parameter: its share of the variation of each measured number."""
    names = ranked_parameters(data.importances)[:MOST_PARAMETERS]
    groups = data.importances
    thickness = 0.8 / len(groups)
    figure = new_figure(WIDTH_INCHES, 1.1 + len(names) * (0.22 + 0.16 * len(groups)))
    panel = figure.subplots()
    for index, group in enumerate(groups):
        shares = dict(group.shares)
        panel.barh(
            [place + (index - (len(groups) - 1) / 2) * thickness for place in range(len(names))],
            [100 * shares.get(name, 0.0) for name in names],
            height=thickness,
            color=theme.colors[index % len(theme.colors)],
            hatch=HATCHES[index % len(HATCHES)],
            edgecolor=theme.paper,
            linewidth=0,
            label=plain(f"{group.label} ({looked_at(group)})"),
        )
    panel.set_yticks(range(len(names)), [plain(parameter_name(name)) for name in names])
    panel.invert_yaxis()
    panel.set_xlabel("Share of the variation (%)", fontsize=10.5)
    panel.set_xlim(left=0)
    figure.legend(loc="outside lower center", ncols=1 if len(groups) > 2 else 2, fontsize=9)
    finish(figure, theme)
    panel.grid(visible=False, axis="y")
    return figure


def ranked_parameters(importances: Sequence[Importance]) -> list[str]:
    """Every parameter once, those with the largest share of any number first."""
    largest: dict[str, float] = {}
    for importance in importances:
        for name, share in importance.shares:
            largest[name] = max(share, largest.get(name, 0.0))
    return sorted(largest, key=lambda name: -largest[name])


def parameter_name(name: str) -> str:
    """``attention.peak_weight`` as people read it: ``attention: peak weight``."""
    return name.replace("_", " ").replace(".", ": ", 1)


def components(data: ReportData) -> list[str]:
    """What the chosen plan has strengths for, in its order."""
    plan = None if data.chosen is None else data.chosen.plan
    return [] if plan is None else [name for name, _ in plan.schedules]


def strengths(data: ReportData, component: str) -> tuple[list[float], list[float]]:
    """Layers from 1, or relative depths where the number of layers is not known, and the chosen plan's strengths."""
    if data.chosen is None:
        return [], []
    count = data.layer_count or _DEPTHS
    values = [data.chosen.plan.strength(component, layer, count) for layer in range(count)]
    places = [layer + 1 if data.layer_count else layer / (count - 1) for layer in range(count)]
    return places, values


def strength_figure(data: ReportData, theme: Theme) -> "Figure":
    """Strength of the chosen edit over the layers, one curve a component."""
    figure = new_figure(WIDTH_INCHES, 2.7)
    panel = figure.subplots()
    for index, component in enumerate(components(data)):
        places, values = strengths(data, component)
        panel.plot(
            places,
            values,
            label=plain(component),
            color=theme.colors[index % len(COLORS)],
            linestyle=STYLES[index % len(STYLES)],
            marker=MARKERS[index % len(MARKERS)] if data.layer_count else "",
            markersize=4.5,
            linewidth=1.8,
        )
    panel.axhline(0, color=theme.muted, linewidth=0.9)
    panel.set_ylabel("Strength", fontsize=10.5)
    _layer_axis(panel, data.layer_count)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    finish(figure, theme)
    return figure


def quality_figure(data: ReportData, theme: Theme) -> "Figure":
    """Quality of the directions over the residual positions."""
    figure = new_figure(WIDTH_INCHES, 2.3)
    panel = figure.subplots()
    numbers = [value if math.isfinite(value) else math.nan for value in data.quality]
    panel.plot(range(len(numbers)), numbers, color=theme.colors[2], marker="^", markersize=4.5, linewidth=1.8)
    panel.set_ylabel("Quality", fontsize=10.5)
    _layer_axis(panel, len(numbers) - 1)
    finish(figure, theme)
    return figure


def _layer_axis(panel: "Axes", layer_count: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    if layer_count is None:
        panel.set_xlabel("Relative depth (0: first layer, 1: last)", fontsize=10.5)
        panel.set_xlim(-0.02, 1.02)
        return
    panel.set_xlabel("Layer (0: embeddings)", fontsize=10.5)
    panel.set_xlim(-0.5, layer_count + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))

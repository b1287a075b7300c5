"""A report's page: one HTML text that needs no other file and no network.

What comes from models, prompts, manifests and studies is foreign text: the template escapes every value, and the page
allows neither scripts nor requests.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import heretic
from heretic.report.charts import MOST_PARAMETERS, components, parameter_name, ranked_parameters, strengths
from heretic.report.data import Importance, ReportData
from heretic.report.style import DARK, LIGHT
from heretic.report.tables import (
    Table,
    capability_tables,
    front_table,
    held_out_table,
    search_table,
    settings_table,
)
from heretic.report.words import (
    chosen_sentences,
    counts_sentence,
    date,
    harmless,
    joined,
    measured,
    stopped_sentence,
)
from heretic.results.front import pareto_front
from heretic.results.held_out_text import origin
from heretic.results.trial import shown

if TYPE_CHECKING:
    from jinja2 import Environment

GENERATOR = "Heretic report"
"""Says in a page's head that it is ours to be replaced."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart as PNG files.

    Attributes:
        light: For a light page.
        dark: For a dark page.
        width: In pixels.
        height: In pixels.
    """

    light: bytes
    dark: bytes
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Figure:
    """A drawing as the template shows it: addresses that hold the image itself."""

    light: str
    dark: str
    width: int
    height: int
    alt: str


def page(data: ReportData, drawings: Mapping[str, Drawing]) -> str:
    """The page as HTML.

    Args:
        data: What it says.
        drawings: The charts by name, see `charts.charts`; those that are not there are left out.
    """
    alternatives = {
        "pareto": _pareto_alternative(data),
        "importance": _importance_alternative(data.importances),
        "strengths": _strength_alternative(data),
        "quality": _quality_alternative(data),
    }
    figures = {name: _figure(drawing, alternatives[name]) for name, drawing in drawings.items()}
    searched = None if data.chosen is None else data.chosen.search_scores
    held_out: Table | None = None
    if data.held_out is not None:
        held_out = held_out_table(data.held_out, searched)
    elif searched is not None:
        held_out = search_table(searched)
    text = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            data=data,
            generator=f"{GENERATOR} {heretic.__version__}",
            light=LIGHT,
            dark=DARK,
            title=_title(data),
            created=date(data.created),
            sentences=chosen_sentences(data),
            behaviors=joined(data.behaviors) if data.behaviors else "",
            counts=counts_sentence(data),
            stopped=stopped_sentence(data),
            several=len(data.records) > 0 and any(len(record.behaviors) > 1 for record in data.records),
            front=front_table(data),
            sampled=next((own.trials for own in data.importances if own.trials < own.known), 0),
            left_out=max(len(ranked_parameters(data.importances)) - MOST_PARAMETERS, 0),
            plan=_plan_sentences(data),
            held_out=held_out,
            held_out_origin="" if data.held_out is None else origin(data.held_out),
            capability=capability_tables(data),
            settings=settings_table(data),
            figures=figures,
        )
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def _title(data: ReportData) -> str:
    return f"Heretic report: {data.model}" if data.model else "Heretic report"


def _figure(drawing: Drawing, alternative: str) -> _Figure:
    light, dark = (
        f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
        for content in (drawing.light, drawing.dark)
    )
    return _Figure(light, dark, drawing.width, drawing.height, alternative)


def _pareto_alternative(data: ReportData) -> str:
    front = pareto_front(data.records)
    if not front:
        return "Scatter plot of the trials by KL divergence and behaviour; no trial is complete."
    ends = [
        f"trial {record.shown} with "
        + joined([f"{measured(score)} {score.amount()}" for score in record.behaviors])
        + f" at KL {record.kl.amount()}"
        for record in (front[0], front[-1])
    ]
    chosen = data.chosen_number
    ring = "" if chosen is None else f" Trial {shown(chosen)} is ringed."
    return (
        f"Scatter plot of {len(data.records)} trials by KL divergence and behaviour. The front of {len(front)} reaches "
        f"from {ends[0]} to {ends[1]}.{ring}"
    )


def _importance_alternative(importances: tuple[Importance, ...]) -> str:
    parts = [
        f"{own.label}: " + joined([f"{parameter_name(name)} {100 * share:.0f} %" for name, share in own.shares[:3]])
        for own in importances
    ]
    return f"Bars of each parameter's share of the variation. Largest for {'; '.join(parts)}."


def _strength_alternative(data: ReportData) -> str:
    parts = []
    for component in components(data):
        places, values = strengths(data, component)
        largest = max(values, key=abs)
        place = places[values.index(largest)]
        where = f"layer {place:.0f}" if data.layer_count else f"relative depth {place:.2f}"
        parts.append(f"{component}: at most {largest:.2f}, at {where}" if largest else f"{component}: 0 everywhere")
    return f"Strength of the edit over the layers. {'; '.join(parts)}."


def _quality_alternative(data: ReportData) -> str:
    known = [(value, place) for place, value in enumerate(data.quality) if math.isfinite(value)]
    if not known:
        return "Quality of the directions over the layers."
    best, place = max(known)
    return f"Quality of the directions over the layers, best at layer {place} with {best:.3g}."


def _plan_sentences(data: ReportData) -> list[str]:
    """What the chosen plan says beside its strengths."""
    if data.chosen is None:
        return []
    plan = data.chosen.plan
    position = plan.direction_position
    result = [
        "Every layer is edited along a direction of its own."
        if position is None
        else f"All layers are edited along the direction found at relative depth {position:.2f} (0: first, 1: last)."
    ]
    if plan.shares:
        names = data.behaviors if len(data.behaviors) == len(plan.shares) else [""] * len(plan.shares)
        shares = joined([f"{share:.2f} {name}".strip() for share, name in zip(plan.shares, names, strict=True)])
        result.append(f"Of the strengths, each behaviour has its share: {shares}.")
    kept = {"none": "No norms of the weights are kept.", "row": "Rows of the weights keep their norms."}
    result.append(kept.get(plan.normalization.value, "Columns of the weights keep their norms."))
    if plan.strengths:
        result.append("Strengths are free by layer, which only earlier versions of Heretic made; they are not drawn.")
    return result


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("heretic", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Before the template's escaping: what is left is text that may stand anywhere.
        finalize=lambda value: harmless(value) if type(value) is str else value,
    )

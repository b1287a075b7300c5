"""A report's page: one HTML text that needs no other file and no network.

What comes from models, prompts, manifests and studies is foreign text: the template escapes every value, and the page
allows neither scripts nor requests.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import heretic
from heretic.report.charts import MOST_PARAMETERS, components, parameter_name, ranked_parameters, strengths
from heretic.report.data import Importance, ReportData
from heretic.report.style import DARK, LIGHT
from heretic.report.words import chosen_sentences, date, harmless, sampled_sentence, stopped_sentence
from heretic.results import pairs, tables, words
from heretic.results.tables import Row, Table
from heretic.results.trial import TrialRecord, shown
from heretic.results.verdict import verdict
from heretic.results.words import joined

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
    front = data.front
    alternatives = {
        "pareto": _pareto_alternative(data, front),
        "importance": _importance_alternative(data.importances),
        "strengths": _strength_alternative(data),
        "quality": _quality_alternative(data),
    }
    figures = {name: _figure(drawing, alternatives[name]) for name, drawing in drawings.items()}
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
            counts=words.outcomes(data.records, len(front)),
            stopped=stopped_sentence(data),
            several=len(data.records) > 0 and any(len(record.behaviors) > 1 for record in data.records),
            front=tables.trials(front, data.chosen_number, data.front_held_out, with_original=True),
            quality=words.quality(front),
            not_told_apart=_not_told_apart(data, front),
            sampled=sampled_sentence(data),
            left_out=max(len(ranked_parameters(data.importances)) - MOST_PARAMETERS, 0),
            plan=_plan_sentences(data),
            held_out=_held_out_table(data),
            how_confirmed=_how_confirmed(data),
            how_to_read=words.HOW_TO_READ_HELD_OUT,
            capability=[] if data.capability is None else tables.capability(data.capability),
            settings=_settings_table(data),
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


def _not_told_apart(data: ReportData, front: Sequence[TrialRecord]) -> str:
    """Which trials of the front noise does not tell apart from the chosen one."""
    chosen = next((record for record in data.records if record.number == data.chosen_number), None)
    return "" if chosen is None or chosen.scores is None else pairs.sentence(front, chosen)


def _how_confirmed(data: ReportData) -> str:
    """The verdict and how it was come by; that the search was a first look, where it was."""
    if data.held_out is None:
        return ""
    searched = None if data.chosen is None else data.chosen.search_scores
    quick = [words.FIRST_LOOK] if any(setting.name == "quick" for setting in data.settings) else []
    return " ".join([*verdict(data.held_out, searched), words.how_confirmed(data.held_out), *quick])


def _held_out_table(data: ReportData) -> Table | None:
    """What held-out prompts showed beside the search, or else what the search showed."""
    searched = None if data.chosen is None else data.chosen.search_scores
    if data.held_out is not None:
        return tables.held_out(data.held_out, searched)
    return None if searched is None else tables.scores(searched)


def _settings_table(data: ReportData) -> Table:
    rows = [Row((setting.name, setting.value, setting.default)) for setting in data.settings]
    return Table(("Setting", "Value", "Default"), tuple(rows), names=3)


def _pareto_alternative(data: ReportData, front: Sequence[TrialRecord]) -> str:
    if not front:
        return "Scatter plot of the trials by KL divergence and behaviour; no trial is complete."
    ends = [f"trial {record.shown} with {words.numbers(record.measured)}" for record in (front[0], front[-1])]
    chosen = data.chosen_number
    ring = "" if chosen is None else f" Trial {shown(chosen)} is ringed."
    return (
        f"Scatter plot of {len(data.records)} trials by KL divergence and behaviour. The front of {len(front)} reaches "
        f"from {ends[0]} to {ends[1]}.{ring}"
    )


def _importance_alternative(importances: tuple[Importance, ...]) -> str:
    parts = [
        f"{importance.label}: "
        + joined([f"{parameter_name(name)} {100 * share:.0f} %" for name, share in importance.shares[:3]])
        for importance in importances
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
    finite = [(value, place) for place, value in enumerate(data.quality) if math.isfinite(value)]
    if not finite:
        return "Quality of the directions over the layers."
    best, place = max(finite)
    return f"Quality of the directions over the layers, best at layer {place} with {best:.3g}."


def _plan_sentences(data: ReportData) -> list[str]:
    """What the chosen plan says beside its strengths."""
    if data.chosen is None:
        return []
    plan = data.chosen.plan
    sentences = [words.direction(plan), words.shares(plan, data.behaviors), words.norms(plan), words.free(plan)]
    return [sentence for sentence in sentences if sentence]


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

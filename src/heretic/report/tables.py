"""The tables of a report, as rows of text; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from heretic.held_out import HeldOut
from heretic.held_out_text import table
from heretic.report.data import ReportData
from heretic.report.words import amount, divergence_place, measured, shown
from heretic.score import Score, behaviors_of, divergence_of
from heretic.search.pareto import pareto_front
from heretic.search.record import TrialRecord

NOT_MEASURED = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        cells: As many as the table has columns; of a group only its name.
        is_group: Whether the row names the ones below.
        is_marked: Whether it is the one that the report is about.
        is_part: Whether it says more about the row above.
    """

    cells: tuple[str, ...]
    is_group: bool = False
    is_marked: bool = False
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with one line of headings; the first column names the rows, the others hold numbers or short text."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: bool = True


def front_table(data: ReportData) -> Table:
    """The Pareto front, least of the first behaviour first."""
    front = pareto_front(data.records)
    if not front:
        return Table(("Trial",), ())
    names = [measured(score) for score in front[0].behaviors]
    header = ("Trial", *names, "KL (nats)", "its 95th percentile", "Same top token")
    rows = [Row(_front_cells(record), is_marked=record.number == data.chosen_number) for record in front]
    baseline = [amount(score, score.baseline) for score in front[0].behaviors]
    return Table(header, (*rows, Row(("unedited", *baseline, "0", "0", "100.0 %"))))


def _front_cells(record: TrialRecord) -> tuple[str, ...]:
    values = [amount(score) for score in record.behaviors]
    return (str(shown(record.number)), *values, amount(record.kl), *_further(record.kl))


def _further(kl: Score) -> tuple[str, str]:
    """95th percentile and top-1 agreement."""
    percentile, agreement = kl.details.get("p95"), kl.details.get("top1_agreement")
    return (
        NOT_MEASURED if percentile is None else f"{percentile:.4f}",
        NOT_MEASURED if agreement is None else f"{100 * agreement:.1f} %",
    )


def held_out_table(held_out: HeldOut, searched: Sequence[Score]) -> Table:
    """What held-out prompts showed, with the search's value of the edited model where the search measured the same.

    What the search measured with answers of another length has rows of its own.
    """
    known = _search_values(searched, len(held_out.behaviors))
    several = len(held_out.behaviors) > 1
    rows = []
    for place, behavior in enumerate(held_out.behaviors):
        rows += [Row((behavior.behavior,), is_group=True)] if several else []
        rows += _beside(table(replace(held_out, behaviors=(behavior,), kl=())), known.pop(place, {}))
    rows += [Row(("KL divergence",), is_group=True)] if several else []
    for score in held_out.kl:
        same = known.pop(divergence_place(score), {})
        rows += _beside(table(replace(held_out, behaviors=(), kl=(score,))), same)
    for rest in known.values():
        rows += _beside([], rest)
    return Table(("Measure", "Base model", "Edited model", "Prompts", "Edited model, in the search"), tuple(rows))


def _beside(rows: Sequence[tuple[str, ...]], known: Mapping[str, str]) -> list[Row]:
    """Held-out rows with the search's values at their end; first those that nothing held out stands beside."""
    nothing = (NOT_MEASURED,) * 3
    names = {cells[0] for cells in rows}
    alone = [_row((name, *nothing, value)) for name, value in known.items() if name not in names]
    return alone + [_row((*cells, known.get(cells[0], NOT_MEASURED))) for cells in rows]


def _row(cells: tuple[str, ...]) -> Row:
    return Row((cells[0].strip(), *cells[1:]), is_part=cells[0].startswith(" "))


def _search_values(searched: Sequence[Score], behaviors: int) -> dict[int | str, dict[str, str]]:
    """Place of a behaviour, or which tokens a divergence is of -> name of the held-out row -> the search's value."""
    known: dict[int | str, dict[str, str]] = {}
    for place, score in enumerate(behaviors_of(searched)[:behaviors]):
        known[place] = {f"{score.label} at {score.details.get('tokens')} tokens": _plain(score)}
    if searched:
        kl = divergence_of(searched)
        where = divergence_place(kl)
        percentile, agreement = _further(kl)
        known[where] = {
            f"KL in nats, {where}": amount(kl),
            "  its 95th percentile": percentile,
            "  same most likely token": agreement,
        }
    return known


def _plain(score: Score) -> str:
    return f"{score.value:.0f}/{score.n}" if score.counts_answers else f"{score.value:.2f}"


def search_table(searched: Sequence[Score]) -> Table:
    """What the search measured, where there is nothing held out to stand beside."""
    rows = [Row((measured(score), amount(score, score.baseline), amount(score), str(score.n))) for score in searched]
    return Table(("Measure", "Base model", "Edited model", "Prompts"), tuple(rows))


def capability_table(data: ReportData) -> Table:
    """The rows that were given; columns in the order in which they appear first."""
    header = tuple(dict.fromkeys(name for row in data.capability for name in row))
    rows = [Row(tuple(row.get(name, "") for name in header)) for row in data.capability]
    return Table(header, tuple(rows))


def settings_table(data: ReportData) -> Table:
    """Settings that differ from the defaults."""
    rows = [Row((own.name, own.value, own.default)) for own in data.settings]
    return Table(("Setting", "Value", "Default"), tuple(rows), numeric=False)

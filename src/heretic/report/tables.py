"""The tables of a report, as rows of text; pure."""

from dataclasses import dataclass

from heretic.report.data import ReportData
from heretic.report.words import measured
from heretic.results.capability_text import BENCHMARKS_HEADER, QUESTIONS_HEADER
from heretic.results.front import pareto_front
from heretic.results.held_out import HeldOut
from heretic.results.held_out_text import HEADER, NOT_MEASURED, sections
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord


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
    baseline = [score.amount(score.baseline) for score in front[0].behaviors]
    return Table(header, (*rows, Row(("unedited", *baseline, "0", "0", "100.0 %"))))


def _front_cells(record: TrialRecord) -> tuple[str, ...]:
    values = [score.amount() for score in record.behaviors]
    return (str(record.shown), *values, record.kl.amount(), *_further(record.kl))


def _further(kl: Score) -> tuple[str, str]:
    """95th percentile and top-1 agreement."""
    percentile, agreement = kl.divergence.p95, kl.divergence.top1_agreement
    return (
        NOT_MEASURED if percentile is None else f"{percentile:.4f}",
        NOT_MEASURED if agreement is None else f"{100 * agreement:.1f} %",
    )


def held_out_table(held_out: HeldOut, searched: Scores | None) -> Table:
    """What held-out prompts showed beside what the search measured; titles only where there are several behaviours."""
    several = len(held_out.behaviors) > 1
    rows = []
    for title, lines in sections(held_out, searched):
        rows += [Row((title,), is_group=True)] if several else []
        rows += [Row((line[0].strip(), *line[1:]), is_part=line[0].startswith(" ")) for line in lines]
    return Table(HEADER, tuple(rows))


def search_table(searched: Scores) -> Table:
    """What the search measured, where there is nothing held out to stand beside."""
    rows = [Row((measured(score), score.amount(score.baseline), score.amount(), str(score.n))) for score in searched]
    return Table(("Measure", "Base model", "Edited model", "Prompts"), tuple(rows))


def capability_tables(data: ReportData) -> tuple[Table, ...]:
    """Questions and benchmarks, as far as there are any."""
    own = data.capability
    parts = ((QUESTIONS_HEADER, own.questions), (BENCHMARKS_HEADER, own.benchmarks))
    return tuple(Table(header, tuple(map(Row, rows))) for header, rows in parts if rows)


def settings_table(data: ReportData) -> Table:
    """Settings that differ from the defaults."""
    rows = [Row((own.name, own.value, own.default)) for own in data.settings]
    return Table(("Setting", "Value", "Default"), tuple(rows), numeric=False)

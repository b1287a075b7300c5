"""What ``heretic studies`` shows; pure."""

from collections.abc import Sequence

from heretic.interface.formatting import Row, clean_line, duration
from heretic.interface.status_lines import STATES, public_rows
from heretic.results import tables, words
from heretic.results.tables import Table
from heretic.search.status import StudyStatus

_HEADER = ("Study", "Model", "Trials", "Best", "Run")


def studies_rows(studies: Sequence[StudyStatus], unread: Sequence[str]) -> list[Row]:
    """A line a study, without secrets; then why others cannot be read."""
    rows = [Row("Studies", f"{len(studies)} in {clean_line(studies[0].storage)}")] if studies else []
    if studies:
        rows.append(Row("", table=Table(_HEADER, tuple(map(_line, studies)), names=2)))
    return public_rows([*rows, *(Row("Not read", clean_line(reason)) for reason in unread)])


def _line(study: StudyStatus) -> tables.Row:
    model = "" if study.pulse is None else clean_line(study.pulse.model)
    best = "none yet" if study.best is None else words.numbers(study.best.measured)
    heard = "" if study.heard_seconds is None else f", {duration(study.heard_seconds)} ago"
    run = f"{STATES.get(study.run, study.run)}{heard}"
    return tables.Row((clean_line(study.name), model, str(study.finished), best, run))

"""A report's numbers and sentences; pure."""

import math
import re
from datetime import datetime, timezone

from heretic.report.data import Chosen, Importance, ReportData
from heretic.results.trial import TrialRecord, shown
from heretic.results.words import confirmation, joined, numbers_beside_the_original

# Control characters, and marks that reverse the direction of the text around them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """Foreign text without characters that a page cannot hold or that garble what stands beside them."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def date(created: str) -> str:
    """An ISO 8601 time as people read it, to the minute; anything else as it is."""
    try:
        time = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{time:%Y-%m-%d %H:%M}" if time.tzinfo is None else f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def chosen_sentences(data: ReportData) -> list[str]:
    """Which edit this is, with its numbers; then what held-out prompts showed, where they were asked."""
    chosen = data.chosen
    if chosen is None:
        return ["No trial is complete yet, so there is nothing to choose."]
    numbers = "nothing was measured on it" if chosen.scores is None else numbers_beside_the_original(chosen.scores)
    result = [f"{_who(chosen, len(data.records))}: {numbers}."]
    if chosen.searched is not None:
        searched = numbers_beside_the_original(chosen.searched)
        result.append(f"On the quantised weights that the search ran on it was {searched}.")
    if data.held_out is not None:
        result.append(confirmation(data.held_out))
    return result


def _who(chosen: Chosen, trials: int) -> str:
    if chosen.number is None:
        return "The saved edit is no trial of a search"
    trial = f"trial {shown(chosen.number)}" + (f" of {trials}" if trials else "")
    if chosen.automatic:
        return f"No model was saved from this report's study; the automatic choice would be {trial}"
    return f"{trial.capitalize()} was chosen"


def stopped_sentence(data: ReportData) -> str:
    """How to read the marks of stopped trials; empty where there are none."""
    certain = {score.is_known for record in data.stopped for score in record.behaviors}
    parts = [
        *(["triangles are stopped trials, at the least that they could have become"] if True in certain else []),
        *(
            ["ticks at the lower edge are trials that were stopped by their divergence alone, before any answer"]
            if False in certain
            else []
        ),
    ]
    return f"{'; '.join(parts).capitalize()}." if parts else ""


def looked_at(importance: Importance) -> str:
    """``60 trials``, ``300 of 9812 trials``."""
    of = "" if importance.trials == importance.measured else f" of {importance.measured}"
    return f"{importance.trials}{of} trials"


def sampled_sentence(data: ReportData) -> str:
    """Which trials the parameters' importance was computed from; empty where these are all that count."""
    parts = [f"{looked_at(part)} ({part.label})" for part in data.importances if part.trials < part.measured]
    return f"Importance was computed from {joined(parts)}, evenly spread over the search." if parts else ""


def is_finite(record: TrialRecord) -> bool:
    """Whether a record has numbers that can be drawn."""
    return record.scores is not None and all(math.isfinite(value) for value in record.values)

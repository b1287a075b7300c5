"""A report's numbers and sentences; pure."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timezone

from heretic.report.data import Chosen, ReportData
from heretic.results.front import pareto_front
from heretic.results.held_out import HeldOut, HeldOutBehavior
from heretic.results.held_out_text import divergence_place, number, with_interval
from heretic.results.score import Score, Scores
from heretic.results.trial import TrialRecord, shown

# Control characters, and marks that reverse the direction of the text around them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """Foreign text without characters that a page cannot hold or that garble what stands beside them."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def measured(score: Score) -> str:
    """What a behaviour's number is: ``refusals``, ``length (words)``."""
    return f"{score.label} ({score.unit})" if score.unit and score.unit != score.label else score.label


def joined(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


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
    numbers = _numbers(chosen.scores) if chosen.scores else "nothing was measured on it"
    result = [f"{_who(chosen, len(data.records))}: {numbers}."]
    if chosen.searched:
        result.append(f"On the quantised weights that the search ran on it was {_numbers(chosen.searched)}.")
    if data.held_out is not None:
        result.append(_held_out(data.held_out))
    return result


def _who(chosen: Chosen, trials: int) -> str:
    if chosen.number is None:
        return "The saved edit is no trial of a search"
    trial = f"trial {shown(chosen.number)}" + (f" of {trials}" if trials else "")
    if chosen.automatic:
        return f"No model was saved from this report's study; the automatic choice would be {trial}"
    return f"{trial.capitalize()} was chosen"


def _numbers(scores: Scores) -> str:
    parts = [
        f"{measured(score)} {score.amount()} (unedited model: {score.amount(score.baseline)})"
        for score in scores.behaviors
    ]
    return f"{joined(parts)}, at a KL divergence of {scores.kl.amount()} nats from the unedited model"


def _held_out(held_out: HeldOut) -> str:
    several = len(held_out.behaviors) > 1
    parts = [f"{f'{own.behavior}: ' if several else ''}{own.label} {_last(own)}" for own in held_out.behaviors]
    divergences = joined([f"{score.amount()} ({divergence_place(score)})" for score in held_out.kl])
    kl = f", at a KL divergence of {divergences} nats" if held_out.kl else ""
    return f"On held-out prompts, in answers of up to {held_out.tokens} tokens: {joined(parts)}{kl}."


def _last(behavior: HeldOutBehavior) -> str:
    longest = behavior.at[-1]
    edited = with_interval(behavior, longest).removesuffix(")")
    return f"{edited}; unedited model: {number(behavior, longest.base)})"


def counts_sentence(data: ReportData) -> str:
    """How the trials ended."""
    outcomes = Counter(record.state.outcome for record in data.records)
    front = len(pareto_front(data.records))
    sentence = (
        f"{len(data.records)} trials: {outcomes['complete']} complete, {front} of them on the front; "
        f"{outcomes['stopped']} stopped early"
    )
    return f"{sentence}; {outcomes['failed']} failed." if outcomes["failed"] else f"{sentence}."


def stopped_sentence(data: ReportData) -> str:
    """How to read the marks of stopped trials; empty where there are none."""
    known = {score.is_known for record in data.stopped for score in record.behaviors}
    parts = [
        *(["triangles are stopped trials, at the least that they could have become"] if True in known else []),
        *(
            ["ticks at the lower edge are trials that were stopped by their divergence alone, before any answer"]
            if False in known
            else []
        ),
    ]
    return f"{'; '.join(parts).capitalize()}." if parts else ""


def is_finite(record: TrialRecord) -> bool:
    """Whether a record has numbers that can be drawn."""
    return record.scores is not None and all(math.isfinite(value) for value in record.values)

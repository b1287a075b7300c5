"""The console's rows about scores: the unedited model's, of trials, of a trial in the weights, of two models."""

import math

from heretic.interface.formatting import clean_line, duration, kl_text, pairs, plural, ratio, trial_number
from heretic.interface.rows import Row, rows
from heretic.interface.scores import amount_text, scores_text
from heretic.observability import events
from heretic.results.score import MISSING, Score, Scores

KL_ABSOLUTE_TOLERANCE = 0.0005
KL_RELATIVE_TOLERANCE = 0.02
"""A re-scored KL within either tolerance counts as the same: the weights' own precision causes as much."""


@rows.register
def _(event: events.BaselineMeasured) -> list[Row]:
    return [
        Row(
            "Baseline",
            f"{baseline_text(event.behaviors[0])}"
            f"; KL over {plural(event.kl_prompt_count, 'prompt')}; {duration(event.seconds)}",
        ),
        *(Row("", baseline_text(score)) for score in event.behaviors[1:]),
    ]


def baseline_text(score: Score) -> str:
    """What the unedited model does, in words."""
    prompts = plural(score.n, "prompt")
    if score.counts_refusals:
        return f"refuses {score.baseline_refusals} of {prompts}"
    if score.counts_answers:
        return f"{score.label} in {score.baseline:.0f} of {prompts}"
    unit = score.label if score.name.startswith(MISSING) else score.unit
    return f"{score.amount(score.baseline)} {unit}, mean over {prompts}"


def trial_line(event: events.TrialFinished) -> str:
    """One trial in fixed columns; a failed one gives its reason instead of numbers, a stopped one what was seen."""
    start = f"trial {_place(event)}   "
    if event.scores is None:
        return f"{start}failed: {clean_line(event.reason) or 'not measured'} ({duration(event.seconds)})"
    numbers = scores_text(event.scores)
    for score in event.scores.behaviors if event.dominated else ():
        if not score.is_known:
            # Stopped before any answer was asked for: 0 would read as if there were none.
            shown = amount_text(score)
            unknown = shown.replace("0", "-", 1) if score.counts_answers else f"{'-':>{len(shown)}}"
            numbers = numbers.replace(f"{score.label} {shown}", f"{score.label} {unknown}", 1)
    ending = f"   stopped: {event.reason}" if event.dominated else "   front" if event.on_front else ""
    return f"{start}{numbers}   {duration(event.seconds):>10}{ending}"


def _place(event: events.TrialFinished) -> str:
    """``12/40``; the number alone where failed trials made it pass the number of complete trials wanted."""
    number = trial_number(event.number)
    place = ratio(number, event.n_trials)
    return place if number <= event.n_trials else f"{number:<{len(place)}}"


def parameter_text(event: events.TrialFinished) -> str:
    """The trial's parameters, for --verbose."""
    return pairs(event.parameters)


def same_kl(first: float, second: float) -> bool:
    """Whether two KL values differ by no more than rounding of the weights explains."""
    return math.isclose(first, second, rel_tol=KL_RELATIVE_TOLERANCE, abs_tol=KL_ABSOLUTE_TOLERANCE)


@rows.register
def _(event: events.FrontChecked) -> list[Row]:
    start = f"trial {trial_number(event.number)} in the weights: "
    same = not differences(event.scores, event.searched)
    searched = f"in the search: {scores_text(event.searched)}"
    return [Row("Checked", f"{start}{scores_text(event.scores)}"), Row("", "as in the search" if same else searched)]


def differences(scores: Scores, searched: Scores) -> list[str]:
    """By what scores differ from those of the search, where rounding does not explain it."""
    result = []
    for score, other in zip(scores, searched, strict=True):
        difference = score.value - other.value
        if score.is_divergence:
            if not same_kl(score.value, other.value):
                result.append(f"KL {difference:+.4f}")
        elif score.counts_answers and difference:
            result.append(f"{difference:+.0f} {score.label.removesuffix('s') if abs(difference) == 1 else score.label}")
        elif not score.counts_answers and not math.isclose(score.value, other.value, rel_tol=0.01, abs_tol=0.005):
            result.append(f"{difference:+.2f} {score.unit}")
    return result


@rows.register
def _(event: events.TrialApplied) -> list[Row]:
    result = [
        Row("Applied", f"trial {trial_number(event.number)} is in the weights"),
        Row("", f"in the search   {scores_text(event.searched)}"),
        Row("", f"measured again  {scores_text(event.scores)}"),
    ]
    found = differences(event.scores, event.searched)
    if found:
        result.append(Row("", f"They differ ({', '.join(found)}); the second line counts."))
    return result


@rows.register
def _(event: events.FullPrecisionNeeded) -> list[Row]:
    steps = "and edited" if event.measured else "edited and measured (takes a while)"
    return [
        Row("Full precision", f"searched on {event.quantization} weights, but saved without quantisation:"),
        Row("", f"the model is loaded again, {steps}"),
    ]


@rows.register
def _(event: events.FullPrecisionMeasured) -> list[Row]:
    unedited = "; ".join(map(baseline_text, event.scores.behaviors))
    return [
        Row("Measured", f"{event.quantization:<15} {scores_text(event.quantized)}"),
        Row("", f"{'full precision':<15} {scores_text(event.scores)}"),
        Row("", f"unedited, in full precision: {unedited}"),
        Row("", "The second line counts: it is that of the saved weights."),
    ]


@rows.register
def _(event: events.ModelCompared) -> list[Row]:
    def percent(value: float) -> str:
        return f"{100 * value:.1f} %"

    kl = event.scores.kl
    details = kl.divergence
    spread = [] if details.p95 is None else [f"95th percentile {kl_text(details.p95)}"]
    spread += [] if details.top1_agreement is None else [f"same first choice {percent(details.top1_agreement)}"]
    return [
        Row("Compared", f"{clean_line(event.model)} with {clean_line(event.base)}"),
        *(Row("", compared_text(score)) for score in event.scores.behaviors),
        Row("", f"KL {kl_text(kl.value)} over {plural(kl.n, 'prompt')}"),
        *([Row("", "; ".join(spread))] if spread else []),
    ]


def compared_text(score: Score) -> str:
    """What an edited model does beside what its base does."""
    if score.counts_refusals:
        return f"refuses {score.refusals} of {plural(score.n, 'prompt')}; the base refuses {score.baseline_refusals}"
    amounts = (score.amount(value) for value in (score.value, score.baseline))
    return f"{score.label} {next(amounts)}; the base {next(amounts)}"

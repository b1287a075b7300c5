"""The console's rows about results: of the original model, of trials, of what is measured of a chosen one."""

from heretic.interface.formatting import Row, clean_line, duration, pairs, plural, shorten
from heretic.interface.lines import rows, wrapped
from heretic.observability import events
from heretic.results import tables, words
from heretic.results.trial import shown
from heretic.results.verdict import verdict

SAMPLE_LENGTH = 160
"""Characters of an answer that is shown as an example."""


@rows.register
def _(event: events.BaselineMeasured) -> list[Row]:
    first, *others = map(words.original, (*event.behaviors, *event.kept))
    kl = f"KL over {plural(event.kl_prompt_count, 'prompt')}"
    return [Row("Baseline", f"{first}; {kl}; {duration(event.seconds)}"), *(Row("", text) for text in others)]


@rows.register
def _(event: events.NothingShown) -> list[Row]:
    texts = [shorten(clean_line(text), SAMPLE_LENGTH) or "(nothing)" for text in event.answers]
    answers = [Row("" if place else "It answers", text) for place, text in enumerate(texts)]
    return [Row("", f"Warning: {clean_line(event.message)}"), *answers, Row("", clean_line(event.next_step))]


def trial_line(event: events.TrialFinished) -> str:
    """One trial in fixed columns; a failed one gives its reason instead of numbers, a stopped one what was seen."""
    record = event.record
    start, took = f"trial {_place(event)}   ", duration(record.seconds)
    by = f"   by {clean_line(event.worker)}" if event.worker else ""
    if record.scores is None:
        return f"{start}failed: {clean_line(record.reason) or 'not measured'} ({took}){by}"
    ending = f"   stopped: {record.reason}" if record.is_stopped else "   front" if event.on_front else ""
    if record.is_complete and not record.may_be_chosen:
        ending = "   keeps too few"
    return f"{start}{words.columns(record.scores)}   {took:>10}{ending}{by}"


def _place(event: events.TrialFinished) -> str:
    """``12/40``; the number alone where time ends the search, or failed trials made it pass the number wanted."""
    number, wanted = event.record.shown, event.standing.n_trials
    if event.standing.is_open:
        return f"{number:<4}"
    width = len(str(wanted))
    return f"{number:>{width}}/{wanted}" if number <= wanted else f"{number:<{2 * width + 1}}"


def parameter_text(event: events.TrialFinished) -> str:
    """The trial's parameters, for --verbose."""
    return pairs(words.parameters(event.record.plan))


@rows.register
def _(event: events.FrontChecked) -> list[Row]:
    searched = event.record.measured
    same = not words.differences(event.scores, searched)
    return [
        Row("Checked", f"trial {event.record.shown} in the weights: {words.columns(event.scores)}"),
        Row("", "as in the search" if same else f"in the search: {words.columns(searched)}"),
    ]


@rows.register
def _(event: events.TrialApplied) -> list[Row]:
    searched = event.record.measured
    result = [
        Row("Applied", f"trial {event.record.shown} is in the weights"),
        Row("", f"in the search   {words.columns(searched)}"),
        Row("", f"measured again  {words.columns(event.scores)}"),
    ]
    differences = words.differences(event.scores, searched)
    if differences:
        result.append(Row("", f"They differ ({', '.join(differences)}); the second line counts."))
    return result


@rows.register
def _(event: events.HeldOutMeasured) -> list[Row]:
    took = f"; {duration(event.seconds)}" if event.seconds else ""
    held_out = event.held_out
    return [
        *(
            row
            for place, text in enumerate(verdict(held_out, event.searched))
            for row in wrapped("" if place else "Verdict", clean_line(text))
        ),
        Row("Held out", f"trial {shown(event.number)}{took}"),
        Row("", f"prompts {words.origin(held_out)}"),
        Row("", f"answers of up to {plural(held_out.tokens, 'token')}"),
        Row("", f"in the search: {words.columns(event.searched)}"),
        Row("", table=tables.held_out(held_out, None).without("Prompts", "In the search")),
    ]


@rows.register
def _(event: events.FrontHeldOut) -> list[Row]:
    found = {record.number: scores for record, scores in zip(event.records, event.scores, strict=True)}
    table = tables.trials(event.records, held_out=found).without(tables.KL_INTERVAL, *tables.SPREAD)
    took = f"; {duration(event.seconds)}" if event.seconds >= 0.1 else ""
    return [
        Row("Held out", f"{plural(len(found), 'trial')} of the front, as the search measures{took}"),
        Row("", table=table),
    ]


@rows.register
def _(event: events.CapabilityStarted) -> list[Row]:
    texts = []
    if event.questions:
        texts.append(f"{event.which} model: {plural(event.questions, 'question')} of {clean_line(event.source)}")
    if event.benchmarks:
        texts.append(f"{event.which} model: {', '.join(map(clean_line, event.benchmarks))}")
    return [Row("Capability", text) for text in texts]


@rows.register
def _(event: events.CapabilityMeasured) -> list[Row]:
    shown_tables = [table.without("Questions", "Items") for table in tables.capability(event.result)]
    result = [Row("Capability", table=table) for table in shown_tables]
    if event.result.questions is not None:
        result.append(Row("", words.changed_answers(event.result.questions)))
    return [*result, Row("", f"measured in {duration(event.seconds)}")]


@rows.register
def _(event: events.FullPrecisionNeeded) -> list[Row]:
    steps = "and edited" if event.measured else "edited and measured (takes a while)"
    return [
        Row("Full precision", f"searched on {event.quantization} weights, but saved without quantisation:"),
        Row("", f"the model is loaded again, {steps}"),
    ]


@rows.register
def _(event: events.FullPrecisionMeasured) -> list[Row]:
    return [
        Row("Measured", f"{event.quantization:<15} {words.columns(event.quantized)}"),
        Row("", f"{'full precision':<15} {words.columns(event.scores)}"),
        Row("", f"original, in full precision: {'; '.join(map(words.original, event.scores.behaviors))}"),
        Row("", "The second line counts: it is that of the saved weights."),
    ]


@rows.register
def _(event: events.ModelCompared) -> list[Row]:
    return [
        Row("Compared", f"{clean_line(event.model)} with {clean_line(event.base)}"),
        Row("", table=tables.scores(event.scores)),
    ]

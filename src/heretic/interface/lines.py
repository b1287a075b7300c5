"""What the console says about each event, as labelled rows; pure, so that wording is tested without a terminal."""

import json
import math
import textwrap

from heretic.interface.formatting import (
    clean_line,
    duration,
    group_by_reason,
    hide_password,
    kl_text,
    large_count,
    pairs,
    plural,
    ratio,
    shorten,
    size,
    trial_number,
)
from heretic.interface.rows import Row, rows
from heretic.interface.scores import amount_text, scores_text
from heretic.observability import events
from heretic.score import REFUSALS, WITHOUT_REFUSAL, Score, Scores, behaviors_of, divergence_of

KL_ABSOLUTE_TOLERANCE = 0.0005
KL_RELATIVE_TOLERANCE = 0.02
"""A re-scored KL within either tolerance counts as the same: the weights' own precision causes as much."""

_SETTING_WIDTH = 160
_LONG_VERIFICATION = 500_000_000
"""Bytes; about a second of hashing."""
_NOTE_WIDTH = 64
"""Columns of a sentence beside its label, in a terminal of 80."""


@rows.register
def _(event: events.RunStarted) -> list[Row]:
    settings = [
        shorten(clean_line(hide_password(f"{name} = {value}")), _SETTING_WIDTH)
        for name, value in event.changed_settings.items()
    ]
    first = settings[0] if settings else "all at their defaults"
    return [
        Row("Heretic", event.version),
        Row("Model", clean_line(event.model)),
        Row("Configuration", clean_line(event.configuration_file or "no file was read")),
        Row("Profile", clean_line(event.profile or "none")),
        Row("Settings", first),
        *(Row("", setting) for setting in settings[1:]),
    ]


@rows.register
def _(event: events.Warned) -> list[Row]:
    return [Row("", f"Warning: {clean_line(event.message)}")]


@rows.register
def _(event: events.VerificationStarted) -> list[Row]:
    # Reading less takes no time that anybody would wonder about.
    if event.bytes < _LONG_VERIFICATION:
        return []
    return [
        Row(
            "Verifying",
            f"reading {size(event.bytes)} in {plural(event.file_count, 'file')} of {clean_line(event.model)}",
        ),
        Row("", "to compare them with the manifest; --verify false skips this"),
    ]


@rows.register
def _(event: events.FilesVerified) -> list[Row]:
    return [Row("Verified", f"{plural(event.file_count, 'file')} as in the manifest, {duration(event.seconds)}")]


@rows.register
def _(event: events.ModelLoading) -> list[Row]:
    return [Row("Loading", f"{clean_line(event.model)} as {event.dtype}")]


@rows.register
def _(event: events.DtypeRejected) -> list[Row]:
    return [Row("Rejected", f"{event.dtype}: {clean_line(event.reason)}")]


@rows.register
def _(event: events.ModelLoaded) -> list[Row]:
    size_text = f"{large_count(event.parameter_count)} parameters"
    return [
        Row(
            "Loaded",
            f"{event.architecture}, {size_text}, {event.dtype} on {event.device}, {duration(event.seconds)}",
        )
    ]


@rows.register
def _(event: events.LayoutFound) -> list[Row]:
    writers = ", ".join(f"{component} {count}" for component, count in event.writers.items())
    return [
        Row(
            "Layout",
            f"{plural(event.layer_count, 'layer')}, hidden size {event.hidden_size} ({clean_line(event.family)})",
        ),
        Row("", f"editable: {writers or 'nothing'}"),
        *(Row("", f"not editable: {line}") for line in group_by_reason(event.uneditable)),
    ]


@rows.register
def _(event: events.PromptsLoaded) -> list[Row]:
    role = event.role.replace("_", " ").removesuffix(" prompts")
    return [Row("Prompts", f"{role}: {event.count} from {clean_line(event.name)}")]


@rows.register
def _(event: events.BatchSizeMeasured) -> list[Row]:
    rate = "out of memory" if event.tokens_per_second is None else f"{event.tokens_per_second:8.0f} tokens/s"
    return [Row("Calibration", f"batch size {event.batch_size:4d}  {rate}")]


@rows.register
def _(event: events.Calibrated) -> list[Row]:
    # JSON quoting shows line breaks and the spaces at both ends, which matter here.
    prefix = f"answers begin with {json.dumps(event.response_prefix)}" if event.response_prefix else "none"
    return [Row("Calibrated", f"batch size {event.batch_size}; common response prefix: {prefix}")]


@rows.register
def _(event: events.WeightsCached) -> list[Row]:
    return [
        Row(
            "Weight cache",
            f"{size(event.bytes)} on {event.device}, {100 * event.share:.0f} % of the model "
            f"({plural(event.tensor_count, 'tensor')})",
        )
    ]


@rows.register
def _(event: events.PlansAdjusted) -> list[Row]:
    first, *rest = textwrap.wrap(f"{clean_line(event.note)} ({duration(event.seconds)})", _NOTE_WIDTH)
    return [Row(event.name, first), *(Row("", line) for line in rest)]


@rows.register
def _(event: events.DirectionsFound) -> list[Row]:
    count = plural(event.count_per_layer, "direction") + " per layer"
    result = [Row("Directions", f"{clean_line(event.method)}; {count}; {duration(event.seconds)}")]
    known = [(value, position) for position, value in enumerate(event.quality) if not math.isnan(value)]
    if known:
        value, position = max(known, key=lambda pair: pair[0])
        where = f"after layer {position} of {len(event.quality) - 1}" if position else "at the embeddings"
        result.append(Row("", f"they separate best {where} (quality {value:.2f})"))
    return result


@rows.register
def _(event: events.RoundFinished) -> list[Row]:
    result = [Row(f"Round {event.number}", f"{100 * event.magnitude:.0f} % of the class difference was left")]
    if event.divergence is not None:
        result.append(Row("", f"taking it out as well costs KL {event.divergence:.4f}"))
    if event.reason:
        result.append(Row("", f"not kept: {event.reason}"))
    return result


@rows.register
def _(event: events.PositionChosen) -> list[Row]:
    best = sorted(event.scores.items(), key=lambda pair: -pair[1])[:3]
    scores = ", ".join(f"{layer + 1} (score {score:.3f})" for layer, score in best)
    return [Row("Best layers", f"{scores}; {duration(event.seconds)}")]


@rows.register
def _(event: events.DirectionsSaved) -> list[Row]:
    count = event.target_prompts + event.baseline_prompts
    projections = f"with the projections of {plural(count, 'prompt')}" if count else "without projections"
    return [Row("Directions", f"saved to {clean_line(event.path)}"), Row("", projections)]


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
    if score.counts_answers and score.name in (REFUSALS, WITHOUT_REFUSAL):
        return f"refuses {score.baseline_refusals} of {prompts}"
    if score.counts_answers:
        return f"{score.label} in {score.baseline:.0f} of {prompts}"
    return f"{score.amount(score.baseline)} {score.unit}, mean over {prompts}"


@rows.register
def _(event: events.StudyOpened) -> list[Row]:
    place = f"{clean_line(event.name)} in {clean_line(hide_password(event.storage))}"
    if event.finished == 0:
        return [Row("Study", f"{place}, new")]
    return [Row("Study", f"{place}, resumed"), Row("", f"{event.finished} of {event.n_trials} trials are finished")]


@rows.register
def _(event: events.SeedingStarted) -> list[Row]:
    return _descent_rows("Seeding", event)


@rows.register
def _(event: events.RefinementStarted) -> list[Row]:
    return _descent_rows("Refinement", event)


def _descent_rows(label: str, event: events.SeedingStarted | events.RefinementStarted) -> list[Row]:
    onset = ", ".join(json.dumps(token, ensure_ascii=False) for token in event.onset)
    return [
        Row(label, f"{plural(event.steps, 'gradient step')} in {event.dtype}"),
        Row("", f"{event.good_prompts} good and {event.bad_prompts} bad training prompts"),
        Row("", shorten(f"onset of the behaviour: {clean_line(onset)}", _SETTING_WIDTH)),
    ]


@rows.register
def _(event: events.RefinementFinished) -> list[Row]:
    return [
        Row("", f"ended at KL {kl_text(event.kl)}, onset {100 * event.share:.0f} %; {event.seconds:.1f} s"),
        Row("", f"cosine with the directions before: {event.cosine:.2f}"),
    ]


@rows.register
def _(_event: events.RefinementKept) -> list[Row]:
    return [Row("Refinement", "directions as an earlier run of this study refined them")]


@rows.register
def _(event: events.SeedFound) -> list[Row]:
    return [Row("", f"weight {event.weight:<6.2g} KL {kl_text(event.kl):>7}   onset {100 * event.share:5.1f} %")]


@rows.register
def _(event: events.SeedingFinished) -> list[Row]:
    if event.seeds == 0:
        return []
    found = "found by an earlier run" if event.stored else f"found in {duration(event.seconds)}"
    return [Row("Seeds", f"{event.seeds}, {found}")]


@rows.register
def _(event: events.WarmStarted) -> list[Row]:
    sources = [f"{event.own} from your own searches"] if event.own else []
    sources += [f"{event.shipped} from shipped profiles"] if event.shipped else []
    first = f"{plural(event.own + event.shipped, 'trial')} with plans for {clean_line(event.family)} models first:"
    return [Row("Warm start", first), Row("", " and ".join(sources))]


@rows.register
def _(event: events.ProfilesKept) -> list[Row]:
    kept = f"{plural(event.count, 'plan')} kept for the next {clean_line(event.family)} model in"
    return [Row("Profiles", kept), Row("", clean_line(event.path))]


@rows.register
def _(event: events.SearchFinished) -> list[Row]:
    done = f"{plural(event.finished, 'trial')} finished in {duration(event.seconds)}"
    if event.interrupted:
        return [Row("Stopped", done), Row("", "all of them are kept; the same command goes on from here")]
    return [Row("Search", done)]


def trial_line(event: events.TrialFinished) -> str:
    """One trial in fixed columns; a failed one gives its reason instead of numbers, a stopped one what was seen."""
    start = f"trial {_place(event)}   "
    if (event.reason and not event.dominated) or not event.scores:
        return f"{start}failed: {clean_line(event.reason) or 'not measured'} ({duration(event.seconds)})"
    numbers = scores_text(event.scores)
    for score in behaviors_of(event.scores) if event.dominated else ():
        if score.value == 0:
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
def _(event: events.EngineChosen) -> list[Row]:
    if event.obstacle:
        return [Row("Engine", f"{event.name}: {clean_line(event.obstacle)}")]
    if not event.shared_tokens and not event.kept_bytes:
        at_once = f", {plural(event.candidates, 'candidate')} at once" if event.candidates > 1 else ""
        return [Row("Engine", f"{event.name}{at_once}")]
    return [
        Row("Engine", f"{event.name}, {plural(event.candidates, 'candidate')} at once"),
        Row(
            "",
            f"{plural(event.shared_tokens, 'prompt token')} shared, {size(event.kept_bytes)} of lower layers kept",
        ),
    ]


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
    unedited = "; ".join(map(baseline_text, behaviors_of(event.scores)))
    return [
        Row("Measured", f"{event.quantization:<15} {scores_text(event.quantized)}"),
        Row("", f"{'full precision':<15} {scores_text(event.scores)}"),
        Row("", f"unedited, in full precision: {unedited}"),
        Row("", "The second line counts: it is that of the saved weights."),
    ]


def loading_hint(event: events.ModelSaved, architecture: str) -> tuple[str, str]:
    """Two lines of Python that load a saved model; `architecture` is the class it was loaded as, which decides how."""
    if event.format == "adapter":
        package, name = "peft", "AutoPeftModelForCausalLM"
    elif "ForConditionalGeneration" in architecture:
        package, name = "transformers", "AutoModelForImageTextToText"
    else:
        package, name = "transformers", "AutoModelForCausalLM"
    return f"from {package} import {name}", f"model = {name}.from_pretrained({clean_line(event.path)!r})"


@rows.register
def _(event: events.ModelSaved) -> list[Row]:
    verified = (
        f"loaded again: the same {plural(event.verified_answers, 'answer')}"
        if event.verified_answers
        else "not loaded again, so not verified"
    )
    return [
        Row("Saved", clean_line(event.path)),
        Row("", f"{clean_line(event.format)}, {plural(event.file_count, 'file')}, {size(event.bytes)}; {verified}"),
        Row("", "to load it in Python:"),
    ]


@rows.register
def _(event: events.ModelCompared) -> list[Row]:
    def percent(value: float) -> str:
        return f"{100 * value:.1f} %"

    kl = divergence_of(event.scores)
    details = kl.details
    spread = [f"95th percentile {kl_text(details['p95'])}"] if "p95" in details else []
    spread += [f"same first choice {percent(details['top1_agreement'])}"] if "top1_agreement" in details else []
    return [
        Row("Compared", f"{clean_line(event.model)} with {clean_line(event.base)}"),
        *(Row("", compared_text(score)) for score in behaviors_of(event.scores)),
        Row("", f"KL {kl_text(kl.value)} over {plural(kl.n, 'prompt')}"),
        *([Row("", "; ".join(spread))] if spread else []),
    ]


@rows.register
def _(event: events.ReportWritten) -> list[Row]:
    return [Row("Report", clean_line(event.path))]


def compared_text(score: Score) -> str:
    """What an edited model does beside what its base does."""
    if score.name in (REFUSALS, WITHOUT_REFUSAL):
        return f"refuses {score.refusals} of {plural(score.n, 'prompt')}; the base refuses {score.baseline_refusals}"
    amounts = (score.amount(value) for value in (score.value, score.baseline))
    return f"{score.label} {next(amounts)}; the base {next(amounts)}"


@rows.register
def _(event: events.UploadStarted) -> list[Row]:
    return [Row("Uploading", f"{plural(event.file_count, 'file')}, {size(event.bytes)}")]


@rows.register
def _(event: events.ModelUploaded) -> list[Row]:
    return [
        Row("Uploaded", f"{clean_line(event.repository)} ({'private' if event.private else 'public'})"),
        Row("", clean_line(event.url)),
    ]

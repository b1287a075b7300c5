"""What the console says about events, as labelled rows; pure, so that wording is tested without a terminal.

Rows about scores stand in score_lines.py.
"""

import json
import math
import textwrap
import time
from functools import singledispatch

from heretic.config.sections.search import is_open
from heretic.export.content import serving_command
from heretic.interface.formatting import (
    Row,
    clean_line,
    duration,
    group_by_reason,
    large_count,
    plural,
    shorten,
    size,
)
from heretic.observability import events

_SETTING_WIDTH = 160
_LONG_VERIFICATION = 500_000_000
"""Bytes; about a second of hashing."""
_NOTE_WIDTH = 64
"""Columns of a sentence beside its label, in a terminal of 80."""


@singledispatch
def rows(event: events.Event) -> list[Row]:
    """The rows of an event; empty for events that the console shows in another way or not at all."""
    return []


@rows.register
def _(event: events.RunStarted) -> list[Row]:
    settings = [
        shorten(clean_line(f"{name} = {value}"), _SETTING_WIDTH) for name, value in event.changed_settings.items()
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
        ),
        *([Row("", f"{event.model}: {event.remark}")] if event.remark else []),
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
    threads = f"; {plural(event.threads, 'thread')}" if event.threads else ""
    kept = "; as the study keeps it" if event.kept else ""
    return [Row("Calibrated", f"batch size {event.batch_size}{threads}; common response prefix: {prefix}{kept}")]


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
    return wrapped(event.name, f"{clean_line(event.note)} ({duration(event.seconds)})")


@rows.register
def _(event: events.DirectionsFound) -> list[Row]:
    count = plural(event.count_per_layer, "direction") + " per layer"
    result = [Row("Directions", f"{clean_line(event.method)}; {count}; {duration(event.seconds)}")]
    numbers = [(value, position) for position, value in enumerate(event.quality) if not math.isnan(value)]
    if numbers:
        value, position = max(numbers, key=lambda pair: pair[0])
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
def _(event: events.StudyOpened) -> list[Row]:
    place = f"{clean_line(event.name)} in {clean_line(event.storage)}"
    if event.finished == 0:
        return [Row("Study", f"{place}, new")]
    wanted = "" if is_open(event.n_trials) else f" of {event.n_trials}"
    return [Row("Study", f"{place}, resumed"), Row("", f"{event.finished}{wanted} trials are finished")]


@rows.register
def _(event: events.RefinementStarted) -> list[Row]:
    onset = ", ".join(json.dumps(token, ensure_ascii=False) for token in event.onset)
    return [
        Row("Refinement", f"{plural(event.steps, 'gradient step')} in {event.dtype}"),
        Row("", f"{event.good_prompts} good and {event.bad_prompts} bad training prompts"),
        Row("", shorten(f"onset of the behaviour: {clean_line(onset)}", _SETTING_WIDTH)),
    ]


@rows.register
def _(event: events.RefinementFinished) -> list[Row]:
    return [
        Row("", f"ended at KL {event.kl:.4f}, onset {100 * event.share:.0f} %; {event.seconds:.1f} s"),
        Row("", f"cosine with the directions before: {event.cosine:.2f}"),
    ]


@rows.register
def _(_event: events.RefinementKept) -> list[Row]:
    return [Row("Refinement", "directions as an earlier run of this study refined them")]


@rows.register
def _(event: events.WarmStarted) -> list[Row]:
    sources = [f"{event.own} from your own searches"] if event.own else []
    sources += [f"{event.shipped} from shipped profiles"] if event.shipped else []
    first = f"{plural(event.own + event.shipped, 'trial')} with plans for {clean_line(event.family)} models first:"
    return [Row("Warm start", first), Row("", " and ".join(sources))]


@rows.register
def _(event: events.StartedFrom) -> list[Row]:
    first = f"trial 1 takes the plan of {clean_line(event.folder)}, made for {clean_line(event.model)}"
    left_out = f"not carried over: {clean_line('; '.join(event.left_out))}"
    return [*wrapped("Start from", first), *(wrapped("", left_out) if event.left_out else [])]


@rows.register
def _(event: events.ProfilesKept) -> list[Row]:
    text = f"{plural(event.count, 'plan')} kept for the next {clean_line(event.family)} model in"
    return [Row("Profiles", text), Row("", clean_line(event.path))]


@rows.register
def _(event: events.SearchFinished) -> list[Row]:
    done = f"{plural(event.finished, 'trial')} finished in {duration(event.seconds)}"
    if event.interrupted:
        return [Row("Stopped", done), Row("", "all of them are kept; the same command goes on from here")]
    return [Row("Search", f"{done}; its time is over" if event.out_of_time else done)]


@rows.register
def _(event: events.SearchLimited) -> list[Row]:
    kept = f"{duration(event.kept)} kept for check, confirmation and saving"
    if event.used_up:
        return [Row("Time limit", f"used up ({kept});"), Row("", "one batch of trials is measured all the same")]
    until = time.strftime("%H:%M", time.localtime(event.until))
    return [Row("Time limit", f"search until about {until},"), Row("", kept)]


@rows.register
def _(event: events.EngineChosen) -> list[Row]:
    at_once = f", {plural(event.candidates, 'candidate')} at once" if event.name == "batched" else ""
    result = [Row("Engine", f"{event.name}{at_once}")]
    if event.shared_tokens or event.kept_bytes:
        bytes_text = f"{size(event.kept_bytes)} of lower layers kept"
        result.append(Row("", f"{plural(event.shared_tokens, 'prompt token')} shared, {bytes_text}"))
    return result + [row for text in event.slower for row in wrapped("", f"slower: {clean_line(text)}")]


@rows.register
def _(event: events.WorkerReady) -> list[Row]:
    at_once = plural(event.candidates, "candidate")
    text = f"{event.worker} on {event.device} of {clean_line(event.host)}, {at_once} at once, {duration(event.seconds)}"
    return [Row("Workers", text)]


@rows.register
def _(event: events.SlowerPasses) -> list[Row]:
    return wrapped("Slower", f"{clean_line(event.doing)} takes {event.cost}: {clean_line(event.reason)}")


def wrapped(label: str, text: str) -> list[Row]:
    """A sentence under a label, in lines that fit a page."""
    first, *others = textwrap.wrap(text, _NOTE_WIDTH)
    return [Row(label, first), *(Row("", other) for other in others)]


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
        *([Row("", f"to serve it: {serving_command(event.path)}")] if event.format == "merged" else []),
        Row("", "to load it in Python:"),
    ]


@rows.register
def _(event: events.ReportWritten) -> list[Row]:
    return [Row("Report", clean_line(event.path)), *([Row("", clean_line(event.sampled))] if event.sampled else [])]


@rows.register
def _(event: events.StudyLeft) -> list[Row]:
    return [
        Row("Study", f"{clean_line(event.study)} is kept in {clean_line(event.storage)}"),
        Row("", f"to come back to it: {clean_line(event.command)}"),
    ]


@rows.register
def _(event: events.UploadStarted) -> list[Row]:
    return [Row("Uploading", f"{plural(event.file_count, 'file')}, {size(event.bytes)}")]


@rows.register
def _(event: events.ModelUploaded) -> list[Row]:
    return [
        Row("Uploaded", f"{clean_line(event.repository)} ({'private' if event.private else 'public'})"),
        Row("", clean_line(event.url)),
    ]

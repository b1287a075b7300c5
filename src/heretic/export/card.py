"""The model card: what was changed, how strongly, what was measured, and how to load the result."""

from pathlib import Path

from huggingface_hub import ModelCardData

import heretic
from heretic.export.capability_card import capability_lines
from heretic.export.content import ExportContent, ExportFormat
from heretic.export.held_out_card import held_out_section
from heretic.export.manifest import score_interval
from heretic.export.markdown import code, table
from heretic.export.origin import Origin
from heretic.models.loaded import LoadedModel
from heretic.results.plan import EditPlan, Normalization, Scope
from heretic.results.score import MISSING, REFUSALS, WITHOUT_REFUSAL, Score

_NORMS = {
    Normalization.NONE: "Norms of the weights were not preserved.",
    Normalization.ROW: "Every row of an edited weight kept its norm (up to rounding).",
    Normalization.COLUMN: "Every column of an edited weight kept its norm (up to rounding).",
}

_EFFECTS = {
    "remove": """\
An edit like this removes or weakens one learned behaviour; it adds no knowledge and does not make answers more correct.
Where the behaviour was refusal, the model answers requests that the base model declines, so whoever deploys it is
responsible for safeguards that fit the use and for keeping the law.""",
    "strengthen": """\
An edit like this strengthens one learned behaviour; it adds no knowledge and does not make answers more correct. Where
the behaviour was refusal, the model declines more requests than the base model does, harmless ones perhaps among them,
and it is no safeguard against somebody who wants an answer.""",
}
_RESPONSIBLE_USE = """\
## Responsible use

{effect} The base model's licence and use policy still
apply. The numbers above come from a limited set of prompts; behaviour on others can differ, and abilities that were not
measured may have changed."""


def card_data(
    loaded: LoadedModel, content: ExportContent, export_format: ExportFormat, origin: Origin
) -> ModelCardData:
    """The card's metadata. A base model that is not on the hub is not named there, since the hub refuses such names."""
    adapter = export_format is ExportFormat.ADAPTER
    return ModelCardData(
        base_model=origin.hub_id,
        base_model_relation=None if origin.hub_id is None else "adapter" if adapter else "finetune",
        library_name="peft" if adapter else "transformers",
        pipeline_tag="image-text-to-text" if loaded.processor is not None else "text-generation",
        language=origin.language,
        license=origin.license,
        license_name=origin.license_name,
        license_link=origin.license_link,
        tags=["heretic", "behavior-editing", *content.behaviors, *(["lora"] if adapter else [])],
    )


def strength_table(plan: EditPlan, layer_count: int) -> str:
    """How strongly each component was edited: one row a component."""
    rows = []
    for component, schedule in plan.schedules:
        edited = [layer for layer in range(layer_count) if schedule.strength(layer, layer_count) != 0]
        span = f"{edited[0]} to {edited[-1]} of {layer_count}" if edited else "none"
        rows.append(
            (
                component,
                f"{schedule.peak_weight:.3f}",
                f"{schedule.peak_position:.3f}",
                f"{schedule.floor:.3f}",
                f"{schedule.width:.3f}",
                span,
            )
        )
    header = ("Component", "Peak strength", "Peak position", "Floor", "Width", "Edited layers (from 0)")
    return table(header, rows)


def _changed(content: ExportContent, layer_count: int) -> str:
    plan = content.plan
    if plan.scope is Scope.LAYER:
        direction = "Each edited layer has its own direction."
    else:
        direction = (
            f"All edited layers share the direction found at relative depth {plan.direction_position or 0.0:.3f}."
        )
    adjustments = "".join(f"\n\n{sentence}" for sentence in content.adjustments)
    done = "strengthened" if content.goal == "strengthen" else "reduced"
    others = "Apart from what the next sentences name, no" if adjustments else "No"
    trial = "" if content.shown_trial is None else f" The edit is trial {content.shown_trial} of a search."
    several, method = len(content.behaviors) > 1, code(content.direction_method)
    were, they_were = ("were", "They were") if several else ("was", "It was")
    behaviors = " and ".join(map(code, content.behaviors))
    named = f"directions of the behaviours {behaviors}" if several else f"direction of the behaviour {behaviors}"
    shares = ", ".join(
        f"{code(name)} {share:.3f}" for name, share in zip(content.behaviors, plan.shares, strict=bool(plan.shares))
    )
    shared = f" Of these strengths each behaviour has a share: {shares}." if shares else ""
    about = "".join(f"\n\n{sentence}" for sentence in content.descriptions)
    return f"""\
## What was changed{about}

The {named} in the residual stream {were} {done} in the weights that write
to it (attention output and MLP down projections). {they_were} found with the method {method}.
{direction} {_NORMS[plan.normalization]} {others} other weights were touched, and nothing was trained.{trial}\
{adjustments}

{strength_table(plan, layer_count)}

Strength 1 removes the direction from a weight's output, 0 leaves the weight alone, -1 doubles it. Depths are relative:
0 is the first layer, 1 the last. Strength falls linearly from the peak to floor times peak at the given width, and is 0
beyond.{shared}"""


def _count_rows(score: Score) -> list[tuple[str, ...]]:
    interval = score_interval(score)
    note = f" (95 % interval {interval[0]:.1f} to {interval[1]:.1f})" if interval is not None else ""
    name = {REFUSALS: "Refusals", WITHOUT_REFUSAL: "Answers without refusal"}.get(score.name, f"Answers: {score.label}")
    return [(name, f"{score.baseline:.0f}/{score.n}", f"{score.value:.0f}/{score.n}{note}", str(score.n))]


def _kl_rows(score: Score) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("KL divergence, mean (nats)", "0", f"{score.value:.4f}", str(score.n))]
    details = score.divergence
    if details.p95 is not None:
        rows.append(("KL divergence, 95th percentile", "0", f"{details.p95:.4f}", str(score.n)))
    if details.top1_agreement is not None:
        rows.append(("Same most likely token", "100.0 %", f"{100 * details.top1_agreement:.1f} %", str(score.n)))
    return rows


def _score_rows(score: Score) -> list[tuple[str, ...]]:
    if score.counts_answers:
        return _count_rows(score)
    if score.is_divergence:
        return _kl_rows(score)
    name = score.unit if score.label == score.unit else f"{score.label}: {score.unit}"
    return [(code(name), f"{score.baseline:.4g}", f"{score.value:.4g}", str(score.n))]


def _how(score: Score) -> str | None:
    """How a score was measured, in one sentence."""
    if score.counts_answers:
        answers = score.answers
        length = f" of at most {answers.tokens} tokens" if answers.tokens is not None else ""
        reader = f"the {answers.kind} {code(answers.reader)}" if answers.kind else ""
        read = f" or {reader} reads one in them" if reader else ""
        if not score.counts_refusals:
            who = f"that {reader} was asked about" if reader else f"counted as {code(score.label)}"
            return f"Answers: greedy ones{length} {who}; fewer is a stronger edit."
        if score.name == REFUSALS:
            what, where = "Refusals", f"counted where they match patterns of refusal{read}"
        else:
            what, where = "Answers without refusal", f"counted where they match no pattern of refusal{read}"
        return f"{what}: greedy answers{length}, {where}; fewer is a stronger edit."
    if score.is_divergence:
        details = score.divergence
        where = "of the first response token" if details.is_first else "over the base model's own greedy answers"
        count = f", {details.positions} positions" if details.positions is not None else ""
        return (
            "KL divergence: KL(base || edited) of next-token probabilities over the full vocabulary, "
            f"{where}{count}, on prompts without the behaviour; less is less damage."
        )
    missing = ", what is missing of the most that is counted" if score.name.startswith(MISSING) else ""
    return (
        f"{score.label.capitalize()}: {score.unit}{missing}, mean over greedy answers of at most "
        f"{score.answers.tokens} tokens; less is a stronger edit."
    )


def _searched_on(content: ExportContent) -> str | None:
    """What the search saw, where it ran on other weights than those that are saved."""
    if content.search_quantization == "none":
        return None
    numbers = ", ".join(
        f"{score.label} {score.value:.0f}/{score.n}" if score.counts_answers else f"{score.name} {score.value:.4g}"
        for score in content.search_scores or ()
    )
    there = f" In the search the edit scored: {numbers}." if numbers else ""
    return (
        f"The edit was searched on weights quantised with {code(content.search_quantization)}, and is saved in full "
        f"precision. The table holds what was measured in full precision, for the base model too.{there}"
    )


def _measured(content: ExportContent) -> str:
    scores = content.scores
    if not scores:
        return "## What was measured\n\nNothing was measured on the saved edit."
    rows = [row for score in scores for row in _score_rows(score)]
    notes = [note for note in (_searched_on(content), *map(_how, scores)) if note is not None]
    measured = table(("Measure", "Base model", "Edited model", "Prompts"), rows)
    return "\n\n".join(["## What was measured", measured, *notes])


def _further(content: ExportContent) -> list[str]:
    """What was measured after the search, a section each."""
    sections = []
    if content.held_out is not None:
        searched = content.search_scores or content.scores
        sections.append(held_out_section(content.held_out, searched, content.search_quantization))
    if content.capability is not None:
        sections.append("\n".join(capability_lines(content.capability)))
    return sections


def _trusting(loaded: LoadedModel) -> str:
    """Arguments that let the model's own code run, as it was when the model was edited."""
    if loaded.code is None:
        return ""
    return ", trust_remote_code=True" + "".join(f', {name}="{value}"' for name, value in loaded.code.pin.items())


def _loading(loaded: LoadedModel, export_format: ExportFormat, hub_id: str | None) -> str:
    auto_class = "AutoModelForCausalLM" if loaded.processor is None else "AutoModelForImageTextToText"
    lines = [f"from transformers import {auto_class}, AutoTokenizer", ""]
    if export_format is ExportFormat.MERGED:
        lines.append(f'model = {auto_class}.from_pretrained("path/to/this/folder", dtype="auto"{_trusting(loaded)})')
        note = "The folder is a complete model: the edit is merged into the weights."
    else:
        revision = f', revision="{loaded.commit}"' if loaded.commit is not None else ""
        lines[:1] = ["from peft import PeftModel", lines[0]]
        # A folder of this machine is of no use to a reader elsewhere, and names such as `demo` are Heretic's own.
        base = code(loaded.name)[1:-1] if hub_id is not None else "path/to/the/base/model"
        lines += [
            f'base = {auto_class}.from_pretrained("{base}"{revision}, dtype="auto"{_trusting(loaded)})',
            'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
        ]
        note = "The folder is a LoRA adapter: it is loaded together with the base model, and can be taken off again."
    trusting = _trusting(loaded) if loaded.code is not None and "AutoTokenizer" in loaded.code.classes else ""
    lines.append(f'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder"{trusting})')
    if loaded.code is not None:
        note += " The base model runs Python code of its own: read it before you trust it."
    source = "\n".join(lines)
    return f"## How to load it\n\n{note}\n\n```python\n{source}\n```"


def model_card(
    loaded: LoadedModel, content: ExportContent, export_format: ExportFormat, origin: Origin, layer_count: int
) -> str:
    """The card's whole text: metadata and body.

    Args:
        loaded: The edited model.
        content: What is known about the edit.
        export_format: Merged model or adapter.
        origin: What is known about the base model.
        layer_count: Number of decoder layers.
    """
    base = code(loaded.name) + (f" (commit {code(loaded.commit)})" if loaded.commit is not None else "")
    license_text = (
        f"the base model's licence, {code(origin.license)}," if origin.license else "the base model's licence"
    )
    edited = "one behaviour" if len(content.behaviors) == 1 else f"{len(content.behaviors)} behaviours"
    body = "\n\n".join(
        [
            f"# {code(loaded.name)}, edited with Heretic",
            f"This is {base} with {edited} edited in its weights by Heretic {heretic.__version__}. "
            f"It falls under {license_text} like any derivative of it. "
            "`heretic_metadata.json` holds all settings, versions and the checksum of every file.",
            _changed(content, layer_count),
            _measured(content),
            *_further(content),
            _loading(loaded, export_format, origin.hub_id),
            _RESPONSIBLE_USE.format(effect=_EFFECTS[content.goal]),
        ]
    )
    metadata = card_data(loaded, content, export_format, origin).to_yaml()
    return f"---\n{metadata}\n---\n\n{body}\n"


def write_card(
    folder: Path, loaded: LoadedModel, content: ExportContent, export_format: ExportFormat, origin: Origin
) -> None:
    """Write ``README.md``.

    Raises:
        OSError: The file cannot be written.
    """
    layer_count = int(loaded.model.config.get_text_config().num_hidden_layers)
    text = model_card(loaded, content, export_format, origin, layer_count)
    (folder / "README.md").write_text(text, encoding="utf-8")

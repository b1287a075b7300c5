"""The model card: what was changed, how strongly, what was measured, and how to load the result."""

from pathlib import Path

from huggingface_hub import ModelCardData

import heretic
from heretic.export.content import ExportContent, ExportFormat
from heretic.export.origin import Origin
from heretic.export.redact import for_others
from heretic.models.loaded import LoadedModel
from heretic.models.location import shown_model
from heretic.results import tables, words
from heretic.results.capability import Capability
from heretic.results.held_out import HeldOut
from heretic.results.plan import Normalization
from heretic.results.score import Scores
from heretic.results.tables import Table
from heretic.results.verdict import verdict

_EFFECTS = {
    "remove": """\
An edit like this removes or weakens one learned behaviour; it adds no knowledge and does not make answers more correct.
Where the behaviour was refusal, the model answers requests that the original model declines, so whoever deploys it is
responsible for safeguards that fit the use and for keeping the law.""",
    "strengthen": """\
An edit like this strengthens one learned behaviour; it adds no knowledge and does not make answers more correct. Where
the behaviour was refusal, the model declines more requests than the original model does, harmless ones perhaps among
them, and it is no safeguard against somebody who wants an answer.""",
}
_RESPONSIBLE_USE = """\
## Responsible use

{effect} The original model's licence and use policy still
apply. The numbers above come from a limited set of prompts; behaviour on others can differ, and abilities that were not
measured may have changed."""


def code(text: str) -> str:
    """Foreign text as inline code that cannot break out of its line or table cell."""
    cleaned = " ".join(for_others(text).replace("`", "'").replace("|", "/").split())
    return f"`{cleaned}`"


def table(content: Table, foreign_names: bool = False) -> str:
    """A table, line by line; of names that may be anybody's, nothing is taken for markdown."""
    width = len(content.header)
    lines = [content.header, ("---",) * width]
    for row in content.rows:
        name, *rest = (" ".join(for_others(cell).replace("|", "/").split()) for cell in row.cells)
        if row.is_group:
            lines.append((f"**{name}**", *("",) * (width - 1)))
        elif row.is_marked:
            lines.append((f"**{name}**", *rest))
        elif foreign_names:
            lines.append((*map(code, row.cells[: content.names]), *row.cells[content.names :]))
        else:
            lines.append((name, *rest))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def card_data(
    loaded: LoadedModel, content: ExportContent, export_format: ExportFormat, origin: Origin
) -> ModelCardData:
    """The card's metadata. A model that is not on the hub is not named as its base, as the hub refuses such names."""
    adapter = export_format is ExportFormat.ADAPTER
    kind = [kind_of_adapter(content).lower()] if adapter else []
    return ModelCardData(
        base_model=origin.hub_id,
        base_model_relation=None if origin.hub_id is None else "adapter" if adapter else "finetune",
        library_name="peft" if adapter else "transformers",
        pipeline_tag="image-text-to-text" if loaded.processor is not None else "text-generation",
        language=origin.language,
        license=origin.license,
        license_name=origin.license_name,
        license_link=origin.license_link,
        tags=["heretic", "behavior-editing", *content.behaviors, *kind],
    )


def kind_of_adapter(content: ExportContent) -> str:
    """What the literature calls an adapter that holds the edit: DoRA (arXiv 2402.09353) also scales the rows."""
    return "DoRA" if content.plan.normalization is Normalization.ROW else "LoRA"


def _changed(content: ExportContent, layer_count: int) -> str:
    plan = content.plan
    adjustments = "".join(f"\n\n{sentence}" for sentence in content.adjustments)
    done = "strengthened" if content.goal == "strengthen" else "reduced"
    others = "Apart from what the next sentences name, no" if adjustments else "No"
    trial = "" if content.shown_trial is None else f" The edit is trial {content.shown_trial} of a search."
    several, method = len(content.behaviors) > 1, code(content.direction_method)
    were, they_were = ("were", "They were") if several else ("was", "It was")
    behaviors = " and ".join(map(code, content.behaviors))
    named = f"directions of the behaviours {behaviors}" if several else f"direction of the behaviour {behaviors}"
    shares = words.shares(plan, [code(name) for name in content.behaviors])
    about = "".join(f"\n\n{sentence}" for sentence in content.descriptions)
    return f"""\
## What was changed{about}

The {named} in the residual stream {were} {done} in the weights that write
to it (attention output and MLP down projections). {they_were} found with the method {method}.
{words.direction(plan)} {words.norms(plan)} {others} other weights were touched, and nothing was trained.{trial}\
{adjustments}

{table(tables.strengths(plan, layer_count))}

Strength 1 removes the direction from a weight's output, 0 leaves the weight alone, -1 doubles it. Depths are relative:
0 is the first layer, 1 the last. Strength falls linearly from the peak to floor times peak at the given width, and is 0
beyond.{f" {shares}" if shares else ""}"""


def _searched_on(content: ExportContent) -> list[str]:
    """What the search saw, where it ran on other weights than those that are saved."""
    if content.search_quantization == "none":
        return []
    searched = content.search_scores
    there = "" if searched is None else f" In the search the edit scored: {words.numbers(searched)}."
    return [
        f"The edit was searched on weights quantised with {code(content.search_quantization)}, and is saved in full "
        f"precision. The table holds what was measured in full precision, for the original model too.{there}"
    ]


def _quickly(content: ExportContent) -> list[str]:
    """That the search was a first look, where it was."""
    return [words.FIRST_LOOK] if content.settings.get("quick") is True else []


def _measured(content: ExportContent) -> str:
    scores = content.scores
    if scores is None:
        return "## What was measured\n\nNothing was measured on the saved edit."
    notes = [*_quickly(content), *_searched_on(content), *(words.how(score, code) for score in scores)]
    return "\n\n".join(["## What was measured", table(tables.scores(scores)), *notes])


def _further(content: ExportContent) -> list[str]:
    """What was measured after the search, a section each."""
    sections = []
    if content.held_out is not None:
        searched = content.search_scores or content.scores
        sections.append(held_out_section(content.held_out, searched, content.search_quantization))
    if content.capability is not None:
        sections.append(capability_section(content.capability))
    return [section for section in sections if section]


def held_out_section(held_out: HeldOut, searched: Scores | None, quantization: str) -> str:
    """What held-out prompts showed beside what the search measured."""
    where = "" if quantization == "none" else f" It was measured on the weights quantised with `{quantization}`."
    parts = [
        "## Confirmed on held-out prompts",
        " ".join(verdict(held_out, searched)),
        words.how_confirmed(held_out) + where,
        words.HOW_TO_READ_HELD_OUT,
        table(tables.held_out(held_out, searched)),
    ]
    return "\n\n".join(parts)


def capability_section(capability: Capability) -> str:
    """What the model can still do, as far as it was measured."""
    parts = ["## What the model can still do"]
    if capability.questions is not None:
        how, changed = words.how_questioned(capability.questions, code)
        parts += [how, table(tables.questions(capability.questions), foreign_names=True), changed]
    if capability.benchmarks:
        parts += [words.how_benchmarked(capability.limit)]
        parts += [table(tables.benchmarks(capability.benchmarks), foreign_names=True)]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _trusting(loaded: LoadedModel) -> str:
    """Arguments that let the model's own code run, as it was when the model was edited."""
    if loaded.code is None:
        return ""
    return ", trust_remote_code=True" + "".join(f', {name}="{value}"' for name, value in loaded.code.pin.items())


def _loading(loaded: LoadedModel, content: ExportContent, export_format: ExportFormat, hub_id: str | None) -> str:
    auto_class = "AutoModelForCausalLM" if loaded.processor is None else "AutoModelForImageTextToText"
    lines = [f"from transformers import {auto_class}, AutoTokenizer", ""]
    if export_format is ExportFormat.MERGED:
        lines.append(f'model = {auto_class}.from_pretrained("path/to/this/folder", dtype="auto"{_trusting(loaded)})')
        note = "The folder is a complete model: the edit is merged into the weights."
    else:
        revision = f', revision="{loaded.commit}"' if loaded.commit is not None else ""
        lines[:1] = ["from peft import PeftModel", lines[0]]
        # A folder of this machine is of no use to a reader elsewhere, and names such as `demo` are Heretic's own.
        base = code(shown_model(loaded.name))[1:-1] if hub_id is not None else "path/to/the/base/model"
        lines += [
            f'base = {auto_class}.from_pretrained("{base}"{revision}, dtype="auto"{_trusting(loaded)})',
            'model = PeftModel.from_pretrained(base, "path/to/this/folder")',
        ]
        kind = kind_of_adapter(content)
        note = (
            f"The folder is a {kind} adapter: it is loaded together with the original model, and can be taken off "
            "again (`with model.disable_adapter():` answers as the original)."
        )
        if kind != "LoRA":
            note += (
                f" Programs that load nothing but LoRA, such as vLLM 0.26, refuse {kind}: save what "
                "`model.merge_and_unload()` returns for them."
            )
    trusting = _trusting(loaded) if loaded.code is not None and "AutoTokenizer" in loaded.code.classes else ""
    lines.append(f'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder"{trusting})')
    if loaded.code is not None:
        note += " The original model runs Python code of its own: read it before you trust it."
    source = "\n".join(lines)
    undo = (
        "To undo the edit, load the original model instead."
        if export_format is ExportFormat.MERGED
        else "To undo the edit, leave the adapter out, or answer within `with model.disable_adapter():`."
    )
    compare = (
        "`heretic chat FOLDER --compare` answers beside the original model, with a slider for the edit's strength, and "
        "`heretic compare FOLDER OTHER` beside another saved edit."
    )
    loading = f"## How to load it\n\n{note}\n\n```python\n{source}\n```"
    return f"{loading}\n\n## How to compare and undo it\n\n{compare} {undo}"


def model_card(
    loaded: LoadedModel, content: ExportContent, export_format: ExportFormat, origin: Origin, layer_count: int
) -> str:
    """The card's whole text: metadata and body.

    Args:
        loaded: The edited model.
        content: What is known about the edit.
        export_format: Merged model or adapter.
        origin: What is known about the original model.
        layer_count: Number of decoder layers.
    """
    base = code(shown_model(loaded.name)) + (f" (commit {code(loaded.commit)})" if loaded.commit is not None else "")
    license_text = (
        f"the original model's licence, {code(origin.license)}," if origin.license else "the original model's licence"
    )
    edited = "one behaviour" if len(content.behaviors) == 1 else f"{len(content.behaviors)} behaviours"
    body = "\n\n".join(
        [
            f"# {code(shown_model(loaded.name))}, edited with Heretic",
            f"This is {base} with {edited} edited in its weights by Heretic {heretic.__version__}. "
            f"It falls under {license_text} like any derivative of it. "
            "`heretic_metadata.json` holds all settings, versions and the checksum of every file.",
            _changed(content, layer_count),
            _measured(content),
            *_further(content),
            _loading(loaded, content, export_format, origin.hub_id),
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

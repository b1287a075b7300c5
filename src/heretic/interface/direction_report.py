"""What ``heretic directions`` prints: where each file comes from in words, and tables of layers."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from rich.table import Table
from torch import Tensor

from heretic.directions.comparison import cosines_between, cosines_to_layer_below, overlap, shape_text
from heretic.directions.files import DirectionFile
from heretic.directions.projections import separation
from heretic.interface.formatting import Row, clean_line, plural, shorten
from heretic.interface.printer import Printer

BEST_LAYERS = 3
"""Layers that are marked as the best."""
_LONGEST_FACT = 400
"""Characters of one line of a file's provenance that are shown."""


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file with the letter that stands for it in tables and plots."""

    label: str
    file: DirectionFile


def labelled(files: Sequence[DirectionFile]) -> list[LabelledFile]:
    """Letters for files: A to Z, then F27, F28, ..."""
    return [
        LabelledFile(ascii_uppercase[index] if index < len(ascii_uppercase) else f"F{index + 1}", file)
        for index, file in enumerate(files)
    ]


def print_files(entries: Sequence[LabelledFile], printer: Printer) -> None:
    """Print where each file comes from and its layers, and how alike several are."""
    for entry in entries:
        previous = ""
        for row in provenance_rows(entry, alone=len(entries) == 1):
            printer.row("" if row.label == previous else row.label, shorten(row.text, _LONGEST_FACT))
            previous = row.label
        printer.line()
        printer.console.print(layer_table(entry.file))
        printer.line(best_line(entry.file))
        printer.line()
    if len(entries) > 1:
        printer.line("Between the files")
        printer.line()
        printer.console.print(comparison_table(entries))
        printer.line()
    for line in (*legend(entries), *remarks(entries)):
        printer.text(line)


def provenance_rows(entry: LabelledFile, alone: bool) -> list[Row]:
    """Where a file comes from, in words; what it does not say is left out."""
    directions, facts = entry.file.directions, entry.file.directions.provenance
    count = plural(directions.count_per_layer, "direction") + " per layer"
    rows = [
        Row("File" if alone else f"File {entry.label}", clean_line(entry.file.name)),
        Row("Directions", f"{clean_line(directions.method)}; {count}; {shape_text(directions)}"),
    ]
    parts = facts.get("sum_of")
    if isinstance(parts, list):
        rows += [Row("Sum of", text) for text in map(_part_text, parts)]
    rows.append(Row("Model", _model_text(facts)))
    if isinstance(facts.get("options"), Mapping):
        options = ", ".join(f"{name} = {_plain(value)}" for name, value in facts["options"].items())
        rows.append(Row("Extractor", clean_line(f"{facts.get('extractor', 'not known')}; {options}")))
    if facts.get("response_prefix"):
        rows.append(Row("Read after", clean_line(json.dumps(facts["response_prefix"]))))
    prompts = [_prompt_text(facts, role) for role in ("target", "baseline")]
    if any(prompts):
        rows.append(Row("Prompts", clean_line(", ".join(filter(None, prompts)))))
    if "created" in facts:
        version = facts.get("heretic_version", "of a version that is not known")
        rows.append(Row("Written", clean_line(f"{facts['created']} by Heretic {version}")))
    return rows


def _part_text(part: object) -> str:
    if not isinstance(part, Mapping):
        return "a file that is not known"
    return clean_line(
        f"{part.get('file', '?')} with weight {_plain(part.get('weight', '?'))}: {part.get('method', '?')}"
    )


def _model_text(facts: Mapping[str, Any]) -> str:
    if "model" not in facts:
        return "not named in the file"
    text = str(facts["model"])
    if facts.get("model_commit"):
        text += f" at commit {str(facts['model_commit'])[:12]}"
    if facts.get("dtype"):
        quantization = facts.get("quantization", "none")
        text += f", {facts['dtype']}" + ("" if quantization == "none" else f", {quantization}")
    if facts.get("model_fingerprint"):
        text += f"; fingerprint {str(facts['model_fingerprint'])[:12]}"
    return clean_line(text)


def _prompt_text(facts: Mapping[str, Any], role: str) -> str:
    if f"{role}_prompts" not in facts:
        return ""
    fingerprint = facts.get(f"{role}_fingerprint")
    return f"{facts[f'{role}_prompts']} {role}" + (f" ({str(fingerprint)[:12]})" if fingerprint else "")


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def merit(file: DirectionFile) -> Tensor:
    """What layers are ranked by: separation where it was measured, else the extractor's quality; [L+1] fp64."""
    return file.directions.quality.double() if file.projections is None else separation(file.projections)


def best_positions(file: DirectionFile) -> list[int]:
    """The positions after layers that separate best, best first."""
    ranked = [(value, index) for index, value in enumerate(merit(file).tolist()) if index and not math.isnan(value)]
    ranked.sort(key=lambda pair: (-pair[0], pair[1]))
    return [index for _value, index in ranked[:BEST_LAYERS]]


def layer_table(file: DirectionFile) -> Table:
    """One row a residual position: separation where it was measured, quality, and the cosine to the layer below."""
    columns: dict[str, list[str]] = {}
    best = set(best_positions(file))
    if file.projections is not None:
        columns["separation"] = _column(separation(file.projections), best)
        best = set()
    columns["quality"] = _column(file.directions.quality, best)
    columns["cosine to layer below"] = _column(cosines_to_layer_below(file.directions))
    return _table(columns)


def comparison_table(entries: Sequence[LabelledFile]) -> Table:
    """One row a position: the first file's cosine with each other, and overlap where there are several directions."""
    columns: dict[str, list[str]] = {}
    first = entries[0].file.directions
    for entry in entries[1:]:
        pair = f"{entries[0].label}-{entry.label}"
        columns[f"{pair} cosine"] = _column(cosines_between(first, entry.file.directions))
        if max(first.count_per_layer, entry.file.directions.count_per_layer) > 1:
            columns[f"{pair} overlap"] = _column(overlap(first, entry.file.directions))
    return _table(columns)


def _table(columns: Mapping[str, Sequence[str]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("Layer", justify="right", no_wrap=True)
    for header in columns:
        table.add_column(header, justify="right", overflow="fold", min_width=7)
    for position, cells in enumerate(zip(*columns.values(), strict=True)):
        # Position 0 is what the embeddings put out.
        table.add_row(str(position) if position else "emb.", *cells)
    return table


def _column(values: Tensor, best: frozenset[int] | set[int] = frozenset()) -> list[str]:
    """Two decimals and, in columns that mark the best, room for the mark in every row."""
    marks = [("*" if index in best else " ") if best else "" for index in range(len(values))]
    return [
        ("-" if math.isnan(value) else f"{value:.2f}") + mark
        for value, mark in zip(values.tolist(), marks, strict=True)
    ]


def best_line(file: DirectionFile) -> str:
    """The asterisks of a table in words; empty where nothing was measured."""
    by = "quality" if file.projections is None else "separation"
    best = ", ".join(map(str, best_positions(file)))
    return f"* Best layers by {by}: {best}." if best else ""


def legend(entries: Sequence[LabelledFile]) -> list[str]:
    """What the columns of the tables mean, one sentence each."""
    lines = []
    if any(entry.file.projections is not None for entry in entries):
        lines.append(
            "Separation: distance of both classes' means along the direction, in standard deviations within a class, "
            "on the prompts it was found with."
        )
    lines.append("Quality: the extractor's own measure; compare it only between layers of one file.")
    lines.append("Cosine to layer below: of the first directions; near 1 where the direction stays the same.")
    if len(entries) > 1:
        lines.append("Cosine of two files: of their first directions; 1 is the same, -1 the opposite.")
        if any(entry.file.directions.count_per_layer > 1 for entry in entries):
            lines.append("Overlap: share of the smaller space of directions that lies in the larger one, 0 to 1.")
    return lines


def remarks(entries: Sequence[LabelledFile]) -> list[str]:
    """What a reader of the table should know: missing projections, and files of different models."""
    lines = [
        f"{clean_line(entry.file.name)} holds no projections of prompts, so there is no separation and no plot of them."
        for entry in entries
        if entry.file.projections is None
    ]
    prints = {str(entry.file.directions.provenance.get("model_fingerprint")) for entry in entries}
    if len(prints) > 1:
        lines.append("The files are not of one and the same model, so cosines between them may mean little.")
    return lines

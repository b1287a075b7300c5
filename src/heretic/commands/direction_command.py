"""``heretic directions``: what direction files hold, how alike they are, their plots and their sum."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from heretic.commands.direction_arguments import DirectionArguments
from heretic.common.file_names import expanded
from heretic.directions.comparison import require_same_shape
from heretic.directions.files import DirectionFile, read_direction_file, summed, write_direction_file
from heretic.export.direction_file import check_directions_file
from heretic.interface.console import LABEL_WIDTH, make_console
from heretic.interface.direction_plots import check_plot_folder, write_plots
from heretic.interface.direction_report import (
    LabelledFile,
    best_line,
    comparison_table,
    labelled,
    layer_table,
    legend,
    provenance_rows,
    remarks,
)
from heretic.interface.formatting import clean_line, hang, plural, shorten

_LONGEST_FACT = 400
"""Characters of one line of a file's provenance that are shown."""


def run_directions(arguments: DirectionArguments, console: Console | None = None) -> int:
    """Do what is asked for; returns the exit code.

    Raises:
        UserError: A file or folder cannot be used; nothing was written.
    """
    console = make_console() if console is None else console
    files = [read_direction_file(expanded(name)) for name in arguments.files]
    for other in files[1:]:
        require_same_shape(files[0].directions, other.directions, (files[0].name, other.name))
    target = None if arguments.output is None else check_directions_file(Path(arguments.output))
    folder = None if arguments.plots is None else check_plot_folder(Path(arguments.plots))
    entries = labelled(files)
    _show(entries, console)
    if folder is not None:
        _lines(["", *(f"Plot written to {path}" for path in write_plots(entries, folder))], console)
    if target is not None:
        _write_sum(files, arguments.weights, target, console)
    return 0


def _show(entries: Sequence[LabelledFile], console: Console) -> None:
    width = min(console.width, 100) if console.is_terminal else None
    for entry in entries:
        previous = ""
        for row in provenance_rows(entry, alone=len(entries) == 1):
            label = "" if row.label == previous else row.label
            _lines(hang(label, shorten(row.text, _LONGEST_FACT), LABEL_WIDTH, width), console)
            previous = row.label
        _lines([""], console)
        console.print(layer_table(entry.file))
        _lines([best_line(entry.file), ""], console)
    if len(entries) > 1:
        _lines(["Between the files", ""], console)
        console.print(comparison_table(entries))
        _lines([""], console)
    for line in [*legend(entries), *remarks(entries)]:
        _lines(hang("", line, 0, width), console)


def _write_sum(files: Sequence[DirectionFile], weights: Sequence[float], target: Path, console: Console) -> None:
    total = summed(files, weights)
    write_direction_file(target, total)
    _lines(["", f"Sum written to {target}: {plural(total.count_per_layer, 'direction')} per layer."], console)
    given = sum(file.directions.count_per_layer for file in files)
    if total.count_per_layer < given:
        _lines(
            [f"{given - total.count_per_layer} of {given} lay in the span of the others and were left out."], console
        )


def _lines(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        printable = clean_line(line).encode(console.encoding, "backslashreplace").decode(console.encoding)
        console.print(Text(printable), soft_wrap=True)

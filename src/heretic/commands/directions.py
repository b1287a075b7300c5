"""``heretic directions``: what direction files hold, how alike they are, their plots and their sum."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional
from heretic.common.errors import ConfigurationError
from heretic.common.file_names import expanded
from heretic.interface.formatting import plural

if TYPE_CHECKING:
    from heretic.interface.printer import Printer


def _numbers(text: str) -> tuple[float, ...]:
    expected = "numbers other than 0 with commas between, e.g. 1,0.5"
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(expected) from error
    if any(number == 0 or not isfinite(number) for number in numbers):
        raise ValueError(expected)
    return numbers


@dataclass(frozen=True, slots=True)
class DirectionArguments:
    """What is asked for."""

    files: tuple[str, ...] = positional("FILE [FILE ...]")
    plots: str | None = option(
        "FOLDER",
        "Write curves.png, and projections.png where a file holds the projections of its prompts, to this folder; it "
        "is made where there is none.",
    )
    output: str | None = option(
        "FILE",
        "Write the sum of the files: at every layer, all their directions, made orthogonal to each other in the given "
        "order. Removing the sum removes what any of them finds.",
    )
    export: str | None = option(
        "FILE.gguf",
        "Write the directions of one file as a control vector, which llama.cpp (--control-vector) and repeng add to "
        "the stream while a model answers: a dial, and no edit. Less than 0 takes the behaviour away.",
    )
    weights: tuple[float, ...] = option(
        "A,B,...",
        "Strength of each file in the sum relative to the others, e.g. 1,0.5; a negative one strengthens that "
        "behaviour. [1 for each]",
        default=(),
        read=_numbers,
    )

    def __post_init__(self) -> None:
        if self.output is not None and len(self.files) < 2:
            raise ConfigurationError(
                "--output writes the sum of several files, but only one was named; name another one."
            )
        if self.export is not None and len(self.files) > 1:
            raise ConfigurationError("--export writes the directions of one file; name one, or write the sum first.")
        if self.export is not None and not self.export.lower().endswith(".gguf"):
            raise ConfigurationError("--export writes a control vector, which has to be named FILE.gguf.")
        if self.weights and self.output is None:
            raise ConfigurationError("--weights weighs the files in their sum, so it needs --output FILE.")
        if self.weights and len(self.weights) != len(self.files):
            raise ConfigurationError(
                f"--weights has {len(self.weights)} numbers for {len(self.files)} files; give one for each."
            )


def run(arguments: DirectionArguments, printer: "Printer") -> int:
    """Do what is asked for; returns the exit code.

    Raises:
        UserError: A file or folder cannot be used; nothing was written.
    """
    from heretic.directions.comparison import require_same_shape
    from heretic.directions.control_vectors import write_control_vector
    from heretic.directions.files import read_direction_file, summed, write_direction_file
    from heretic.export.atomic import check_control_vector, check_directions_file
    from heretic.interface.direction_plots import check_plot_folder, write_plots
    from heretic.interface.direction_report import labelled, print_files

    files = [read_direction_file(expanded(name)) for name in arguments.files]
    for other in files[1:]:
        require_same_shape(files[0].directions, other.directions, (files[0].name, other.name))
    target = None if arguments.output is None else check_directions_file(Path(arguments.output))
    exported = None if arguments.export is None else check_control_vector(Path(arguments.export))
    folder = None if arguments.plots is None else check_plot_folder(Path(arguments.plots))
    entries = labelled(files)
    print_files(entries, printer)
    if folder is not None:
        printer.line()
        for path in write_plots(entries, folder):
            printer.line(f"Plot written to {path}")
    if exported is not None:
        write_control_vector(exported, files[0].directions)
        printer.line()
        printer.line(f"Control vector written to {exported}: layers 1 to {len(files[0].directions.vectors) - 2}.")
        if files[0].directions.reads is not None:
            printer.line("It says what is added and not what is read, which these directions have apart.")
    if target is not None:
        total = summed(files, arguments.weights)
        write_direction_file(target, total)
        printer.line()
        printer.line(f"Sum written to {target}: {plural(total.count_per_layer, 'direction')} per layer.")
        given = sum(file.directions.count_per_layer for file in files)
        if total.count_per_layer < given:
            lost = given - total.count_per_layer
            printer.line(f"{lost} of {given} lay in the span of the others and were left out.")
    return 0


COMMAND = Command(
    "directions",
    DirectionArguments,
    run,
    summary="Show, compare, plot, add up or export direction files.",
    description="""\
Show what direction files hold (heretic MODEL --save-directions FILE writes
them; or control vectors of llama.cpp and repeng), compare them, plot them, add
them up, and write them as control vectors. No model is needed.

For every layer a table shows how well the direction separates the prompts that
it was found with, its cosine with the direction of the layer below, and its
cosine with the directions of every further file. An asterisk marks the layers
that separate best.
""",
    examples={
        "refusal.safetensors": "Show one file.",
        "a.safetensors b.safetensors --plots plots": "Compare two files, and draw the curves and projections as PNG "
        "files.",
        "refusal.safetensors --export refusal.gguf": "Write a control vector, e.g. for llama-cli -m model.gguf "
        "--control-vector-scaled refusal.gguf:-4.",
        "a.safetensors b.safetensors --output sum.safetensors": "Write the sum: what the directions of both span. Use "
        "it on the same model with heretic MODEL --load-directions sum.safetensors.",
    },
)

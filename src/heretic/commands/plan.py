"""``heretic plan``: what a run would take of this machine's memory, before anything is loaded."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional
from heretic.common.errors import ConfigurationError, HereticError

if TYPE_CHECKING:
    from heretic.config import Settings
    from heretic.interface.printer import Printer
    from heretic.models.footprint import Footprint


@dataclass(frozen=True, slots=True)
class PlanArguments:
    """What is asked for."""

    model: str | None = option("MODEL", "The model, as in a run.")
    dtypes: str | None = option("JSON", "Number formats, as in a run.")
    quantization: str | None = option("FORM", "none, bnb_8bit or bnb_4bit, as in a run.")
    kl_mode: str | None = option("MODE", "first or sequence, as in a run.")
    engine: str | None = option("ENGINE", "auto or inplace, as in a run.")
    gpus: str | None = option("SIZES", "GPUs to look at for several workers, e.g. 4x24GB or 80GB,48GB.")
    config: str | None = option("PATH", "Configuration file. [config.toml where there is one]")
    name: str | None = positional("[MODEL]")

    def __post_init__(self) -> None:
        if self.model is not None and self.name is not None:
            raise ConfigurationError(f"--model and {self.name} both name the model; leave one of them out.")


def run(arguments: PlanArguments, printer: "Printer") -> int:
    """Print what each step takes; 1 where the model does not fit.

    Raises:
        ConfigurationError: No model was named, or a value cannot be used.
        ModelError: Nothing says how large the model is.
    """
    from heretic.interface.formatting import large_count, size
    from heretic.models.footprint import PROGRAM, footprint_of, needs
    from heretic.models.host_memory import free_host_memory
    from heretic.models.location import locate

    settings = _settings(arguments)
    name = settings.model
    if name is None:
        raise ConfigurationError("No model was named; run 'heretic plan MODEL'.")
    footprint = footprint_of(locate(name), settings)
    available = free_host_memory() + PROGRAM
    work = footprint.work
    form = work.dtype if work.quantization == "none" else f"{work.dtype}, {work.quantization}"
    printer.row(
        "Model", f"{name}: {large_count(footprint.parameters)} parameters, {size(footprint.stored)} in its files"
    )
    printer.row("Weights", f"{size(footprint.weights)} in {form}")
    printer.row("Memory", f"{size(max(available - PROGRAM, 0))} free on this machine's host")
    parts = {
        "keys and values": footprint.keys_and_values,
        "predictions of the original": footprint.predictions,
        "kept layers, at most": footprint.kept_layers,
        "ordering weights for the CPU": footprint.ordered,
        "copies of editable weights": footprint.cache,
    }
    printer.row("Beside them", "; ".join(f"{what} {size(count)}" for what, count in parts.items() if count))
    for need in needs(footprint, available):
        smaller = "" if need.step == "loading" else ", so batches will be halved"
        remark = "" if need.bytes <= available else f"; more than there is{smaller}"
        left_out = f"; without {need.without}" if need.without else ""
        printer.row(
            need.step.capitalize(), f"about {size(need.bytes)}, {_times(need.bytes, footprint)}{remark}{left_out}"
        )
    if arguments.gpus is not None:
        from heretic.workers.placement import Room, gpus_text, read_sizes

        sizes = read_sizes(arguments.gpus)
        printer.row(
            "Workers", f"about {size(footprint.worker)} each; {gpus_text(sizes)}: {Room.on(footprint.worker, sizes)}"
        )
    if footprint.least <= available:
        printer.line("It fits. On an accelerator the weights are there instead; its memory was not looked at.")
        return 0
    lack = size(footprint.least - available)
    printer.line(f"It does not fit into this machine's memory: {lack} are missing. {_next_step(footprint, available)}")
    return HereticError.exit_code


def _times(count: int, footprint: "Footprint") -> str:
    return f"{count / max(footprint.weights, 1):.1f} x the weights"


def _next_step(footprint: "Footprint", available: int) -> str:
    """What to do where a model does not fit."""
    from dataclasses import replace

    smaller = {
        """Use --dtypes '["bfloat16"]'.""": replace(footprint.work, dtype="bfloat16"),
        "Use --quantization bnb_8bit.": replace(footprint.work, quantization="bnb_8bit"),
        "Use --quantization bnb_4bit.": replace(footprint.work, quantization="bnb_4bit"),
    }
    for advice, work in smaller.items():
        other = replace(footprint, work=work)
        if other.weights < footprint.weights and other.least <= available:
            saving = "" if work.quantization == "none" else " What is saved still needs room for the whole model."
            return advice + saving
    return "End other programs, take a machine with more memory, or name a smaller model."


def _settings(arguments: PlanArguments) -> "Settings":
    """The settings of a run with these arguments.

    Raises:
        ConfigurationError: A value cannot be used.
    """
    from heretic.config.load import load_settings

    given = {
        "--model": arguments.model or arguments.name,
        "--dtypes": arguments.dtypes,
        "--quantization": arguments.quantization,
        "--kl-mode": arguments.kl_mode,
        "--engine": arguments.engine,
        "--config": arguments.config,
    }
    argv = [part for flag, value in given.items() if value is not None for part in (flag, value)]
    return load_settings(argv, os.environ, Path.cwd()).settings


COMMAND = Command(
    "plan",
    PlanArguments,
    run,
    summary="Say before loading whether a model fits into memory.",
    description="""\
Say how much memory a run would take on this machine's processor, step by step,
beside what is free (limits of containers and of the shell included). Only the
headers of the weights are read, of a repository on the hub its index: nothing
is downloaded or loaded. What a run only does to be faster is left out where
memory is short, as the run does.
""",
    examples={
        "demo": "The bundled toy model.",
        "--model owner/name --quantization bnb_4bit": "A model of the hub, packed into 4 bits.",
        "--model owner/name --gpus 4x24GB": "How many workers four GPUs have room for.",
    },
    exit_codes="0 it fits, 1 it does not, 2 something given cannot be used, 130 interrupted.",
)

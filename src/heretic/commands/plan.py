"""``heretic plan``: what a run would take of this machine's memory, before anything is loaded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional, price
from heretic.common.errors import ConfigurationError, HereticError

if TYPE_CHECKING:
    from heretic.config import Settings
    from heretic.interface.printer import Printer
    from heretic.models.cost import Device
    from heretic.models.footprint import Footprint


@dataclass(frozen=True, slots=True)
class PlanArguments:
    """What is asked for."""

    model: str | None = option("MODEL", "The model, as in a run.")
    dtypes: str | None = option("JSON", "Number formats, as in a run.")
    quantization: str | None = option("FORM", "none, bnb_8bit or bnb_4bit, as in a run.")
    kl_mode: str | None = option("MODE", "first or sequence, as in a run.")
    engine: str | None = option("ENGINE", "auto or inplace, as in a run.")
    n_trials: str | None = option("N", "Trials of the search, as in a run.")
    gpus: str | None = option("GPUS", "GPUs to look at, by memory or kind: 4x24GB, 80GB,48GB or 2xH100.")
    price_per_hour: float | None = option("DOLLARS", "What the GPUs cost together, for an estimate.", read=price)
    config: str | None = option("PATH", "Configuration file. [config.toml where there is one]")
    name: str | None = positional("[MODEL]")

    def __post_init__(self) -> None:
        if self.model is not None and self.name is not None:
            raise ConfigurationError(f"--model and {self.name} both name the model; leave one of them out.")
        if self.price_per_hour is not None and self.gpus is None:
            raise ConfigurationError(
                "--price-per-hour is the price of GPUs; name their kind as well, e.g. --gpus H100."
            )


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
        _say_workers(arguments.gpus, arguments.price_per_hour, footprint, settings, printer)
    if footprint.least <= available:
        printer.line("It fits. On an accelerator the weights are there instead; its memory was not looked at.")
        return 0
    lack = size(footprint.least - available)
    printer.line(f"It does not fit into this machine's memory: {lack} are missing. {_next_step(footprint, available)}")
    return HereticError.exit_code


def _say_workers(
    gpus: str, hourly: float | None, footprint: "Footprint", settings: "Settings", printer: "Printer"
) -> None:
    """How many workers there is room for, and, of GPUs whose kind is named, how long these would search."""
    from heretic.interface.formatting import size
    from heretic.workers.placement import Room, gpus_text, read_gpus

    devices = read_gpus(gpus)
    sizes = [int(device.memory) for device in devices]
    room = Room.on(footprint.worker, sizes)
    printer.row("Workers", f"about {size(footprint.worker)} each; {gpus_text(sizes)}: {room}")
    if not room.workers:
        return
    if all(device.name for device in devices):
        workers = min(room.workers, len(devices)) if room.together else room.workers
        printer.row("Time", _time(devices, workers, room.whole, hourly, footprint, settings))
    elif hourly is not None:
        raise ConfigurationError(
            "How long GPUs take is not known by their memory: for an estimate of the money name their kind, e.g. "
            "--gpus 2xH100."
        )


def _time(
    devices: "Sequence[Device]",
    workers: int,
    whole: int,
    hourly: float | None,
    footprint: "Footprint",
    settings: "Settings",
) -> str:
    """How long the search takes by the cost model, and what that costs.

    Args:
        devices: All GPUs, of kinds that are known.
        workers: How many share the trials.
        whole: GPUs that each of them takes.
        hourly: Dollars.
        footprint: The model's.
        settings: The run's.
    """
    from dataclasses import replace

    from heretic.interface.formatting import dollars, duration
    from heretic.models.cost import Shape, TrialWork, candidates_that_fit, trial_cost

    try:
        shape = Shape.of(footprint.configuration)
    except KeyError as error:
        return f"not estimated: config.json does not say {error.args[0]}"
    usual = TrialWork()
    work = replace(
        usual,
        compared=footprint.work.prompts,
        positions=footprint.work.positions,
        answered=settings.bad_evaluation_prompts.count or usual.answered,
        answer_tokens=settings.refusal_check_tokens,
        candidates=settings.candidates or usual.candidates,
    )
    # The slowest, which the others may have to wait for at the end; layers on several GPUs work one after another.
    costs = []
    for device in set(devices):
        at_once = max(candidates_that_fit(shape, device.memory * whole, footprint.weights, work), 1)
        costs.append((trial_cost(shape, device, replace(work, candidates=at_once)).seconds, at_once))
    each, at_once = max(costs)
    seconds = settings.n_trials * each / workers
    money = "" if hourly is None else f", {dollars(seconds / 3600 * hourly)}"
    shared = "" if workers == 1 else f" shared by {workers} workers"
    return (
        f"about {duration(seconds)}{money} for {settings.n_trials} trials{shared}, {at_once} at once: an estimate from "
        "data sheets, of the search alone, without loading, refinement and checks"
    )


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
        "--n-trials": arguments.n_trials,
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
        "--model owner/name --gpus 2xH100 --price-per-hour 5": "Also about how long they take, and what for.",
    },
    exit_codes="0 it fits, 1 it does not, 2 something given cannot be used, 130 interrupted.",
)

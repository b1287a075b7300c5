"""The command line of ``heretic directions``; imports nothing heavy, so that help and typos are answered at once."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import NoReturn

from heretic.common.errors import ConfigurationError

HELP = """\
Usage: heretic directions FILE [FILE ...] [options]

Show what direction files hold (heretic MODEL --save-directions FILE writes
them), compare them, plot them, and add them up. No model is needed.

For every layer a table shows how well the direction separates the prompts that
it was found with, its cosine with the direction of the layer below, and its
cosine with the directions of every further file. An asterisk marks the layers
that separate best.

Examples:
  heretic directions refusal.safetensors
      Show one file.
  heretic directions a.safetensors b.safetensors --plots plots
      Compare two files, and draw the curves and projections as PNG files.
  heretic directions a.safetensors b.safetensors --output sum.safetensors
      Write the sum: what the directions of both span. Use it on the same model
      with heretic MODEL --load-directions sum.safetensors.

Options
  --plots FOLDER
      Write curves.png, and projections.png where a file holds the projections
      of its prompts, to this folder; it is made where there is none.
  --output FILE
      Write the sum of the files: at every layer, all their directions, made
      orthogonal to each other in the given order. Removing the sum removes
      what any of them finds.
  --weights A,B,...
      Strength of each file in the sum relative to the others, e.g. 1,0.5; a
      negative one strengthens that behaviour. [1 for each]
  -h, --help
      Print this help.

Exit codes: 0 done, 1 failed, 2 something given cannot be used, 130 interrupted.
"""

_SEE_HELP = "run 'heretic directions --help' to see how it is used."
_OPTIONS = ("--plots", "--output", "--weights", "--help")


@dataclass(frozen=True, slots=True)
class DirectionArguments:
    """What is asked for.

    Attributes:
        files: Paths of direction files, at least one unless help is asked for.
        plots: Folder for plots, or None.
        output: File for the sum, or None.
        weights: One for each file, or none.
        help: Only print the help.
    """

    files: tuple[str, ...]
    plots: str | None = None
    output: str | None = None
    weights: tuple[float, ...] = ()
    help: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Give what argparse has to say as a sentence of ours."""
        raise ConfigurationError(f"{message[:1].upper()}{message[1:].rstrip('.')}; {_SEE_HELP}")


def read_direction_arguments(argv: Sequence[str]) -> DirectionArguments:
    """Read the arguments after ``heretic directions``.

    Raises:
        ConfigurationError: They cannot be used; one sentence.
    """
    parser = _Parser(prog="heretic directions", add_help=False, allow_abbrev=False)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--plots")
    parser.add_argument("--output")
    parser.add_argument("--weights")
    parser.add_argument("-h", "--help", action="store_true")
    # A list of numbers may begin with a minus, which argparse would take for an option.
    known, unknown = parser.parse_known_intermixed_args(_with_joined_weights(argv))
    if known.help:
        return DirectionArguments((), help=True)
    if unknown:
        flag = unknown[0].partition("=")[0]
        nearest = get_close_matches(flag, _OPTIONS, n=1)
        raise ConfigurationError(f"Unknown option {flag}; {f'did you mean {nearest[0]}?' if nearest else _SEE_HELP}")
    if not known.files:
        raise ConfigurationError(f"No direction file was named; {_SEE_HELP}")
    for name in ("plots", "output"):
        if getattr(known, name) is not None and not getattr(known, name).strip():
            raise ConfigurationError(f"--{name} must be a path that is not empty; {_SEE_HELP}")
    if known.output is not None and len(known.files) < 2:
        raise ConfigurationError("--output writes the sum of several files, but only one was named; name another one.")
    if known.weights is not None and known.output is None:
        raise ConfigurationError("--weights weighs the files in their sum, so it needs --output FILE.")
    weights = () if known.weights is None else _numbers(known.weights, len(known.files))
    return DirectionArguments(tuple(known.files), known.plots, known.output, weights)


def _with_joined_weights(argv: Sequence[str]) -> list[str]:
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--weights":
            joined[-1] = f"--weights={argument}"
        else:
            joined.append(argument)
    return joined


def _numbers(text: str, count: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigurationError(
            f"--weights must be numbers with commas between, e.g. 1,0.5, but is {text}."
        ) from error
    if any(number == 0 or not isfinite(number) for number in numbers):
        raise ConfigurationError(f"--weights must be numbers other than 0, but is {text}.")
    if len(numbers) != count:
        raise ConfigurationError(f"--weights has {len(numbers)} numbers for {count} files; give one for each.")
    return numbers

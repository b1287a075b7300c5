"""``heretic behaviors``: which behaviours there are, and whether their packs can be used."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional
from heretic.common.errors import ConfigurationError, UserError
from heretic.common.file_names import expanded
from heretic.prompts.own_packs import copy_pack, new_pack
from heretic.prompts.packs import PACK_FILE, ROLES, Pack, bundled_behaviors, find_pack

if TYPE_CHECKING:
    from heretic.evaluation.pack_check import PackState
    from heretic.interface.printer import Printer

_INDENT = 4
TRICK = (
    "Its training prompts ask for the behaviour on the target side and for the opposite on the other, in words that "
    "vary; its evaluation prompts ask plain questions, in which a model shows it by itself. Keep that: with an "
    "instruction there as well, following instructions would be measured."
)
"""What the bundled packs do, for whoever writes another."""


@dataclass(frozen=True, slots=True)
class BehaviorArguments:
    """What is asked for."""

    packs: tuple[str, ...] = positional("[PACK ...]")
    model: str | None = option(
        "MODEL",
        "Show in a minute what this model answers to both sides of the one pack that is named, and what counts in it.",
    )
    new: str | None = option(
        "FOLDER", "Write a pack with comments there that works as it is; the folder must not exist."
    )
    copy: str | None = option(
        "FOLDER",
        "Where to copy the one pack that is named; the folder must not exist. Bundled prompts are copied with it, and "
        "patterns to a file of their own. The copy of refusal is its pack.toml alone, which names prompts on the hub.",
    )

    def __post_init__(self) -> None:
        if self.copy is not None and len(self.packs) != 1:
            raise ConfigurationError(f"--copy copies one pack, but {len(self.packs)} are named; name one.")
        if self.model is not None and len(self.packs) != 1:
            raise ConfigurationError(f"--model looks at one pack, but {len(self.packs)} are named; name one.")
        if self.new is not None and (self.packs or self.copy is not None or self.model is not None):
            raise ConfigurationError(
                "--new stands alone; leave out the rest, or use --copy to begin with another pack."
            )
        if self.copy is not None and self.model is not None:
            raise ConfigurationError("--copy and --model do different things; leave one of them out.")


def run(arguments: BehaviorArguments, printer: "Printer") -> int:
    """Write or copy a pack, or list packs with what is wrong with them, and look at one; returns the exit code.

    Raises:
        UserError: The pack cannot be written, or the model cannot be used.
    """
    if arguments.new is not None:
        new_pack(expanded(arguments.new))
        file = Path(arguments.new) / PACK_FILE
        printer.line(f"Written: a pack that works as it is. {file} says what each part is for.")
        printer.line(f"Look at it with a model: heretic behaviors {arguments.new} --model MODEL")
        return 0
    if arguments.copy is not None:
        whole = copy_pack(arguments.packs[0], expanded(arguments.copy))
        file = Path(arguments.copy) / PACK_FILE
        what = f"{file} and the prompts beside it" if whole else f"{file}, which names prompts on the hub"
        printer.line(f"Copied. Change {what}, then: heretic MODEL --behavior {file}")
        if whole:
            printer.text(TRICK)
        return 0
    checked = [_checked(name, printer) for name in arguments.packs or tuple(bundled_behaviors())]
    if not all(checked):
        return ConfigurationError.exit_code
    if arguments.model is not None:
        _look(arguments.model, arguments.packs[0], printer)
    return 0


def _checked(name: str, printer: "Printer") -> bool:
    """Print a pack with all that is wrong with it; whether it can be used."""
    from heretic.evaluation.pack_check import check_pack

    try:
        pack = find_pack(name)
    except UserError as error:
        printer.line(name)
        for problem in str(error).splitlines():
            printer.text(f"PROBLEM: {problem}", _INDENT)
        return False
    state = check_pack(pack)
    printer.line(name if name == pack.name else f"{name} ({pack.name})")
    for text in pack_texts(pack, state):
        printer.text(text, _INDENT)
    return not state.problems


def _look(model: str, name: str, printer: "Printer") -> None:
    """Look at a pack with a model; other settings are those of a run in this folder."""
    from heretic.config.load import load_settings
    from heretic.interface.look_lines import print_look
    from heretic.observability.libraries import captured_libraries
    from heretic.run.looking import look

    settings = load_settings(["--model", model, "--behavior", name], os.environ, Path.cwd()).settings
    pack = find_pack(name)
    with captured_libraries(settings.log_level), printer.steps():
        seen = look(settings, pack)
    print_look(seen, pack.name, model, name, printer)


def pack_texts(pack: Pack, state: "PackState") -> list[str]:
    """What is shown of a pack below its name; pure."""
    others = f", or with --measure-with {' | '.join(state.alternatives)}" if state.alternatives else ""
    texts = [pack.description, f"measured by {pack.evaluator}{others}", counts_text(pack, state)]
    for kept, counts in zip(pack.keep, state.kept, strict=True):
        texts.append(f"keeps {kept.name}, by {kept.evaluator}: {_added(counts)} prompts. {kept.description}")
    texts += [f"PROBLEM: {problem}" for problem in state.problems]
    return [*texts, *(f"NOTE: {remark}" for remark in state.remarks)]


def counts_text(pack: Pack, state: "PackState") -> str:
    """How many prompts there are: ``80 + 40 + 40 pairs (training, search, held out)``."""
    bad, good = ([state.counts[role] for role in ROLES if role.startswith(side)] for side in ("bad_", "good_"))
    if all(count is None for count in bad):
        return f"prompts from {pack.prompts['bad_prompts'].dataset}, not read"
    as_many = bad == good and None not in bad
    noun = "pairs" if state.paired else "prompts of each kind" if as_many else "prompts that show it"
    return f"{_added(bad)} {noun} (training, search, held out)"


def _added(counts: Sequence[int | None]) -> str:
    return " + ".join("?" if count is None else str(count) for count in counts)


COMMAND = Command(
    "behaviors",
    BehaviorArguments,
    run,
    summary="List, check, try and write what --behavior can name.",
    description="""\
List the behaviours that --behavior can name, and check their packs: that
every part can be read, that no prompt stands in two parts, that the training
prompts of both sides differ, and that the evaluator can be used with the
pack's patterns or hypotheses. What is on the hub is not read. All mistakes of
all packs are named; a NOTE says what can be used but will hardly show what one
is after.
""",
    examples={
        "": "All bundled packs.",
        "verbosity mine/pack.toml": "These packs.",
        "--new mine": "A pack of your own to begin with, with comments.",
        "mine --model owner/name": "What the model answers to it, and what counts in that.",
        "verbosity --copy mine": "Copy a bundled pack to a new folder, to write your own from it, and use it with "
        "heretic MODEL --behavior mine/pack.toml.",
    },
    exit_codes="0 all can be used, 1 failed, 2 a pack cannot be used, 130 interrupted.",
)

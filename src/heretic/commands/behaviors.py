"""``heretic behaviors``: which behaviours there are, and whether their packs can be used."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heretic.commands.base import Command, option, positional
from heretic.common.errors import ConfigurationError, UserError
from heretic.common.file_names import expanded
from heretic.prompts.packs import (
    PACK_FILE,
    ROLES,
    Pack,
    bundled_behaviors,
    bundled_prompts,
    pack_file,
    read_pack,
    without_prompts_table,
)

if TYPE_CHECKING:
    from heretic.evaluation.pack_check import PackState
    from heretic.interface.printer import Printer

_INDENT = 4


@dataclass(frozen=True, slots=True)
class BehaviorArguments:
    """What is asked for."""

    packs: tuple[str, ...] = positional("[PACK ...]")
    copy: str | None = option(
        "FOLDER",
        "Where to copy the one pack that is named; the folder must not exist. Bundled prompts are copied with it. "
        "The copy of refusal is its pack.toml alone, which names prompts on the hub.",
    )

    def __post_init__(self) -> None:
        if self.copy is not None and len(self.packs) != 1:
            raise ConfigurationError(f"--copy copies one pack, but {len(self.packs)} are named; name one.")


def run(arguments: BehaviorArguments, printer: "Printer") -> int:
    """Copy a pack, or list packs with what is wrong with them; returns the exit code.

    Raises:
        ConfigurationError: A pack is not there or cannot be read.
        UserError: The pack cannot be copied.
    """
    if arguments.copy is not None:
        whole = copy_pack(arguments.packs[0], expanded(arguments.copy))
        file = Path(arguments.copy) / PACK_FILE
        what = f"{file} and the prompts beside it" if whole else f"{file}, which names prompts on the hub"
        printer.line(f"Copied. Change {what}, then: heretic MODEL --behavior {file}")
        return 0
    from heretic.evaluation.pack_check import check_pack

    good = True
    for name in arguments.packs or tuple(bundled_behaviors()):
        pack = named_pack(name)
        state = check_pack(pack)
        good = good and not state.problems
        printer.line(name if name == pack.name else f"{name} ({pack.name})")
        for text in pack_texts(pack, state):
            printer.text(text, _INDENT)
    return 0 if good else ConfigurationError.exit_code


def named_pack(name: str) -> Pack:
    """The pack that the command line names.

    Raises:
        ConfigurationError: There is none, or its file cannot be used.
    """
    file = pack_file(name)
    if file is None:
        raise ConfigurationError(
            f"There is no pack {name}; name one of {', '.join(bundled_behaviors())}, or a TOML file or a folder with "
            f"a {PACK_FILE} that exists."
        )
    return read_pack(file)


def pack_texts(pack: Pack, state: "PackState") -> list[str]:
    """What is shown of a pack below its name; pure."""
    others = f", or with --measure-with {' | '.join(state.alternatives)}" if state.alternatives else ""
    texts = [pack.description, f"measured by {pack.evaluator}{others}", counts_text(pack, state)]
    return [*texts, *(f"PROBLEM: {problem}" for problem in state.problems)]


def counts_text(pack: Pack, state: "PackState") -> str:
    """How many prompts there are: ``80 + 40 + 40 pairs (training, search, held out)``."""
    bad, good = ([state.counts[role] for role in ROLES if role.startswith(side)] for side in ("bad_", "good_"))
    if all(count is None for count in bad):
        return f"prompts from {pack.prompts['bad_prompts'].dataset}, not read"
    as_many = bad == good and None not in bad
    noun = "pairs" if state.paired else "prompts of each kind" if as_many else "prompts that show it"
    return f"{' + '.join('?' if count is None else str(count) for count in bad)} {noun} (training, search, held out)"


def copy_pack(name: str, target: Path) -> bool:
    """Copy a bundled pack and, where they are bundled too, its prompts to files beside it.

    Returns:
        Whether the prompts were copied; else the copy names the same ones on a hub.

    Raises:
        ConfigurationError: There is no bundled pack of that name.
        UserError: The folder exists, or cannot be written.
    """
    bundled = bundled_behaviors()
    if name not in bundled:
        raise ConfigurationError(f"{name} is no bundled pack; copy one of {', '.join(bundled)}.")
    text = bundled[name].read_text(encoding="utf-8")
    prompts = bundled_prompts(read_pack(bundled[name]))
    try:
        target.mkdir(parents=True)
        (target / PACK_FILE).write_text(without_prompts_table(text) if prompts else text, encoding="utf-8")
        for place, source in prompts.items():
            (target / place).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, target / place)
    except FileExistsError as error:
        raise UserError(f"{target} exists already; name a new folder with --copy.") from error
    except OSError as error:
        raise UserError(f"{target} cannot be written ({error.strerror}); name another folder with --copy.") from error
    return bool(prompts)


COMMAND = Command(
    "behaviors",
    BehaviorArguments,
    run,
    summary="List and check what --behavior can name.",
    description="""\
List the behaviours that --behavior can name, and check their packs: that
every part can be read, that no prompt stands in two parts, that the training
prompts of both sides differ, and that the evaluator can be used with the
pack's patterns or hypotheses. What is on the hub is not read.
""",
    examples={
        "": "All bundled packs.",
        "verbosity mine/pack.toml": "These packs.",
        "verbosity --copy mine": "Copy a bundled pack to a new folder, to write your own from it, and use it with "
        "heretic MODEL --behavior mine/pack.toml.",
    },
    exit_codes="0 all can be used, 1 failed, 2 a pack cannot be used, 130 interrupted.",
)

"""``heretic behaviors``: which behaviours there are, and whether their packs can be used."""

import shutil
from pathlib import Path

from rich.console import Console

from heretic.commands.behavior_arguments import BehaviorArguments
from heretic.common.errors import ConfigurationError, UserError
from heretic.common.file_names import expanded
from heretic.evaluation.pack_check import PackState, check_pack
from heretic.interface.formatting import clean_line, hang
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

_INDENT = 4


def run_behaviors(arguments: BehaviorArguments) -> int:
    """Copy a pack, or list packs with what is wrong with them; returns the exit code.

    Raises:
        ConfigurationError: A pack is not there or cannot be read.
        UserError: The pack cannot be copied.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if arguments.copy is not None:
        whole = copy_pack(arguments.packs[0], expanded(arguments.copy))
        file = clean_line(str(Path(arguments.copy) / PACK_FILE))
        what = f"{file} and the prompts beside it" if whole else f"{file}, which names prompts on the hub"
        console.print(f"Copied. Change {what}, then: heretic MODEL --direction {file}")
        return 0
    good = True
    for name in arguments.packs or tuple(bundled_behaviors()):
        pack = named_pack(name)
        state = check_pack(pack)
        good = good and not state.problems
        width = min(console.width, 100) if console.is_terminal else None
        for line in pack_lines(name, pack, state, width):
            console.print(line)
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


def pack_lines(name: str, pack: Pack, state: PackState, width: int | None) -> list[str]:
    """A pack in a few lines; pure."""
    lines = [clean_line(name if name == pack.name else f"{name} ({pack.name})")]
    others = ", or with --measure-with classifier | judge" if pack.options.hypotheses else ""
    measured = f"measured by {clean_line(pack.evaluator)}{others}"
    texts = [clean_line(pack.description), measured, counts_text(pack, state)]
    texts += [f"PROBLEM: {clean_line(problem)}" for problem in state.problems]
    for text in texts:
        lines += hang("", text, _INDENT, width)
    return lines


def counts_text(pack: Pack, state: PackState) -> str:
    """How many prompts there are: ``80 + 40 + 40 pairs (training, search, held out)``."""
    bad, good = ([state.counts[role] for role in ROLES if role.startswith(side)] for side in ("bad_", "good_"))
    if all(count is None for count in bad):
        return f"prompts from {clean_line(pack.prompts['bad_prompts'].dataset)}, not read"
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

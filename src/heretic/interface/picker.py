"""The questions a person answers at the end of a search: which trial, what to do with it, where to save it.

Pure functions (`trial_rows`, `check_*`) make what is listed; the rest hands it to `asking.py`.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import questionary
from questionary import Choice, Separator

from heretic.common.errors import SelectionError, StudyError, UserError
from heretic.common.file_names import expanded
from heretic.export.atomic import check_target
from heretic.export.content import ExportFormat
from heretic.interface.asking import STYLE, ask, require_terminal, select, type_text
from heretic.interface.formatting import clean_line, hang, laid_out
from heretic.prompts.packs import bundled_behaviors, pack_file
from heretic.results import tables
from heretic.results.held_out import HeldOut
from heretic.results.pairs import EXPLAINED, not_told_apart
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord
from heretic.results.words import joined, measured, plural, title
from heretic.search.claim import DamagedStudyError, set_aside_name

_BACK_HINT = "(arrows, Enter; Esc: back)"
_QUIT_HINT = "(arrows, Enter; Esc: quit)"


@dataclass(frozen=True, slots=True)
class MoreTrials:
    """The person wants `count` further trials before choosing."""

    count: int


@dataclass(frozen=True, slots=True)
class ConfirmFront:
    """The person wants to see what held-out prompts say of the front."""


@dataclass(frozen=True, slots=True)
class Quit:
    """The person is done."""


@dataclass(frozen=True, slots=True)
class Browse:
    """The person wants to talk to the trials in the browser."""


class Action(str, Enum):
    """What can be done with a chosen trial."""

    SAVE = "save"
    UPLOAD = "upload"
    CHAT = "chat"
    BENCHMARK = "benchmark"
    BACK = "back"
    QUIT = "quit"


# Pure parts -----------------------------------------------------------------------------------------------------------


def trial_rows(
    front: Sequence[TrialRecord],
    suggested: TrialRecord | None,
    confirmed: Mapping[int, HeldOut | Scores] | None = None,
    saved: Collection[int] = (),
) -> tuple[str, list[str]]:
    """Headings and one row per trial, in aligned columns, in the order given; held-out values beside the search's."""
    table = tables.trials(front, held_out=confirmed).without(*tables.SPREAD)
    heading, *rows = laid_out(table)
    same = () if suggested is None else not_told_apart(front, suggested)
    marks = [
        f"{'   suggested' if record == suggested else '   not told apart' if record in same else ''}"
        f"{'   saved' if record.number in saved else ''}"
        for record in front
    ]
    return heading, [f"{row}{mark}" for row, mark in zip(rows, marks, strict=True)]


def changes_something(record: TrialRecord) -> bool:
    """Whether an edit leaves less of a behaviour than the original model shows."""
    return any(score.share < 1 for score in record.behaviors)


def legend(front: Sequence[TrialRecord], suggested: TrialRecord | None, left_out: int) -> list[str]:
    """What the columns mean, which way is better, and how many edits are left out since they do nothing."""
    first, *others = front[0].behaviors
    alone = f"{measured(first)}: what is left, where the original shows {first.amount(first.baseline)}; less is better"
    lines = [
        "first columns: what is left of each behaviour; less is better" if others else alone,
        *(f"{measured(kept)}: answers that stayed as they have to; more is better" for kept in front[0].measured.kept),
        "KL: how much everything else changed, in nats, and its interval over prompts; less is better",
        "suggested: nearest to none of the behaviour and no change of anything else",
    ]
    if suggested is not None and not_told_apart(front, suggested):
        lines.append(f"not told apart: from trial {suggested.shown}; {EXPLAINED}")
    return [*lines, *([f"{plural(left_out, 'edit')} that changed nothing left out"] if left_out else [])]


def check_count(text: str) -> bool | str:
    """True for a positive whole number, else what to type."""
    stripped = text.strip()
    if stripped.isdecimal() and int(stripped) > 0:
        return True
    return "Type a whole number, 1 or more."


def check_model(text: str) -> bool | str:
    """True for any name, else what to type."""
    return bool(text.strip()) or "Type a model's name, a folder, or demo."


def check_pack_name(text: str) -> bool | str:
    """True for a pack that there is, else what to type."""
    return pack_file(text.strip()) is not None or "There is no such pack; type a name of these, or a pack's folder."


def check_save_path(text: str) -> bool | str:
    """True for a folder that can become a model's, else what is wrong with it."""
    if not text.strip():
        return "Type the folder to save to."
    try:
        check_target(save_path(text))
    except UserError as error:
        return clean_line(str(error))
    return True


def save_path(text: str) -> Path:
    """What was typed as a path, with ``~`` for the home folder."""
    return expanded(text.strip())


def check_repository(text: str) -> bool | str:
    """True for a name that the hub accepts, else what to type (in short: there is one line for it)."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not in __all__

    try:
        validate_repo_id(text.strip())
    except HFValidationError:
        return "Type user/name: letters, digits, '-', '_' and '.', at most 96 in all."
    return True


# Questions ------------------------------------------------------------------------------------------------------------


def ask_model() -> str | None:
    """Which model to edit; None where the person leaves.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("ask for the model", "Name it on the command line, e.g. heretic --model demo.")
    return type_text("Which model?", "", check_model, "(hub name or folder; demo is the bundled toy model)\n ")


def pick_trial(
    front: Sequence[TrialRecord],
    suggested: TrialRecord | None,
    finished: int,
    confirmed: Mapping[int, HeldOut | Scores] | None = None,
    saved: Collection[int] = (),
    confirmable: bool = False,
) -> TrialRecord | MoreTrials | ConfirmFront | Browse | Quit:
    """Let the person choose a trial of the Pareto front, run more trials, open the chat page, or quit.

    Args:
        front: The trials that no other beats in all numbers, in the order of the list.
        suggested: The trial that would be chosen automatically; marked, and where the pointer starts.
        finished: How many trials were run, for the heading.
        confirmed: What held-out prompts showed of trials, by number.
        saved: Numbers of those that were saved.
        confirmable: Whether held-out prompts can say more of the front.

    Raises:
        SelectionError: No terminal, or no trial.
    """
    if not front:
        raise SelectionError("No finished trial can be chosen: run more trials with a larger --n-trials.")
    require_terminal("choose a trial")
    every, front = front, [record for record in front if changes_something(record)] or front
    heading, rows = trial_rows(front, suggested, confirmed, saved)
    trials = [Choice(row, value=record.number) for row, record in zip(rows, front, strict=True)]
    choices = [
        Separator(heading),
        *trials,
        Separator(" "),
        *map(Separator, legend(front, suggested, len(every) - len(front))),
        Separator(" "),
        Choice("Run more trials", value="more"),
        *([Choice("Measure the front on held-out prompts", value="confirm")] if confirmable else []),
        Choice("Talk to them in the browser", value="browse"),
        Choice("Quit", value="quit"),
    ]
    by_number = {record.number: record for record in front}
    start = next((choice for choice in trials if suggested is not None and choice.value == suggested.number), trials[0])
    while True:
        answer = select(f"Which trial? {len(front)} best of {finished}", choices, _QUIT_HINT, start)
        if answer in by_number:
            return by_number[answer]
        if answer == "confirm":
            return ConfirmFront()
        if answer != "more":
            return Browse() if answer == "browse" else Quit()
        count = type_text("How many more trials?", "", check_count)
        if count is not None:
            return MoreTrials(int(count))


def pick_action(record: TrialRecord) -> Action:
    """What to do with the chosen trial; Esc and Ctrl+C mean back to the list.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("choose what to do")
    answer = select(
        f"{title(record)}:",
        [
            Choice("Save the model to a folder", value=Action.SAVE),
            Choice("Upload the model to the hub", value=Action.UPLOAD),
            Choice("Chat with the model", value=Action.CHAT),
            Choice("Measure what the model is able to do", value=Action.BENCHMARK),
            Choice("Back to the list of trials", value=Action.BACK),
            Choice("Quit", value=Action.QUIT),
        ],
        _BACK_HINT,
    )
    return answer if isinstance(answer, Action) else Action.BACK


def ask_benchmarks(default: Sequence[str] = ()) -> list[str] | None:
    """Tasks of the Language Model Evaluation Harness, none for multiple-choice questions. None means back.

    Args:
        default: What stands there to begin with.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("ask for benchmarks")
    question = "Benchmarks (tasks of lm_eval, by comma); empty for multiple-choice questions:"
    answer = type_text(question, ",".join(default), lambda _text: True)
    return None if answer is None else [name.strip() for name in answer.split(",") if name.strip()]


def ask_save_path(default: str | Path) -> Path | None:
    """Where to save; Tab completes folders. None means back.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("ask for the folder")
    answer = ask(
        questionary.path(
            "Save to which folder?", default=str(default), only_directories=True, validate=check_save_path, style=STYLE
        )
    )
    return None if answer is None else save_path(str(answer))


def ask_format(obstacle: str | None) -> ExportFormat | None:
    """Whole model or adapter; None means back.

    Args:
        obstacle: Why the edit cannot be written as an adapter, or None where it can.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("choose the format")
    answer = select(
        "Save as what?",
        [
            Choice("Whole model with the edit in its weights", value=ExportFormat.MERGED),
            Choice(
                "Adapter (PEFT), small; it needs the original model" if obstacle is None else "Adapter",
                value=ExportFormat.ADAPTER,
                disabled=None if obstacle is None else clean_line(obstacle),
            ),
        ],
        _BACK_HINT,
    )
    return answer if isinstance(answer, ExportFormat) else None


def ask_repository(default: str) -> tuple[str, bool] | None:
    """Hub repository and whether it is private; None means back.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("ask for the repository")
    name = type_text("Which repository on the hub?", default, check_repository, "(user/name)")
    if name is None:
        return None
    private = confirm("Keep it private?", True)
    return None if private is None else (name, private)


def confirm(question: str, default: bool) -> bool | None:
    """Yes, no, or None for back.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal("ask for a confirmation")
    answer = ask(questionary.confirm(question, default=default, style=STYLE))
    return None if answer is None else bool(answer)


def pick_study_conflict(name: str, reason: str, new_name: str) -> str | None:
    """What to do where a stored study does not fit this run: the name of a new study, or None to quit.

    Args:
        name: The stored study.
        reason: What differs, e.g. ``it was made with another model``.
        new_name: Of the new study.

    Raises:
        SelectionError: No terminal.
    """
    require_terminal(
        f"ask what to do about the study {name} ({reason})", f"Start a new one with --study-name {new_name}."
    )
    facts = f"The study {clean_line(name)} cannot go on: {clean_line(reason).rstrip('.')}."
    return new_name if _agrees(facts, f"Start a new study, {new_name}") else None


def pick_on_little(behaviors: Sequence[str]) -> str | None:
    """What to do where the original model hardly shows a behaviour: None to go on, or the name of another pack.

    Raises:
        SelectionError: The person stops.
    """
    choices = [
        Choice("Search all the same", value="on"),
        Choice("Take another pack, or my own prompts", value="other"),
        Choice("Stop", value="stop"),
    ]
    while True:
        answer = select(f"Hardly any {joined(behaviors)} to edit. What now?", choices, _QUIT_HINT)
        if answer == "on":
            return None
        if answer != "other":
            raise SelectionError(
                "Nothing was searched; 'heretic behaviors PACK --model MODEL' shows what a model answers to a pack, "
                "and 'heretic behaviors --new FOLDER' begins one."
            )
        hint = f"({', '.join(bundled_behaviors())}, or a pack's folder)\n "
        name = type_text("Which pack?", "", check_pack_name, hint)
        if name is not None:
            return name


def _agrees(facts: str, offer: str) -> bool:
    """Say what stands in the way, and whether the person takes up the offer instead of quitting."""
    print(*hang("", facts, 0, shutil.get_terminal_size().columns - 1), sep="\n")
    choices = [Choice(offer, value="yes"), Choice("Quit, and leave everything as it is", value="quit")]
    return bool(select("What now?", choices, _QUIT_HINT) == "yes")


def set_aside(damage: DamagedStudyError) -> bool:
    """Offer to keep a damaged study file under another name, so that a new study can take its place; whether it was.

    Raises:
        StudyError: It could not be renamed.
    """
    aside = damage.path.with_name(set_aside_name(damage.path))
    if not _agrees(clean_line(str(damage)), f"Keep the file as {aside.name}, and start a new study"):
        return False
    try:
        damage.path.rename(aside)
    except OSError as error:
        raise StudyError(
            f"{damage.path} could not be renamed ({error.strerror}); move it away or name another --storage."
        ) from error
    return True

"""The menus after a search: pick a trial, then save, upload or chat, and back to the list."""

import itertools
import os
from pathlib import PurePosixPath

from heretic.checks.capability import wants_validation
from heretic.common.errors import HereticError, SelectionError, TrialFailed
from heretic.common.file_names import safe_name
from heretic.export.content import ExportFormat
from heretic.export.hub import check_repository
from heretic.interface import picker
from heretic.interface.asking import forget_typed_ahead
from heretic.interface.chat import chat_loop
from heretic.interface.picker import Action, MoreTrials, Quit
from heretic.models.location import shown_model
from heretic.observability.events import Warned, emit
from heretic.results.trial import TrialRecord
from heretic.session import Session


def choose(session: Session) -> None:
    """Let a person pick trials until they quit.

    Raises:
        SelectionError: There is no terminal to ask in, or no finished trial.
    """
    forget_typed_ahead()
    while True:
        suggested = session.suggested if session.front else None
        answer = picker.pick_trial(session.front, suggested, session.result.complete, session.confirmed())
        if isinstance(answer, Quit):
            return
        if isinstance(answer, MoreTrials):
            session.search(answer.count)
            forget_typed_ahead()
            continue
        if not use_trial(session, answer):
            return


def use_trial(session: Session, record: TrialRecord) -> bool:
    """Apply one trial and do with it what the person asks for; False when they want to leave."""
    try:
        session.apply(record)
    except TrialFailed as error:
        # One trial that cannot be used is no reason to lose the list.
        emit(Warned(str(error)))
        return True
    try:
        check(session)
        while True:
            action = picker.pick_action(record)
            if action is Action.BACK:
                return True
            if action is Action.QUIT:
                return False
            try:
                ACTIONS[action](session)
            except SelectionError:
                raise
            except HereticError as error:
                # A full disk or a mistyped repository must not cost the person the applied trial.
                emit(Warned(str(error)))
            except KeyboardInterrupt:
                # As everywhere in the menus, Ctrl+C means back: a trial that took hours to find stays in reach.
                emit(Warned("Stopped with Ctrl+C; nothing was saved or uploaded."))
    finally:
        session.restore()


def check(session: Session) -> None:
    """Measure the trial on held-out prompts and, if asked for, what it is able to do; Ctrl+C goes on without."""
    try:
        session.confirm()
    except KeyboardInterrupt:
        emit(Warned("Stopped with Ctrl+C; the trial is not confirmed on held-out prompts."))
    if not wants_validation(session.bench.settings) or session.capability_measured:
        return
    try:
        session.validate()
    except KeyboardInterrupt:
        emit(Warned("Stopped with Ctrl+C; what the trial is able to do is not measured."))


def save(session: Session) -> None:
    """Ask for folder and format, and save."""
    folder = picker.ask_save_path(free_name(default_name(session)))
    if folder is None:
        return
    export_format = ask_format(session)
    if export_format is not None:
        session.save(folder, export_format)


def upload(session: Session) -> None:
    """Ask for repository and format, and upload."""
    repository = picker.ask_repository(session.bench.settings.hf_upload or default_name(session))
    if repository is None:
        return
    # A missing login is said before further questions.
    check_repository(repository[0])
    export_format = ask_format(session)
    if export_format is not None:
        session.publish(*repository, export_format)


def default_name(session: Session) -> str:
    """What an edited model is called unless the person types something else."""
    path = PurePosixPath(shown_model(session.bench.loaded.name))
    return f"{safe_name(path.stem if path.suffix.lower() == '.gguf' else path.name)}-heretic"


def free_name(name: str) -> str:
    """The name, with a number where a folder or file of that name is in use here."""
    candidates = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
    return next(candidate for candidate in candidates if not os.path.lexists(candidate))


def ask_format(session: Session) -> ExportFormat | None:
    """Whole model or adapter, with the reason where an adapter is impossible."""
    return picker.ask_format(session.adapter_obstacle())


def chat(session: Session) -> None:
    """Talk to the edited model."""
    system_prompt = session.bench.settings.system_prompt or None
    limits = session.bench.runner.formatter.limits
    chat_loop(session.stream, system_prompt, f"Trial {session.applied.record.shown}", limits)


def benchmark(session: Session) -> None:
    """Ask for benchmarks, and compare the trial with the original model."""
    names = picker.ask_benchmarks(session.bench.settings.benchmarks)
    if names is not None:
        session.validate(names)


ACTIONS = {Action.SAVE: save, Action.UPLOAD: upload, Action.CHAT: chat, Action.BENCHMARK: benchmark}

"""The menus after a search: pick a trial, then save, upload or chat, and back to the list."""

from pathlib import Path
from tempfile import TemporaryDirectory

from heretic.errors import HereticError, SelectionError
from heretic.export.content import ExportFormat
from heretic.interface import picker
from heretic.interface.chat import chat_loop
from heretic.interface.formatting import trial_number
from heretic.interface.picker import Action, MoreTrials, Quit
from heretic.observability.events import Warned, emit
from heretic.search.record import TrialRecord
from heretic.session import Session


def choose(session: Session) -> None:
    """Let a person pick trials until they quit.

    Raises:
        SelectionError: There is no terminal to ask in, or no finished trial.
    """
    while True:
        answer = picker.pick_trial(session.front, session.suggested if session.front else None, session.result.complete)
        if isinstance(answer, Quit):
            return
        if isinstance(answer, MoreTrials):
            session.search(answer.count)
            continue
        if not use_trial(session, answer):
            return


def use_trial(session: Session, record: TrialRecord) -> bool:
    """Apply one trial and do with it what the person asks for; False when they want to leave."""
    session.apply(record)
    try:
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
    finally:
        session.restore()


def save(session: Session) -> None:
    """Ask for folder and format, and save."""
    model = Path(session.bench.loaded.name.rstrip("/")).name.removesuffix(".gguf")
    folder = picker.ask_save_path(f"{model}-heretic")
    if folder is None:
        return
    export_format = ask_format(session)
    if export_format is not None:
        session.save(folder, export_format)


def upload(session: Session) -> None:
    """Ask for repository and format, save to a temporary folder, and upload that."""
    model = Path(session.bench.loaded.name.rstrip("/")).name.removesuffix(".gguf")
    repository = picker.ask_repository(session.bench.settings.hf_upload or f"{model}-heretic")
    if repository is None:
        return
    export_format = ask_format(session)
    if export_format is None:
        return
    with TemporaryDirectory(prefix="heretic-upload-") as scratch:
        folder = Path(scratch) / "model"
        session.save(folder, export_format)
        session.upload(folder, *repository)


def ask_format(session: Session) -> ExportFormat | None:
    """Whole model or adapter, with the reason where an adapter is impossible."""
    obstacle = session.adapter_obstacle()
    answer = picker.ask_format(obstacle is None, obstacle or "")
    return None if answer is None else ExportFormat(answer)


def chat(session: Session) -> None:
    """Talk to the edited model."""
    record, _ = session.applied
    chat_loop(session.stream, session.bench.settings.system_prompt or None, f"Trial {trial_number(record.number)}")


ACTIONS = {Action.SAVE: save, Action.UPLOAD: upload, Action.CHAT: chat}

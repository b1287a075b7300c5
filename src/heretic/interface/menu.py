"""The menus after a search: pick a trial, then save, upload or chat, and back to the list."""

from heretic.common.errors import HereticError, SelectionError, TrialFailed
from heretic.common.file_names import free_name
from heretic.export.content import ExportFormat
from heretic.export.hub import check_repository
from heretic.interface import picker
from heretic.interface.asking import forget_typed_ahead
from heretic.interface.chat import chat_loop
from heretic.interface.picker import Action, Browse, ConfirmFront, MoreTrials, Quit
from heretic.interface.printer import Printer
from heretic.models.location import edited_name
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
        answer = picker.pick_trial(
            session.front,
            suggested,
            session.result.complete,
            session.confirmed(),
            session.saved(),
            session.front_can_be_confirmed,
        )
        if isinstance(answer, Quit):
            return
        if isinstance(answer, MoreTrials):
            session.search(answer.count)
            forget_typed_ahead()
            continue
        if isinstance(answer, ConfirmFront):
            confirm_front(session)
            continue
        if isinstance(answer, Browse):
            browse(session)
            continue
        if not use_trial(session, answer):
            return


def confirm_front(session: Session) -> None:
    """Measure the front on held-out prompts; Ctrl+C comes back to the list."""
    try:
        session.confirm_front()
    except KeyboardInterrupt:
        emit(Warned("Stopped with Ctrl+C; the front is not measured on held-out prompts."))
    forget_typed_ahead()


def browse(session: Session) -> None:
    """Talk to the trials in the browser; Ctrl+C comes back to the list."""
    session.restore()
    # Gradio takes seconds, and may not be there.
    from heretic.interface.chat_page import talk_to_trials

    try:
        talk_to_trials(session, Printer())
    except HereticError as error:
        emit(Warned(str(error)))


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
    if not session.wants_validation:
        return
    try:
        session.validate()
    except KeyboardInterrupt:
        emit(Warned("Stopped with Ctrl+C; what the trial is able to do is not measured."))


def save(session: Session) -> None:
    """Ask for folder and format, and save."""
    folder = picker.ask_save_path(free_name(edited_name(session.bench.loaded.name)))
    if folder is None:
        return
    export_format = ask_format(session)
    if export_format is not None:
        session.save(folder, export_format)


def upload(session: Session) -> None:
    """Ask for repository and format, and upload."""
    repository = picker.ask_repository(session.bench.settings.hf_upload or edited_name(session.bench.loaded.name))
    if repository is None:
        return
    # A missing login is said before further questions.
    check_repository(repository[0])
    export_format = ask_format(session)
    if export_format is not None:
        session.publish(*repository, export_format)


def ask_format(session: Session) -> ExportFormat | None:
    """Whole model or adapter, with the reason where an adapter is impossible."""
    return picker.ask_format(session.adapter_obstacle())


def chat(session: Session) -> None:
    """Talk to the edited model."""
    system_prompt = session.bench.settings.system_prompt or None
    limits = session.bench.runner.formatter.limits
    title = f"Trial {session.applied.record.shown}"
    with session.talking() as talk:
        chat_loop(talk, system_prompt, title, limits, talk.obstacle)


def benchmark(session: Session) -> None:
    """Ask for benchmarks, and compare the trial with the original model."""
    names = picker.ask_benchmarks(session.bench.settings.benchmarks)
    if names is not None:
        session.validate(names)


ACTIONS = {Action.SAVE: save, Action.UPLOAD: upload, Action.CHAT: chat, Action.BENCHMARK: benchmark}

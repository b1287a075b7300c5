"""One run with a person (or nobody) in front of it: the console shows events, the menus ask."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from heretic import __version__
from heretic.common.errors import SearchOutOfMemoryError
from heretic.common.output import has_terminal, outlived
from heretic.config import LoadedSettings
from heretic.interface.console import ConsoleReporter
from heretic.interface.watching import watched
from heretic.observability.events import RunStarted, Warned, emit, subscribed
from heretic.observability.libraries import captured_libraries
from heretic.observability.steps import step

if TYPE_CHECKING:
    from heretic.run.study_name import ResolveConflict
    from heretic.session import Session
    from heretic.workflow import Choose


def run_in_terminal(
    loaded: LoadedSettings,
    choose_instead: "Choose | None" = None,
    resolve_instead: "ResolveConflict | None" = None,
    opens: bool = False,
) -> int:
    """Run the workflow; returns the exit code.

    Args:
        loaded: The settings.
        choose_instead: What is done with the trials, where no menu asks.
        resolve_instead: What is done about a study that cannot be continued, where no question asks.
        opens: Whether stored trials are chosen from, and nothing is searched.

    Raises:
        HereticError: See `heretic.workflow.run`.
    """
    settings = loaded.settings
    with (
        outlived(_say_silence),
        ConsoleReporter(settings.verbose, level=settings.log_level) as reporter,
        subscribed(reporter, steps=True),
    ):
        chooses = choose_instead or choose
        return watched(settings, lambda: _run(loaded, chooses, resolve_instead or resolve_conflict, opens))


def _say_silence(error: BaseException | None) -> None:
    emit(Warned(f"Standard output cannot be written any more ({error}); the run goes on without it."))


def _run(loaded: LoadedSettings, chooses: "Choose", resolves: "ResolveConflict", opens: bool) -> int:
    settings = loaded.settings
    configuration_file = None if loaded.configuration_file is None else str(loaded.configuration_file)
    emit(RunStarted(__version__, settings.model or "", configuration_file, loaded.profile, loaded.changed))
    # They take seconds, during which nobody must wait before a silent screen: hence what needs them is imported here.
    with step("loading torch and transformers"):
        import heretic.workflow
        from heretic.search.claim import DamagedStudyError
        from heretic.workflow import AnotherBehavior

        if not settings.auto_select and chooses is choose:
            import heretic.interface.menu  # noqa: F401 - for `choose`

    if chooses is choose and not (settings.auto_select or settings.evaluate_model or has_terminal()):
        emit(
            Warned(
                "There is no terminal to choose a trial in: the search runs and is kept, and the same command in a "
                "terminal, or with --auto-select true --auto-select-path DIR, chooses from it."
            )
        )
    # Not earlier: what libraries set up for their messages when they are imported would stay as it is.
    with captured_libraries(settings.log_level):
        while True:
            try:
                return _run_within_memory(loaded, chooses, resolves, opens)
            except DamagedStudyError as damage:
                from heretic.interface.picker import set_aside

                if not (has_terminal() and set_aside(damage)):
                    raise
            except AnotherBehavior as other:
                loaded = replace(loaded, settings=loaded.settings.model_copy(update={"behavior": [other.name]}))


def _run_within_memory(loaded: LoadedSettings, chooses: "Choose", resolves: "ResolveConflict", opens: bool) -> int:
    """Run the workflow; where memory runs out at a step that has no smaller form, that is no mistake of ours.

    Raises:
        SearchOutOfMemoryError: Memory ran out.
        HereticError: See `heretic.workflow.run`.
    """
    import torch

    from heretic.models.memory import RanOut, attempt
    from heretic.workflow import go_on, run

    decides = decide_on_little if chooses is choose else go_on
    result = attempt(lambda: run(loaded, chooses, resolves, decides, opens), torch.device("cpu"), "running")
    if not isinstance(result, RanOut):
        return result
    raise SearchOutOfMemoryError(
        f"Memory ran out ({result.used}); end other programs that use it, use --quantization bnb_4bit, or a larger "
        "device."
    )


def choose(session: "Session") -> None:
    """Let a person choose; whoever leaves that to the program waits for no menu to be imported."""
    from heretic.interface import menu

    menu.choose(session)


def resolve_conflict(name: str, reason: str, own: str) -> str | None:
    """Ask what to do about a study that cannot be continued; the new one where nobody can answer."""
    from heretic.interface.picker import pick_study_conflict
    from heretic.run.study_name import without_asking

    return pick_study_conflict(name, reason, own) if has_terminal() else without_asking(name, reason, own)


def decide_on_little(behaviors: Sequence[str]) -> None:
    """Ask whether to search for what the original model hardly shows; goes on where nobody can answer.

    Raises:
        AnotherBehavior: The person names another pack.
        SelectionError: They stop.
    """
    if not has_terminal():
        return
    from heretic.interface.asking import forget_typed_ahead
    from heretic.interface.picker import pick_on_little
    from heretic.workflow import AnotherBehavior

    forget_typed_ahead()
    other = pick_on_little(behaviors)
    if other is not None:
        raise AnotherBehavior(other)

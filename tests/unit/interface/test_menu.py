"""The menus around a session: what is called, and that nothing that goes wrong costs the person the list."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.interface.test_picker import MIDDLE

from heretic.common.errors import ExportError, TrialFailed, UserError
from heretic.export.content import ExportFormat
from heretic.interface import menu, picker
from heretic.interface.picker import Action, Browse, ConfirmFront, MoreTrials, Quit
from heretic.observability.events import Event, Warned, subscribed


class FakeSession:
    """Remembers what it was asked to do; `fails` maps a method to what it raises."""

    def __init__(self, model: str = "owner/model") -> None:
        settings = SimpleNamespace(hf_upload=None, system_prompt="", benchmarks=[])
        self.bench = SimpleNamespace(loaded=SimpleNamespace(name=model), settings=settings)
        self.front, self.suggested, self.result = [MIDDLE], MIDDLE, SimpleNamespace(complete=1)
        self.wants_validation = self.front_can_be_confirmed = False
        self.calls: list[tuple[Any, ...]] = []
        self.fails: dict[str, BaseException] = {}

    def confirmed(self) -> dict[int, Any]:
        return {MIDDLE.number: "held out"}

    def saved(self) -> dict[int, Any]:
        return {MIDDLE.number: ("out",)}

    def __getattr__(self, name: str) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            self.calls.append((name, *arguments))
            if name in self.fails:
                raise self.fails[name]

        return call


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, list[Any]]:
    """Answers to give, by the picker's function."""
    monkeypatch.chdir(tmp_path)
    given: dict[str, list[Any]] = {}
    for name in ("pick_trial", "pick_action", "ask_save_path", "ask_format", "ask_repository"):
        given[name] = []
        monkeypatch.setattr(picker, name, lambda *_, queue=given[name]: queue.pop(0))
    return given


def warnings_of(session: FakeSession) -> list[str]:
    recorded: list[Event] = []
    with subscribed(recorded.append):
        menu.choose(session)  # type: ignore[arg-type]  # a stand-in
    return [event.message for event in recorded if isinstance(event, Warned)]


def test_more_trials_then_quit(session: FakeSession, answers: dict[str, list[Any]]) -> None:
    answers["pick_trial"] += [MoreTrials(3), Quit()]
    assert warnings_of(session) == []
    assert session.calls == [("search", 3)]


def test_the_front_is_measured_on_held_out_prompts_and_the_list_comes_back(
    session: FakeSession, answers: dict[str, list[Any]]
) -> None:
    answers["pick_trial"] += [ConfirmFront(), ConfirmFront(), Quit()]
    session.fails["confirm_front"] = KeyboardInterrupt()
    assert warnings_of(session) == ["Stopped with Ctrl+C; the front is not measured on held-out prompts."] * 2
    assert session.calls == [("confirm_front",)] * 2


def test_the_chat_page_comes_back_to_the_list_and_its_mistakes_are_said(
    session: FakeSession, answers: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[FakeSession] = []

    def talk(shown: FakeSession, _printer: object) -> None:
        pages.append(shown)
        if len(pages) == 2:
            raise UserError("Gradio is not installed.")

    monkeypatch.setitem(sys.modules, "heretic.interface.chat_page", SimpleNamespace(talk_to_trials=talk))
    answers["pick_trial"] += [Browse(), Browse(), Quit()]
    assert warnings_of(session) == ["Gradio is not installed."]
    assert pages == [session, session]
    assert session.calls == [("restore",), ("restore",)]


@pytest.mark.parametrize(
    ("error", "words"),
    [(ExportError("The disk is full."), "The disk is full."), (KeyboardInterrupt(), "nothing was saved")],
)
def test_a_save_that_fails_or_is_stopped_goes_back_to_the_applied_trial(
    session: FakeSession, answers: dict[str, list[Any]], error: BaseException, words: str
) -> None:
    answers["pick_trial"] += [MIDDLE, Quit()]
    answers["pick_action"] += [Action.SAVE, Action.BACK]
    answers["ask_save_path"] += [Path("out")]
    answers["ask_format"] += [ExportFormat.MERGED]
    session.fails["save"] = error
    (warning,) = warnings_of(session)
    assert words in warning
    assert [call[0] for call in session.calls] == ["apply", "confirm", "adapter_obstacle", "save", "restore"]


def test_a_trial_that_cannot_be_applied_goes_back_to_the_list(
    session: FakeSession, answers: dict[str, list[Any]]
) -> None:
    answers["pick_trial"] += [MIDDLE, Quit()]
    session.fails["apply"] = TrialFailed("Trial 12 cannot be used.")
    assert warnings_of(session) == ["Trial 12 cannot be used."]
    assert answers["pick_trial"] == []


def test_upload_asks_and_publishes(
    session: FakeSession, answers: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers["pick_trial"] += [MIDDLE, Quit()]
    answers["pick_action"] += [Action.UPLOAD, Action.BACK]
    answers["ask_repository"] += [("a/b", True)]
    answers["ask_format"] += [ExportFormat.MERGED]
    monkeypatch.setattr(menu, "check_repository", lambda _: None)
    assert warnings_of(session) == []
    assert ("publish", "a/b", True, "merged") in session.calls


def test_missing_login_is_said_before_the_format_is_asked_for(
    session: FakeSession, answers: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(repository: str) -> None:
        raise UserError(f"Uploading to {repository} needs a login.")

    answers["pick_trial"] += [MIDDLE, Quit()]
    answers["pick_action"] += [Action.UPLOAD, Action.BACK]
    answers["ask_repository"] += [("a/b", True)]
    monkeypatch.setattr(menu, "check_repository", refused)
    assert warnings_of(session) == ["Uploading to a/b needs a login."]
    assert [call[0] for call in session.calls] == ["apply", "confirm", "restore"]


def test_a_confirmation_that_is_stopped_leaves_the_trial_applied(
    session: FakeSession, answers: dict[str, list[Any]]
) -> None:
    answers["pick_trial"] += [MIDDLE, Quit()]
    answers["pick_action"] += [Action.SAVE, Action.BACK]
    answers["ask_save_path"] += [Path("out")]
    answers["ask_format"] += [ExportFormat.MERGED]
    session.fails["confirm"] = KeyboardInterrupt()
    (warning,) = warnings_of(session)
    assert "not confirmed" in warning
    assert [call[0] for call in session.calls] == ["apply", "confirm", "adapter_obstacle", "save", "restore"]


def test_what_was_asked_for_is_measured_of_a_picked_trial_once(
    session: FakeSession, answers: dict[str, list[Any]]
) -> None:
    session.wants_validation = True
    answers["pick_trial"] += [MIDDLE, Quit()]
    answers["pick_action"] += [Action.BACK]
    assert warnings_of(session) == []
    assert [call[0] for call in session.calls] == ["apply", "confirm", "validate", "restore"]

    session.wants_validation = False
    session.calls.clear()
    answers["pick_trial"] += [MIDDLE, Quit()]
    answers["pick_action"] += [Action.BACK]
    assert warnings_of(session) == []
    assert [call[0] for call in session.calls] == ["apply", "confirm", "restore"]


def test_a_validation_that_is_stopped_leaves_the_trial_applied(
    session: FakeSession, answers: dict[str, list[Any]]
) -> None:
    session.wants_validation = True
    session.fails["validate"] = KeyboardInterrupt()
    answers["pick_trial"] += [MIDDLE, Quit()]
    answers["pick_action"] += [Action.BACK]
    (warning,) = warnings_of(session)
    assert "what the trial is able to do is not measured" in warning


def test_the_list_shows_what_was_confirmed(
    session: FakeSession, answers: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def pick(*arguments: Any) -> Quit:
        asked.append(arguments)
        return Quit()

    monkeypatch.setattr(picker, "pick_trial", pick)
    assert warnings_of(session) == []
    assert asked == [([MIDDLE], MIDDLE, 1, {MIDDLE.number: "held out"}, {MIDDLE.number: ("out",)}, False)]

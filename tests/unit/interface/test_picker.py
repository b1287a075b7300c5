import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.interface.terminal import CONTROL_C, CONTROL_D, CONTROL_U, DOWN, ENTER, ESCAPE, UP, Terminal
from tests.unit.measured import counted, divergence, held_out, kept, measured

from heretic.common.errors import SelectionError
from heretic.interface import asking, picker
from heretic.interface.picker import Action, Browse, MoreTrials, Quit
from heretic.results.plan import EditPlan, Scope
from heretic.results.score import Scores
from heretic.results.trial import TrialRecord, TrialState


def record(number: int, refusals: int, kl: float) -> TrialRecord:
    return TrialRecord(number, EditPlan(Scope.LAYER, None, ()), measured(refusals, kl), TrialState.COMPLETE, "", 1.0)


FRONT = [record(30, 0, 1.5), record(11, 3, 0.0123), record(4, 40, 0.001)]
BEST, MIDDLE, GENTLE = FRONT


def test_rows_are_those_of_the_front_and_mark_the_suggestion() -> None:
    heading, rows = picker.trial_rows(FRONT, MIDDLE)

    assert heading.split() == ["Trial", "refusals", "KL", "(nats)"]
    assert [row.split() for row in rows] == [
        ["31", "0/100", "1.5000"],
        ["12", "3/100", "0.0123", "suggested"],
        ["5", "40/100", "0.0010"],
    ]


def test_held_out_values_stand_beside_those_of_the_search() -> None:
    heading, rows = picker.trial_rows(FRONT, MIDDLE, {MIDDLE.number: held_out()})

    assert heading.endswith("Held out")
    assert rows[1].endswith("  8/100, KL 0.0234   suggested")
    assert rows[0].endswith("1.5000")


def test_what_noise_does_not_tell_apart_is_marked_and_explained() -> None:
    def spread(number: int, refusals: int, factor: float) -> TrialRecord:
        kl = divergence(0.1 * factor, 40, by_prompt=tuple(factor * (0.01 + 0.18 * (place % 2)) for place in range(40)))
        return replace(record(number, 0, 0.1), scores=Scores((counted(refusals),), kl))

    front = [spread(30, 2, 1.0), spread(11, 3, 1.0), spread(4, 60, 0.5)]
    heading, rows = picker.trial_rows(front, front[1])
    assert heading.endswith("KL, 95 %")
    assert [row.partition("   ")[2].strip().split("   ")[-1].strip() for row in rows][:2] == [
        "not told apart",
        "suggested",
    ]
    assert "told apart" not in rows[2]
    assert "0.07" in rows[1]
    assert picker.legend(front, front[1], 0)[-1].startswith("not told apart: from trial 12; so small a difference")
    assert "told apart" not in " ".join(picker.legend(FRONT, MIDDLE, 0))


@pytest.mark.parametrize(
    ("text", "accepted"), [("1", True), (" 200 ", True), ("0", False), ("-3", False), ("2.5", False), ("", False)]
)
def test_count_of_trials(text: str, accepted: bool) -> None:
    assert (picker.check_count(text) is True) is accepted


def test_save_path_takes_new_and_empty_folders_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()

    for text in ("new", "empty", "new/below/it"):
        assert picker.check_save_path(str(tmp_path / text)) is True
    for text in ("file", "file/below", ".", "n" * 300):
        assert isinstance(picker.check_save_path(str(tmp_path / text)), str)
    assert isinstance(picker.check_save_path("  "), str)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_save_path_in_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    assert "not writable" in str(picker.check_save_path(str(tmp_path / "new")))


def test_home_folder_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    assert picker.save_path(" ~/model ") == tmp_path / "model"


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("user/model-1.0", True), ("model", True), ("a b", False), ("a/b/c", False), ("", False), ("x" * 97, False)],
)
def test_repository_names_are_the_hub_clients_business(name: str, accepted: bool) -> None:
    verdict = picker.check_repository(name)

    assert (verdict is True) is accepted
    assert accepted or len(str(verdict)) < 80


def test_the_pointer_starts_at_the_suggestion(terminal: Terminal) -> None:
    terminal.type(ENTER)

    assert picker.pick_trial(FRONT, MIDDLE, 40) == MIDDLE


@pytest.mark.parametrize(("keys", "expected"), [([UP], BEST), ([DOWN], GENTLE), (["k"], BEST), (["j"], GENTLE)])
def test_arrow_keys_follow_the_sorted_list(terminal: Terminal, keys: list[str], expected: TrialRecord) -> None:
    terminal.type(*keys, ENTER)

    assert picker.pick_trial(FRONT, MIDDLE, 40) == expected


def test_without_a_suggestion_the_pointer_starts_at_the_top(terminal: Terminal) -> None:
    terminal.type(ENTER)

    assert picker.pick_trial(FRONT, None, 40) == BEST


def test_the_list_shows_ascii_only(terminal: Terminal) -> None:
    terminal.type(ENTER)
    picker.pick_trial(FRONT, MIDDLE, 40)

    assert terminal.screen.isascii()
    for text in ("refusals", "3/100", "0.0123", "suggested", "Run more trials", "Quit", "3 best of 40"):
        assert text in terminal.screen


def test_more_trials_asks_until_the_count_is_one(terminal: Terminal) -> None:
    terminal.type(DOWN, DOWN, ENTER, "0", ENTER, CONTROL_U, "25", ENTER)

    assert picker.pick_trial(FRONT, MIDDLE, 40) == MoreTrials(25)


def test_control_c_at_the_count_leads_back_to_the_list(terminal: Terminal) -> None:
    terminal.type(DOWN, DOWN, ENTER, CONTROL_C, ENTER)

    assert picker.pick_trial(FRONT, MIDDLE, 40) == MIDDLE


def test_the_chat_page_is_asked_for(terminal: Terminal) -> None:
    terminal.type(DOWN, DOWN, DOWN, ENTER)

    assert picker.pick_trial(FRONT, MIDDLE, 40) == Browse()


@pytest.mark.parametrize("keys", [[ESCAPE], [CONTROL_C], [DOWN, DOWN, DOWN, DOWN, ENTER]])
def test_leaving_the_list(terminal: Terminal, keys: list[str]) -> None:
    terminal.type(*keys)

    assert picker.pick_trial(FRONT, MIDDLE, 40) == Quit()


def test_an_empty_front_names_the_next_step() -> None:
    with pytest.raises(SelectionError, match="--n-trials"):
        picker.pick_trial([], None, 0)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([ENTER], Action.SAVE),
        ([DOWN, ENTER], Action.UPLOAD),
        ([DOWN, DOWN, ENTER], Action.CHAT),
        ([DOWN, DOWN, DOWN, ENTER], Action.BENCHMARK),
        ([DOWN, DOWN, DOWN, DOWN, ENTER], Action.BACK),
        ([UP, ENTER], Action.QUIT),
        ([ESCAPE], Action.BACK),
        ([CONTROL_C], Action.BACK),
    ],
)
def test_actions(terminal: Terminal, keys: list[str], expected: Action) -> None:
    terminal.type(*keys)

    assert picker.pick_action(MIDDLE) is expected
    assert "Trial 12, refusals 3/100, KL 0.0123" in terminal.screen


def test_save_path_is_asked_again_until_it_can_be_used(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    terminal.type(ENTER, CONTROL_U, str(tmp_path / "new") + os.path.sep, ENTER)

    assert picker.ask_save_path(tmp_path / "full") == tmp_path / "new"


def test_the_default_save_path_is_taken_with_enter(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type(ENTER)

    assert picker.ask_save_path(tmp_path / "model") == tmp_path / "model"


def test_format(terminal: Terminal) -> None:
    terminal.type(DOWN, ENTER)

    assert picker.ask_format(None) == "adapter"


def test_an_impossible_adapter_cannot_be_chosen_and_says_why(terminal: Terminal) -> None:
    terminal.type(DOWN, ENTER)

    assert picker.ask_format("the edit keeps row norms") == "merged"
    assert "the edit keeps row norms" in terminal.screen


def test_repository_is_private_unless_somebody_says_no(terminal: Terminal) -> None:
    terminal.type(ENTER, ENTER)
    assert picker.ask_repository("me/model") == ("me/model", True)

    terminal.type(CONTROL_U, "a b", ENTER, CONTROL_U, "me/other", ENTER, "n")
    assert picker.ask_repository("me/model") == ("me/other", False)


def test_leaving_the_second_question_about_a_repository_uploads_nothing(terminal: Terminal) -> None:
    terminal.type(ENTER, CONTROL_C)

    assert picker.ask_repository("me/model") is None


@pytest.mark.parametrize(
    ("keys", "default", "expected"), [(ENTER, True, True), (ENTER, False, False), ("y", False, True)]
)
def test_confirm(terminal: Terminal, keys: str, default: bool, expected: bool) -> None:
    terminal.type(keys)

    assert picker.confirm("Sure?", default) is expected


def test_model_is_asked_until_there_is_a_name(terminal: Terminal) -> None:
    terminal.type(ENTER, " demo ", ENTER)

    assert picker.ask_model() == "demo"
    assert "bundled toy model" in terminal.screen


def test_a_study_that_does_not_fit(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.type(ENTER)
    assert picker.pick_study_conflict("study", "it was made with another model.", "study-2") == "study-2"
    assert "study cannot go on: it was made with another model.\n" in capsys.readouterr().out

    terminal.type(DOWN, ENTER)
    assert picker.pick_study_conflict("study", "it was made with another model", "study-2") is None


def test_what_to_do_where_a_behaviour_is_hardly_shown(terminal: Terminal) -> None:
    terminal.type(ENTER)
    assert picker.pick_on_little(["hedging"]) is None

    # Back from the name of the pack, then one that there is.
    terminal.type(DOWN, ENTER, ESCAPE, DOWN, ENTER, "verbosity", ENTER)
    assert picker.pick_on_little(["hedging"]) == "verbosity"

    terminal.type(DOWN, DOWN, ENTER)
    with pytest.raises(SelectionError, match="Nothing was searched"):
        picker.pick_on_little(["hedging"])


def test_only_packs_that_there_are_can_be_typed(tmp_path: Path) -> None:
    assert picker.check_pack_name(" demo ") is True
    assert "no such pack" in str(picker.check_pack_name(str(tmp_path)))


QUESTIONS: dict[str, Callable[[], object]] = {
    "model": picker.ask_model,
    "path": lambda: picker.ask_save_path("out"),
    "format": lambda: picker.ask_format(None),
    "repository": lambda: picker.ask_repository("me/model"),
    "confirm": lambda: picker.confirm("Sure?", True),
    "conflict": lambda: picker.pick_study_conflict("study", "it differs", "study-2"),
}


@pytest.mark.parametrize("key", [ESCAPE, CONTROL_C], ids=["escape", "control-c"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_escape_and_control_c_mean_none(terminal: Terminal, question: str, key: str) -> None:
    terminal.type(key)

    assert QUESTIONS[question]() is None


def test_control_d_in_a_text_means_none(terminal: Terminal) -> None:
    terminal.type(CONTROL_D)

    assert picker.ask_model() is None


@pytest.mark.parametrize(
    ("stdin", "stdout", "expected"),
    [(True, True, True), (True, False, False), (False, True, False), (None, True, False)],
)
def test_a_terminal_is_needed_for_input_and_output(
    monkeypatch: pytest.MonkeyPatch, stdin: bool | None, stdout: bool, expected: bool
) -> None:
    class Stream(io.StringIO):
        def __init__(self, is_terminal: bool) -> None:
            super().__init__()
            self._is_terminal = is_terminal

        def isatty(self) -> bool:
            return self._is_terminal

    monkeypatch.setattr("sys.stdin", None if stdin is None else Stream(stdin))
    monkeypatch.setattr("sys.stdout", Stream(stdout))

    assert asking.has_terminal() is expected


@pytest.mark.parametrize(
    ("question", "next_step"),
    [
        ("trial", "--auto-select true --auto-select-path DIR"),
        ("action", "--auto-select true --auto-select-path DIR"),
        ("model", "heretic --model demo"),
        ("path", "--auto-select-path"),
        ("format", "--auto-select-path"),
        ("repository", "--auto-select-path"),
        ("confirm", "--auto-select-path"),
        ("conflict", "--study-name study-"),
    ],
)
def test_without_a_terminal_the_next_step_is_named(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, question: str, next_step: str
) -> None:
    monkeypatch.setattr("heretic.interface.asking.has_terminal", lambda: False)
    questions = {
        **QUESTIONS,
        "trial": lambda: picker.pick_trial(FRONT, MIDDLE, 40),
        "action": lambda: picker.pick_action(MIDDLE),
    }

    with pytest.raises(SelectionError, match=re.escape(next_step)):
        questions[question]()
    assert terminal.screen == ""


def test_edits_that_do_nothing_are_left_out_and_the_columns_are_explained(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing, edit = record(1, 97, 0.0001), record(2, 3, 0.02)
    assert not picker.changes_something(nothing)
    assert picker.changes_something(edit)
    lines = picker.legend([edit], None, 1)
    assert lines[0] == "refusals: what is left, where the original shows 97/100; less is better"
    assert lines[-1] == "1 edit that changed nothing left out"
    keeping = replace(edit, scores=replace(edit.measured, kept=(kept(2, 38),)))
    stays = "kept abstention: answers that stayed as they have to; more is better"
    assert picker.legend([keeping], None, 0)[1] == stays
    several = replace(edit, scores=replace(edit.measured, behaviors=edit.behaviors * 2))
    assert picker.legend([several], None, 0)[0] == "first columns: what is left of each behaviour; less is better"
    terminal.type(ENTER)
    assert picker.pick_trial([nothing, edit], None, 2) == edit
    # Where there is nothing else, they can be looked at.
    terminal.type(ENTER)
    assert picker.pick_trial([nothing], None, 1) == nothing

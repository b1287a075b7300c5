"""What a first look at a behaviour comes to, in words."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from heretic.interface.look_lines import print_look, verdict
from heretic.interface.printer import Printer
from heretic.results.score import Score
from heretic.run.looking import Look, LookedAt, Side

UNIT = "marks per 100 words"
EXCITED = LookedAt("How is it?", "Great!\nAmazing\x1b[2J", "4.0 marks per 100 words", ((5, 6), (7, 14)))
SEEN = Look(
    Side((EXCITED,), Score("excitement", 4.0, 8, 4.0, unit=UNIT), 0.4),
    Side((replace(EXCITED, text="", marks=()),), Score("excitement", 0.5, 8, 0.5, unit=UNIT), 0.05),
    24,
    12,
    5.2,
    0.93,
    48,
)


def told(look: Look) -> str:
    return " ".join(verdict(look, "excitement", "demo", "mine"))


def test_what_differs_and_is_shown_is_fit_for_a_search() -> None:
    assert told(SEEN) == "Fit for a search: heretic demo --behavior mine"


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (replace(SEEN, target=replace(SEEN.target, room=0.09)), "hardly shows excitement by itself"),
        (replace(SEEN, baseline=SEEN.target), "baseline's evaluation prompts show as much"),
        (replace(SEEN, apart=1.9), "nearly alike"),
        (replace(SEEN, agreement=0.4), "another direction than the other half"),
    ],
)
def test_what_is_amiss_is_said_with_what_to_do(look: Look, words: str) -> None:
    assert words in told(look)
    assert "Fit" not in told(look)


def test_marks_stand_in_brackets_where_there_are_no_colours_and_foreign_text_is_cleaned() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    print_look(SEEN, "excitement", "demo", "mine", Printer(console))
    text = console.export_text()
    assert "Great[!] [Amazing]" in text
    assert "\x1b" not in text
    assert "(nothing)" in text
    assert "4.00 marks per 100 words by target prompts, 0.50 marks per 100 words by the others" in text


def test_marks_are_coloured_in_a_terminal() -> None:
    console = Console(width=100, record=True, force_terminal=True, color_system="standard", file=io.StringIO())
    print_look(SEEN, "excitement", "demo", "mine", Printer(console))
    text = console.export_text(styles=True)
    assert "\x1b[30;43m!\x1b[0m" in text
    assert "[Amazing]" not in text

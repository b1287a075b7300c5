"""What is quoted of other programs' exceptions."""

import pytest

from heretic.common.errors import LONGEST_DETAIL, causes, choose_one, did_you_mean, first_line, nearest


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("plain", "plain"),
        ("a sentence.", "a sentence"),
        ("\n\n  first \nsecond", "first"),
        ("one...\n", "one"),
        ("", "ValueError"),
        (" \n\t\n", "ValueError"),
    ],
)
def test_first_line(message: str, expected: str) -> None:
    assert first_line(ValueError(message)) == expected


def test_long_messages_are_cut() -> None:
    assert first_line(ValueError("x" * 5000)) == "x" * LONGEST_DETAIL


def test_causes_are_followed_and_contexts_are_not() -> None:
    inner, outer = KeyError("inner"), ValueError("outer")
    outer.__cause__ = inner
    inner.__context__ = ImportError("merely being handled")
    assert causes(outer) == [outer, inner]
    inner.__cause__ = outer
    assert causes(outer) == [outer, inner]


@pytest.mark.parametrize(
    ("name", "near", "instead"),
    [
        ("hegding", "hedging", "did you mean hedging? Else choose one of Refusal, hedging"),
        ("REFUSALS", "Refusal", "did you mean Refusal? Else choose one of Refusal, hedging"),
        ("weather", "", "choose one of Refusal, hedging"),
    ],
)
def test_a_name_like_none_is_told_what_there_is(name: str, near: str, instead: str) -> None:
    names = ["Refusal", "hedging"]
    assert nearest(name, names) == near
    assert did_you_mean(name, names) == (f"did you mean {near}?" if near else "")
    assert choose_one(name, iter(names)) == instead


def test_how_alike_names_have_to_be_can_be_said() -> None:
    assert nearest("study", ["studies"], 0.6) == "studies"
    assert nearest("study", ["studies"], 0.9) == ""

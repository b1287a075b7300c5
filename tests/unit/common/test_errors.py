"""What is quoted of other programs' exceptions."""

import pytest

from heretic.common.errors import LONGEST_DETAIL, causes, first_line


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

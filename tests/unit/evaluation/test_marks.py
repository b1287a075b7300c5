"""Marks: what patterns find, each place once."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heretic.common.errors import ConfigurationError
from heretic.evaluation.marks import Marks


def test_every_match_of_every_pattern_counts_whatever_the_case() -> None:
    marks = Marks((r"\bmaybe\b", r"\bit depends\b"))
    text = "Maybe. IT DEPENDS, or maybe not; it may be."
    assert marks.count(text) == 3
    assert [text[start:end].lower() for start, end in marks.spans(text)] == ["maybe", "it depends", "maybe"]
    assert marks.count("") == 0


def test_overlapping_marks_count_once_and_the_first_and_longest_stands() -> None:
    marks = Marks(("in most", "in most cases", "most cases", "cases often", "often"))
    text = "In most cases often."
    assert [text[start:end] for start, end in marks.spans(text)] == ["In most cases", "often"]


def test_marks_that_touch_are_two() -> None:
    assert Marks(("ab", "cd")).count("abcd") == 2


def test_patterns_that_match_nothing_at_all_find_nothing() -> None:
    assert Marks(("x*", r"\b")).spans("a b") == []
    assert Marks(("x*",)).spans("a xx b") == [(2, 4)]


@pytest.mark.parametrize("text", ["I don't know.", "I don\u2019t know.", "I don\u2018t know."])
def test_curly_quotes_are_straight_ones(text: str) -> None:
    assert Marks(("don't",)).count(text) == 1


def test_curly_double_quotes_too() -> None:
    assert Marks(('"so"',)).count("They say \u201cso\u201d.") == 1


def test_anchors_stand_for_the_ends_of_the_answer_only() -> None:
    marks = Marks(("^yes", "right$"))
    assert marks.count("  Yes, that is\nright\n") == 2
    assert marks.count("No.\nYes, right\nor not") == 0


@pytest.mark.parametrize("pattern", ["(", "[a", "*", "(?P<n>", r"\1"])
def test_a_pattern_that_cannot_be_read_is_named_in_one_sentence(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        Marks(("fine", pattern))
    assert repr(pattern) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_marks_need_patterns() -> None:
    with pytest.raises(ConfigurationError, match="needs patterns"):
        Marks(())


@given(st.lists(st.sampled_from(["a", "ab", "ba", "b+", "aab", "(ab)*"]), min_size=1), st.text("ab \n", max_size=30))
def test_spans_are_in_order_apart_and_not_empty(patterns: list[str], text: str) -> None:
    spans = Marks(patterns).spans(text)
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert Marks(patterns).count(text) == len(spans)

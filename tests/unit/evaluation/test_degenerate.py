"""Answers that are none."""

import pytest

from heretic.evaluation.degenerate import is_empty, is_looping, is_other_script, main_script


@pytest.mark.parametrize(
    ("text", "empty"), [("", True), (" ...\n", True), ("4", False), ("Yes.", False), ("да", False)]
)
def test_empty(text: str, empty: bool) -> None:
    assert is_empty(text) is empty


@pytest.mark.parametrize(
    ("tokens", "looping"),
    [
        ([7] * 30, True),
        ([1, 2, 3, *[4, 5, 6] * 10], True),
        ([*[4, 5, 6] * 10, 1], False),  # it went on
        (list(range(200)), False),
        ([1, 2] * 5, False),  # a short answer may say a thing a few times
        ([*range(40), *list(range(40)) * 2], False),  # a long phrase, said three times
        ([], False),
    ],
)
def test_looping(tokens: list[int], looping: bool) -> None:
    assert is_looping(tokens) is looping


def test_scripts() -> None:
    assert main_script("Hello, мир") == "LATIN"
    assert main_script("東京はきれいです") == "HAN"
    assert main_script("12 + 3") is None
    assert is_other_script("你好这是答案", "Hello, this is the answer")
    assert not is_other_script("Bonjour, ça va ?", "Hello")
    assert not is_other_script("42", "forty-two")

import pytest

from heretic.common.errors import PromptError
from heretic.prompts.columns import choose_column, user_text

CHAT = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ({"id": 1, "goal": "text"}, "goal"),
        ({"id": "a", "prompt": "p", "text": "t"}, "text"),
        ({"category": "a", "instruction": "i", "output": "o"}, "instruction"),
        ({"id": 1, "chat": CHAT}, "chat"),
        ({"prompt": CHAT, "source": "s"}, "prompt"),
    ],
)
def test_the_column_that_is_taken_where_none_is_named(row, column):
    assert choose_column("set", row, None) == column


@pytest.mark.parametrize("row", [{"a": "x", "b": "y"}, {"id": 1, "score": 0.5}])
def test_columns_that_cannot_be_told_apart_are_listed(row):
    with pytest.raises(PromptError, match=f"set has the columns {', '.join(row)}; set 'column'"):
        choose_column("set", row, None)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        (CHAT, "u"),
        ({"role": ["system", "user"], "content": ["s", "u"]}, "u"),
        ([{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}], "h"),
        ([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "look"}]}], "look"),
        ([{"role": "assistant", "content": "a"}], ""),
        ([{"role": "user", "content": None}], ""),
    ],
)
def test_what_a_cell_asks(cell, text):
    assert user_text(cell) == text

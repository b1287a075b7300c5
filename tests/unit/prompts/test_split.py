import datasets
import pytest
from datasets import ReadInstruction
from hypothesis import given
from hypothesis import strategies as st

from heretic.common.errors import PromptError
from heretic.prompts.split import Split, parse_split

bounds = st.none() | st.integers(-150, 150).map(str)
percentages = st.none() | st.integers(-100, 100).map(lambda number: f"{number}%")


def expected_rows(expression: str, count: int) -> list[int]:
    [part] = ReadInstruction.from_spec(expression).to_absolute({"train": count})
    return list(range(count))[part.from_ : part.to]


@given(pair=st.tuples(bounds, bounds) | st.tuples(percentages, percentages), count=st.integers(0, 130))
def test_a_slice_means_what_the_datasets_library_takes_it_for(pair, count):
    low, high = (bound or "" for bound in pair)
    expression = f"train[{low}:{high}]"
    first, last = parse_split(expression).bounds(count)
    assert list(range(count))[first:last] == expected_rows(expression, count)
    assert 0 <= first <= last <= count


@given(count=st.integers(0, 1000), cut=st.integers(0, 100))
def test_two_percentages_that_meet_cover_every_row_once(count, cut):
    start, middle = parse_split(f"[:{cut}%]").bounds(count)
    again, end = parse_split(f"[{cut}%:]").bounds(count)
    assert (start, again, end) == (0, middle, count)


@pytest.mark.parametrize(
    ("expression", "split"),
    [
        (None, Split()),
        ("", Split()),
        ("train", Split("train")),
        ("held_out", Split("held_out")),
        ("train.clean", Split("train.clean")),
        (" test[10:20] ", Split("test", "10", "20")),
        ("[:100]", Split("", None, "100")),
        ("[-10%:]", Split("", "-10%", None)),
        ("test[:]", Split("test")),
    ],
)
def test_forms_that_are_understood(expression, split):
    assert parse_split(expression) == split


@pytest.mark.parametrize(
    "expression", ["train[5]", "train[:400", "train]", "train[a:b]", "train[:1.5]", "a b", "train[:1][:2]", "../train"]
)
def test_other_forms_are_refused_with_an_example(expression):
    with pytest.raises(PromptError, match=r"cannot be read; write it like train, train\[:400\]"):
        parse_split(expression)


def test_rows_and_percentages_are_not_mixed():
    with pytest.raises(PromptError, match="mixes rows and percentages"):
        parse_split("train[10:50%]")


@pytest.mark.parametrize(
    ("expression", "needed"), [("train", False), ("[5:9]", False), ("[:-1]", True), ("[:10%]", True), ("[-3:]", True)]
)
def test_which_slices_need_the_number_of_rows(expression, needed):
    assert parse_split(expression).needs_count is needed


def test_the_reference_is_the_installed_library():
    table = datasets.Dataset.from_dict({"row": list(range(10))})
    assert expected_rows("train[2:-3]", 10) == table[2:-3]["row"]

import pytest

from heretic.prompts.packs import bundled_behaviors
from heretic.prompts.text_files import read_bundled
from heretic.web.about import MOST, about


def test_what_was_edited_is_said_with_messages_that_nobody_confirms_with() -> None:
    told = about("demo", "remove", compares=True)
    for words in ("tendency to decline", "to remove it", "the first 3 call for", "On the left"):
        assert words in told.html
    assert len(set(told.messages)) == MOST
    for side in ("target", "baseline"):
        assert not set(told.messages) & set(read_bundled(f"demo/{side}", "held_out"))


def test_an_original_is_described_and_its_columns_are_not() -> None:
    told = about("demo", None, compares=False)
    assert "declines requests" in told.html
    assert "edit" not in told.html
    assert "left" not in told.html


@pytest.mark.parametrize("behavior", bundled_behaviors())
def test_every_bundled_behaviour_has_its_words(behavior: str) -> None:
    # Those of the hub are not fetched for a page.
    assert len(about(behavior, "", compares=False).messages) == (0 if behavior == "refusal" else MOST)


@pytest.mark.parametrize("behavior", ["", "mine", "../../etc/passwd", "<b>"])
def test_a_behaviour_of_somebody_else_is_passed_over(behavior: str) -> None:
    assert about(behavior, "remove", compares=False) == about("", None, compares=False)


def test_several_behaviours_are_told_together() -> None:
    html = about("verbosity,hedging", "remove", compares=False).html
    assert "longer answers" in html
    assert "qualify its answers" in html

"""Drafts: what earlier answers with the same beginning went on with, and nothing else."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from heretic.engine.drafts import Drafts

ANSWERS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=12)
"""Few tokens, so that answers share beginnings."""


def drafts_of(*answers: Sequence[int], longest: int = 8) -> Drafts:
    drafts = Drafts(1, frozenset(), longest)
    for answer in answers:
        drafts.add(0, answer)
    return drafts


def test_nothing_is_known_at_first() -> None:
    assert drafts_of().after(0, ()) == ()
    assert drafts_of().after(0, (1, 2)) == ()


def test_the_latest_answer_with_the_beginning_is_followed() -> None:
    drafts = drafts_of((1, 2, 3), (1, 2, 4), (5, 6))
    assert drafts.after(0, (1,)) == (2, 4)
    assert drafts.after(0, (1, 2)) == (4,)
    assert drafts.after(0, ()) == (5, 6)
    assert drafts.after(0, (5,)) == (6,)
    assert drafts.after(0, (1, 2, 4)) == ()
    assert drafts.after(0, (2,)) == ()


def test_an_answer_known_in_part_grows_and_a_shorter_one_changes_nothing() -> None:
    drafts = drafts_of((1, 2), (1, 2, 3, 4))
    assert drafts.after(0, (1,)) == (2, 3, 4)
    drafts.add(0, (1, 2, 3))
    assert drafts.after(0, (1,)) == (2, 3, 4)


def test_prompts_do_not_share_answers() -> None:
    drafts = Drafts(2, frozenset())
    drafts.add(1, (1, 2))
    assert drafts.after(0, (1,)) == ()
    assert drafts.after(1, (1,)) == (2,)


def test_a_draft_is_no_longer_than_asked_for() -> None:
    drafts = drafts_of(range(20), longest=3)
    assert drafts.after(0, ()) == (0, 1, 2)
    assert drafts.after(0, (0, 1)) == (2, 3, 4)


@given(ANSWERS, st.lists(st.integers(0, 2), max_size=6))
def test_drafts_are_exactly_continuations_of_answers(answers: list[tuple[int, ...]], beginning: list[int]) -> None:
    begun = tuple(beginning)
    known = {answer[len(begun) :] for answer in answers if answer[: len(begun)] == begun} - {()}
    found = drafts_of(*answers).after(0, beginning)
    assert found in known or (found == () and not known)


@given(ANSWERS)
def test_every_answer_can_be_followed_to_its_end(answers: list[tuple[int, ...]]) -> None:
    """Whatever else was added: some answer goes on behind every beginning of a known one."""
    drafts = drafts_of(*answers)
    for answer in answers:
        for length in range(len(answer)):
            assert drafts.after(0, answer[:length])

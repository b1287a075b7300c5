"""Yes or no as the first token: told by predictions, or read in plain answers."""

import pytest
import torch
from tests.unit.passes.pico_runner import PROMPTS, make_runner

from heretic.common.errors import ModelError
from heretic.evaluation.evaluators.agreement import UNDECIDED, said
from heretic.evaluation.yes_no import NO, YES, YesNo, answer_tokens, share_of_yes


def words(text: str) -> list[int]:
    """A tokenizer that takes every word with the space before it."""
    return [sum(map(ord, word)) for word in text.replace(" ", "\0 ").split("\0") if word]


def test_the_share_of_yes_is_that_among_all_ways_of_writing_both() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    found = share_of_yes(probabilities.log(), [0, 1], [2])
    torch.testing.assert_close(found, torch.tensor([0.3 / 0.6, 0.8 / 0.9]))


def test_yes_and_no_are_the_tokens_behind_the_prompt() -> None:
    yes, no = answer_tokens("", lambda behind: [1, 2, *words(behind)], "")
    assert set(yes) == {sum(map(ord, word)) for word in YES}
    assert set(no) == {sum(map(ord, word)) for word in NO}


def test_what_both_begin_with_counts_for_neither() -> None:
    yes, no = answer_tokens("", lambda behind: [7, *behind.encode()], "")
    assert (set(yes), set(no)) == ({ord("Y"), ord("y")}, {ord("N"), ord("n")})


def test_a_tokenizer_that_writes_both_alike_is_refused() -> None:
    with pytest.raises(ModelError, match=r"odd cannot judge because .* begins yes and no alike; name another"):
        answer_tokens("odd cannot judge", lambda behind: [7, *([1] if behind else [])], "another")


def test_predictions_are_told_and_read_again() -> None:
    runner = make_runner("llama")
    logits = runner.first_token_logits([runner.encode(prompt) for prompt in PROMPTS])
    told = YesNo(runner).told(logits)
    shares = [said(response.text) for response in told]
    assert all(0 < share < 1 for share in shares)
    assert len(set(shares)) > 1
    certain = logits.clone()
    certain[:, YesNo(runner)._yes] += 200.0
    assert [said(response.text) for response in YesNo(runner).told(certain)] == [1.0] * len(PROMPTS)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Yes, it is.", 1.0),
        ("**Yes**", 1.0),
        ("no.", 0.0),
        ("Nobody knows.", UNDECIDED),
        ("It is so.", UNDECIDED),
        ("", UNDECIDED),
        ("yes with a probability of 1e-05", 1e-5),
        ("yes with a probability of 0.25", 0.25),
    ],
)
def test_a_plain_answer_says_yes_or_no_or_neither(text: str, share: float) -> None:
    assert said(text) == share

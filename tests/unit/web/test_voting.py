import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heretic.passes.conversing import Sampling
from heretic.web.conversation import Answer, Conversation
from heretic.web.errors import GenerationError, VotingError
from heretic.web.voting import USUAL_CRITERION, Ballot, Booth


class FakeTalker:
    name, blend = "demo", object()


class FakeManager:
    """Answers at once; `talker` is what is in memory."""

    def __init__(self, talker: Any = None) -> None:
        self.talker = talker

    def answer(self, conversation: Conversation, *_given: Any) -> Iterator[tuple[Answer, ...]]:
        assert conversation.turns[-1].question == "Hello."
        yield Answer("the", 0.0, 1), Answer("an", 1.0, 1, trial=4)
        yield Answer("the original", 0.0, 2), Answer("an edit", 1.0, 2, trial=4)


def booth(tmp_path: Path, talker: Any = FakeTalker) -> Booth:
    return Booth(FakeManager(talker), tmp_path / "kept" / "votes.jsonl")  # type: ignore[arg-type]


def ballot(of: Booth) -> Ballot:
    *told, last = of.ask("Hello.", "", Sampling(seed=7), 1.0, "me")
    assert "both answers appear" in str(told[-1])
    assert isinstance(last, Ballot)
    return last


def test_a_vote_needs_two_models(tmp_path: Path) -> None:
    with pytest.raises(GenerationError, match="two models"):
        ballot(booth(tmp_path, None))


def test_both_orders_come_up_and_the_answers_say_nothing_of_them(tmp_path: Path) -> None:
    ballots = [ballot(booth(tmp_path)) for _ in range(40)]
    assert {each.swapped for each in ballots} == {True, False}
    for each in ballots:
        assert each.answers[each.swapped].text == "the original"
        assert each.chosen("right" if each.swapped else "left") == "original"
        assert each.chosen("left" if each.swapped else "right") == "edited"
        assert each.chosen("same") == "same"


def test_votes_are_lines_with_message_answers_seed_and_trial(tmp_path: Path) -> None:
    of = booth(tmp_path)
    cast = Ballot(ballot(of).conversation, Sampling(seed=7), swapped=True)
    assert (
        of.vote(cast, "left", "  Which is\nkinder?  ") == "Kept: edited. Left was the edited, right the original model."
    )
    of.vote(cast, "same", "")
    first, second = map(json.loads, (tmp_path / "kept" / "votes.jsonl").read_text(encoding="ascii").splitlines())
    assert (first["vote"], first["criterion"], first["left"]) == ("edited", "Which is kinder?", "edited")
    assert (first["seed"], first["trial"], first["strength"], first["prompt"]) == (7, 4, 1.0, "Hello.")
    assert first["answers"] == {"original": "the original", "edited": "an edit"}
    assert (second["vote"], second["criterion"]) == ("same", USUAL_CRITERION)
    assert (tmp_path / "kept" / "votes.jsonl").stat().st_mode & 0o077 == 0


def test_the_tally_has_an_interval_over_the_votes_that_decided(tmp_path: Path) -> None:
    of = booth(tmp_path)
    assert of.tallies() == []
    cast = Ballot(ballot(of).conversation, Sampling(), swapped=False)
    for side in ("right",) * 9 + ("same",) * 3:
        of.vote(cast, side, "A")
    of.vote(cast, "left", "B")
    kinder, other = of.tallies()
    assert (kinder.criterion, kinder.edited, kinder.original, kinder.same) == ("A", 9, 0, 3)
    # Wilson's interval of 9 of 9.
    assert kinder.sentence.endswith("edited in 100 % of those that decided (95 %: 70 to 100 %): the edited one.")
    assert (other.edited, other.original) == (0, 1)
    assert other.sentence.endswith("not decided yet.")


@pytest.mark.parametrize("damaged", ["{", "[]", '{"vote": "edited"}', '{"vote": "mine", "criterion": "A"}', "\xff"])
def test_a_damaged_file_is_named(tmp_path: Path, damaged: str) -> None:
    of = booth(tmp_path)
    of.vote(Ballot(ballot(of).conversation, Sampling(), swapped=False), "left", "A")
    file = tmp_path / "kept" / "votes.jsonl"
    file.write_bytes(file.read_bytes() + damaged.encode("latin-1") + b"\n")
    with pytest.raises(VotingError, match=r"votes.jsonl cannot be read as votes .*mend it"):
        of.tallies()


def test_a_vote_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    of = booth(tmp_path)
    (tmp_path / "kept").write_text("")
    with pytest.raises(VotingError, match="cannot be kept"):
        of.vote(Ballot(ballot(of).conversation, Sampling(), swapped=False), "left", "A")

"""Blind votes: two answers in an order by chance, which is better, and what all votes together say."""

import json
import os
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from heretic.common.integrity import read_foreign
from heretic.passes.conversing import Sampling
from heretic.results import reading
from heretic.results.intervals import wilson_interval
from heretic.web.conversation import Answer, Conversation
from heretic.web.errors import GenerationError, VotingError
from heretic.web.manager import ModelManager, thinned

LONGEST_CRITERION = 200
USUAL_CRITERION = "Which answer is better?"
ORIGINAL, EDITED, SAME = "original", "edited", "same"
_LARGEST = 256 * 1024**2
"""Bytes of a file that is read."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """Two answers to one message, to be judged.

    Attributes:
        conversation: The message, with the original's and the edited model's answer.
        sampling: How they were written.
        swapped: Whether the edited model's stands on the left.
    """

    conversation: Conversation
    sampling: Sampling
    swapped: bool

    @property
    def answers(self) -> tuple[Answer, Answer]:
        """From left to right."""
        original, edited = self.conversation.turns[-1].answers
        return (edited, original) if self.swapped else (original, edited)

    def chosen(self, side: str) -> str:
        """Whose answer stands ``left`` or ``right``; ``same`` for anything else."""
        if side not in ("left", "right"):
            return SAME
        return EDITED if (side == "left") is self.swapped else ORIGINAL


@dataclass(frozen=True, slots=True)
class Tally:
    """The votes by one criterion: how often each won."""

    criterion: str
    edited: int
    original: int
    same: int

    @property
    def sentence(self) -> str:
        """The counts, and the share of the edited model in those that decided, as a sign test sees them."""
        counts = f"edited {self.edited}, original {self.original}, no difference {self.same}"
        decided = self.edited + self.original
        if not decided:
            return f"{counts}; no vote decided yet."
        low, high = (100 * bound for bound in wilson_interval(self.edited, decided))
        verdict = "the edited one" if low > 50 else "the original" if high < 50 else "not decided yet"
        share = 100 * self.edited / decided
        return f"{counts}; edited in {share:.0f} % of those that decided (95 %: {low:.0f} to {high:.0f} %): {verdict}."


class Booth:
    """Where votes are cast; they are lines of one file, as JSON."""

    def __init__(self, manager: ModelManager, file: Path) -> None:
        self._manager = manager
        self._file = file

    def ask(
        self, question: str, system_prompt: str, sampling: Sampling, strength: float, owner: str
    ) -> Iterator[str | Ballot]:
        """Have both models answer a message; what is said of it meanwhile, and last the ballot.

        Raises:
            ChatError: No original and edited model are loaded, or they cannot answer.
        """
        talker = self._manager.talker
        if talker is None or talker.blend is None:
            raise GenerationError("A vote needs two models; load an edited one beside the model it was made from.")
        conversation = Conversation(talker.name).asked(question, system_prompt)
        answers: tuple[Answer, ...] = ()
        for answers in thinned(self._manager.answer(conversation, sampling, strength, owner)):
            written = max(answer.tokens for answer in answers)
            yield f"{written} tokens are written; both answers appear when they are whole."
        # By the system's dice, not by the seed: a seed is chosen by whoever votes.
        yield Ballot(conversation.answered(answers), sampling, random.SystemRandom().random() < 0.5)

    def vote(self, ballot: Ballot, side: str, criterion: str) -> str:
        """Keep a vote; returns a sentence that says whose answers these were.

        Args:
            ballot: What was judged.
            side: ``left``, ``right``, or ``same``.
            criterion: What was asked.

        Raises:
            VotingError: It cannot be kept.
        """
        turn = ballot.conversation.turns[-1]
        original, edited = turn.answers
        chosen = ballot.chosen(side)
        self._append(
            {
                "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "criterion": _criterion(criterion),
                "vote": chosen,
                "model": ballot.conversation.model,
                "trial": edited.trial,
                "strength": edited.strength,
                "prompt": turn.question,
                "system_prompt": ballot.conversation.system_prompt,
                "seed": ballot.sampling.seed,
                "temperature": ballot.sampling.temperature,
                "top_p": ballot.sampling.top_p,
                "left": EDITED if ballot.swapped else ORIGINAL,
                "answers": {ORIGINAL: original.text, EDITED: edited.text},
            }
        )
        left, right = (EDITED, ORIGINAL) if ballot.swapped else (ORIGINAL, EDITED)
        return f"Kept: {chosen if chosen != SAME else 'no difference'}. Left was the {left}, right the {right} model."

    def tallies(self) -> list[Tally]:
        """What the votes so far say, by criterion in the order of their first vote.

        Raises:
            VotingError: The file cannot be read.
        """
        counts: dict[str, dict[str, int]] = {}
        for criterion, vote in self._votes():
            of_criterion = counts.setdefault(criterion, {EDITED: 0, ORIGINAL: 0, SAME: 0})
            of_criterion[vote] += 1
        return [Tally(criterion, each[EDITED], each[ORIGINAL], each[SAME]) for criterion, each in counts.items()]

    def _votes(self) -> Iterable[tuple[str, str]]:
        if not self._file.exists():
            return
        try:
            lines = read_foreign(self._file, _LARGEST).decode("utf-8").splitlines()
            for line in lines:
                data = reading.table(json.loads(line), "a vote")
                vote = reading.text(data.get("vote"), "vote")
                if vote not in (EDITED, ORIGINAL, SAME):
                    raise ValueError(f"{vote!r} is no vote")
                yield reading.text(data.get("criterion"), "criterion"), vote
        except (OSError, ValueError, RecursionError) as error:
            raise VotingError(f"{self._file} cannot be read as votes ({error}); mend it, or move it away.") from error

    def _append(self, vote: dict[str, Any]) -> None:
        line = json.dumps(vote, ensure_ascii=True) + "\n"
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            # Nobody else's business, as kept conversations are.
            descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as out:
                out.write(line)
        except OSError as error:
            raise VotingError(
                f"The vote cannot be kept in {self._file} ({error.strerror}); see to its disk."
            ) from error


def _criterion(text: str) -> str:
    return " ".join(text.split())[:LONGEST_CRITERION] or USUAL_CRITERION

"""Answers of earlier trials, and how one that was begun went on there. Pure."""

from collections.abc import Sequence


class Drafts:
    """Distinct answers by prompt, the latest first."""

    def __init__(self, prompts: int, end_tokens: frozenset[int], longest: int = 8) -> None:
        self._answers: list[list[tuple[int, ...]]] = [[] for _ in range(prompts)]
        self._end_tokens = end_tokens
        self.longest = longest

    def add(self, prompt: int, answer: Sequence[int]) -> None:
        """Remember an answer, finished or begun."""
        known = self._answers[prompt]
        own = tuple(answer)
        # One that another continues says nothing of its own.
        known[:] = [other for other in known if other != own[: len(other)]]
        if not any(other[: len(own)] == own for other in known):
            known.insert(0, own)

    def after(self, prompt: int, beginning: Sequence[int]) -> tuple[int, ...]:
        """How the latest answer with this beginning went on; empty where none has it."""
        begun = tuple(beginning)
        for answer in self._answers[prompt]:
            if len(answer) > len(begun) and answer[: len(begun)] == begun:
                return answer[len(begun) : len(begun) + self.longest]
        return ()

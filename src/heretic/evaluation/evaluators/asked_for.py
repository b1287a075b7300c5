"""In how many answers all is there that was asked for and can be seen: named parts, list items, labels.

Prompts say it in plain words: parts stand behind the last colon, divided by commas; lists are "numbered" or of
"bullets", with their number in words or digits; labels stand in double quotes.
"""

import re
from collections.abc import Sequence

from heretic.evaluation.evaluator import EVALUATORS, Evaluator
from heretic.prompts.types import Prompt

MOST_ITEMS = 3
"""Of a list so many items are enough: an answer may be cut behind them."""
_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_LABEL = re.compile(r'"([^"]+)"')
_ASKS_FOR_NUMBERS = re.compile(r"\bnumber(?:ed\b| (?!of\b|for\b))")
_NUMBERED = re.compile(r"(?:^|\n)\W*(?:step |point )?(\d+)\W*[.):]", re.IGNORECASE)
_BULLET = re.compile(r"(?:^|\n)\s*[-*\u2022\u2013+]\s+\S")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_DIVIDED = re.compile(r",\s*(?:and |or )?|\s+(?:and|or) ")
_SMALL = frozenset(
    (
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "each",
        "for",
        "from",
        "has",
        "have",
        "in",
        "is",
        "it",
        "its",
        "of",
        "on",
        "one",
        "or",
        "that",
        "the",
        "these",
        "this",
        "to",
        "was",
        "were",
        "what",
        "which",
        "with",
    )
)
"""Words that say nothing of a part."""


@EVALUATORS.decorator("asked_for")
class AskedForEvaluator(Evaluator):
    """Counts answers that hold all that their prompt asks for."""

    counted = "all that was asked for is there"
    counted_lacking = "something is missing that was asked for"
    verdicts = ("complete", "incomplete")

    def amount(self, text: str) -> None:
        """See Evaluator: what is asked for stands in the prompt."""

    def amounts(self, answers: Sequence[tuple[Prompt, str]]) -> list[float]:
        """See Evaluator."""
        return [float(holds_what_was_asked_for(prompt.user, text)) for prompt, text in answers]


def holds_what_was_asked_for(request: str, text: str) -> bool:
    """Whether an answer has the labels, the list or the parts that a request names."""
    lowered = request.casefold()
    labels = _LABEL.findall(request)
    if labels:
        return all(_has_label(label, text) for label in labels)
    if _ASKS_FOR_NUMBERS.search(lowered):
        found = {int(number) for number in _NUMBERED.findall(text)}
        return set(range(1, _items(lowered) + 1)) <= found
    if "bullet" in lowered:
        return len(_BULLET.findall(text)) >= _items(lowered)
    return all_answered(parts_of(request), request, text)


def parts_of(request: str) -> list[str]:
    """What a request names behind its last colon, divided by commas; one part, nothing, where there is no colon."""
    _before, _colon, named = request.rpartition(":")
    return [part for part in _DIVIDED.split(named.strip(" .?!\n")) if part]


def all_answered(parts: Sequence[str], request: str, text: str) -> bool:
    """Whether an answer names each part and says something new beside it, before another part is named."""
    words = [word.casefold() for word in _WORD.findall(text)]
    told = [(place, part) for part in parts for place in _places(part, words)]
    asked = {_stem(word.casefold()) for word in _WORD.findall(request)}
    bounds = sorted(place for place, _part in told)
    answered = set()
    for place, part in told:
        before = max((bound for bound in bounds if bound < place), default=-1)
        behind = min((bound for bound in bounds if bound > place), default=len(words))
        beside = words[before + 1 : place] + words[place + 1 : behind]
        if any(word not in _SMALL and _stem(word) not in asked for word in beside):
            answered.add(part)
    return len(answered) == len(set(parts))


def _places(part: str, words: Sequence[str]) -> list[int]:
    """Where the last word of a part is told that says something."""
    named = [word.casefold() for word in _WORD.findall(part)]
    telling = [word for word in named if word not in _SMALL] or named
    return [place for place, word in enumerate(words) if telling and _stem(word) == _stem(telling[-1])]


def _stem(word: str) -> str:
    """A word without the ending of a plural or a past."""
    word = word.removesuffix("'s")
    for ending in ("ies", "es", "s", "ed", "ing", "y", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: len(word) - len(ending)]
    return word


def _has_label(label: str, text: str) -> bool:
    """Whether an answer writes a label, whatever case and marks it is written in."""
    wanted = " ".join(_WORD.findall(label.casefold()))
    return f" {wanted} " in f" {' '.join(_WORD.findall(text.casefold()))} "


def _items(request: str) -> int:
    """How many items of a list have to be there at least: as many as are asked for, not more than `MOST_ITEMS`."""
    words = _WORD.findall(request)
    counts = [_NUMBERS.get(word, int(word) if word.isdecimal() else 0) for word in words]
    return min(next((count for count in counts if count > 1), 2), MOST_ITEMS)

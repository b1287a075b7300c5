"""Answers that are none: empty, looping, or in another script than the model's own. Pure."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

LONGEST_PERIOD = 32
"""Tokens of a phrase that may be repeated."""
LEAST_REPEATED = 24
"""Tokens at the end of an answer that repeat what stands one period before them."""
LEAST_ROUNDS = 3
"""How often a phrase is repeated, after it was said, before that is a loop."""


def is_empty(text: str) -> bool:
    """Whether a text has neither letter nor digit."""
    return not any(character.isalnum() for character in text)


def is_looping(tokens: Sequence[int]) -> bool:
    """Whether an answer's tokens end in a phrase that is said over and over."""
    for period in range(1, LONGEST_PERIOD + 1):
        repeated = 0
        for index in range(len(tokens) - 1, period - 1, -1):
            if tokens[index] != tokens[index - period]:
                break
            repeated += 1
        if repeated >= max(LEAST_REPEATED, LEAST_ROUNDS * period):
            return True
    return False


def main_script(text: str) -> str | None:
    """The script that most letters of a text belong to, e.g. ``LATIN``; None where there are no letters.

    By the first word of the letters' Unicode names. Scripts that are written together (Han and kana, say) count as one.
    """
    scripts = Counter(_script(character) for character in text if character.isalpha())
    return scripts.most_common(1)[0][0] if scripts else None


_TOGETHER = {"CJK": "HAN", "HIRAGANA": "HAN", "KATAKANA": "HAN", "FULLWIDTH": "LATIN", "MATHEMATICAL": "LATIN"}


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0]
    return _TOGETHER.get(first, first)


def is_other_script(text: str, original: str) -> bool:
    """Whether a text is mostly written in another script than the answer that it is compared with."""
    script, expected = main_script(text), main_script(original)
    return script is not None and expected is not None and script != expected

"""The words of texts, also in scripts that are written without spaces."""

import re
from collections.abc import Sequence

from heretic.observability.events import Warned, emit

WITHOUT_SPACES = {
    "Han": "\u2e80-\u2fd5\u3005-\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af",
    "Hiragana and Katakana": "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9d",
    "Thai": "\u0e01-\u0e4e",
    "Lao": "\u0e81-\u0edf",
    "Khmer": "\u1780-\u17d3",
    "Myanmar": "\u1000-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f",
}
"""Letters, as ranges of characters, of the scripts without spaces that ICU has dictionaries of, by script."""
LONGEST_MEAN = 20.0
"""Characters to a word of many texts from which words are not told apart: German and Finnish have 6 to 9."""

_WITHOUT_SPACES = re.compile(f"[{''.join(WITHOUT_SPACES.values())}]")


def words(text: str) -> list[str]:
    """What spaces separate, and of that the words within, where it holds letters of a script without spaces.

    Those are found by Unicode word boundaries (Unicode Standard Annex 29) with ICU's dictionaries; punctuation between
    them is no word.
    """
    result = []
    for part in text.split():
        # Elsewhere Unicode's boundaries also part "well-known" and "-": published figures and stored studies of English
        # answers would no longer be those of this measure.
        within = _words_within(part) if _WITHOUT_SPACES.search(part) else []
        result += within or [part]
    return result


def count_words(text: str) -> int:
    """How many words a text has; without scripts that are written without spaces, what spaces separate."""
    return len(words(text))


def warn_of_joined_words(behavior: str, texts: Sequence[str]) -> None:
    """Warn where words are so long that they are none: of a script without spaces that no dictionary is of, say.

    Args:
        behavior: What is measured in words.
        texts: The original model's answers.
    """
    length = sum(len("".join(text.split())) for text in texts) / max(sum(map(count_words, texts)), 1)
    if length > LONGEST_MEAN:
        emit(
            Warned(
                f"The original model's answers have {length:.0f} characters a word, so words are not told apart there "
                f"and {behavior}, which is measured in words, cannot be trusted; choose another --behavior, or "
                "--measure-with judge where the pack has hypotheses."
            )
        )


def _words_within(text: str) -> list[str]:
    # Few texts need its dictionaries.
    from icu4py.breakers import WordBreaker

    return [piece for piece in WordBreaker(text, "root") if any(map(str.isalnum, piece))]

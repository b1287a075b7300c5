"""How refusals are worded: patterns by language and meaning, and the normalised text that they are matched against.

The patterns are data, one file a language in `wordings/`. A file has a table of regular expressions for each meaning:
those in ``anywhere`` may stand anywhere in an answer, those in ``opening`` begin it (behind any number of ``lead``),
those in ``whole`` are all of it. ``<name>`` stands for what ``fragments`` says. A file is looked at where its ``signs``
are in the text: letters, or words of the language and what stands behind them.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from heretic.common.errors import ConfigurationError
from heretic.config.sections import MarkerOptions
from heretic.config.sources import parse_toml

LANGUAGES = ("en", "zh", "es", "fr", "de", "pt", "ru", "ja", "ko", "ar")
VERSION_0_1 = "version_0_1"
"""What studies of version 0.1 were measured by: a file of English patterns, and what it took for speech."""

_STRICT = ("inability", "unwillingness", "policy")
_MODERATE = (*_STRICT, "reluctance", "advice")
MEANINGS_BY_MODE = {"strict": _STRICT, "moderate": _MODERATE, "lenient": (*_MODERATE, "deflection")}
"""What each detection mode counts as a refusal; later modes count more."""

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'", "\u201c": '"', "\u201d": '"'})
_EMPHASIS = re.compile(r"[*_~#]+")
_SPACE = re.compile(r"\s+")
_VOWEL_SIGNS = {code: None for code in (0x640, *range(0x64B, 0x653))}
_FOLDED = (
    str.maketrans(
        {
            **dict.fromkeys("\u201e\u201f\u00ab\u00bb\u300c\u300d\u300e\u300f", '"'),
            **dict.fromkeys("\u0622\u0623\u0625", "\u0627"),
            "\u0649": "\u064a",
            "\u0451": "\u0435",
            "\uff61": "\u3002",
        }
    )
    | _VOWEL_SIGNS
)
"""One quotation mark for all; Arabic and Russian letters that are often written without their marks."""

_SPEECH_0_1 = re.compile(r'(?<=[:,] )"[^"]*(?:"|$)')
"""What a character says: the answer's own words begin with a quotation mark at most, not behind a colon or comma."""
_SPEECH = re.compile(r'(?<![0-9a-z\u00c0-\u024f\u0400-\u04ff])"[^"]*(?:"|$)')
"""What others say; inches and feet aside, any quotation."""
_ALL_QUOTED = re.compile(r'"([^"]*)"?[\s.!?\u3002]*')
"""An answer that is one quotation is the model's own."""

REMEMBERED = 2**14
"""Verdicts that a detector keeps."""
REACH = 80
"""Characters that a pattern looks ahead at most; none looks beyond the end of a sentence."""
_SETTLES = re.compile(rf"[.!?\u3002]|.{{{REACH}}}", re.DOTALL)
"""Behind a match: nothing that follows this can change it."""
_ENDS = r"[\s.!?\u3002\u2026]*$"
_FRAGMENT = re.compile(r"<(\w+)>")


def normalized(text: str) -> str:
    """Lower case, ASCII quotes, no emphasis marks, single spaces, compatibility characters resolved."""
    plain = unicodedata.normalize("NFKC", text).translate(_QUOTES).lower()
    return _SPACE.sub(" ", _EMPHASIS.sub("", plain)).strip()


def _any_of(patterns: Iterable[str]) -> str:
    return "|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)"


@cache
def _file(name: str) -> Mapping[str, Any]:
    text = (Path(__file__).parent / "wordings" / f"{name}.toml").read_text(encoding="utf-8")
    content: Mapping[str, Any] = parse_toml(text)
    return content


def _patterns(name: str, meanings: Sequence[str]) -> Iterator[str]:
    """Regular expressions of some meanings, in the file's order."""
    file = _file(name)
    fragments = file.get("fragments", {})

    def resolved(pattern: str) -> str:
        while "<" in pattern and (replaced := _FRAGMENT.sub(lambda match: fragments[match[1]], pattern)) != pattern:
            pattern = replaced
        return pattern.translate(_FOLDED)

    start = f"^(?:{resolved(file.get('lead', '(?!)'))})*"
    for meaning in meanings:
        forms = file.get(meaning, {})
        yield from (resolved(pattern) for pattern in forms.get("anywhere", ()))
        yield from (start + resolved(f"(?:{pattern})") for pattern in forms.get("opening", ()))
        yield from (start + resolved(f"(?:{pattern})") + _ENDS for pattern in forms.get("whole", ()))


@dataclass(frozen=True, slots=True)
class _Compiled:
    """Patterns of one language, or those that a user gave.

    Attributes:
        every: All patterns.
        lasting: Those that nothing behind their match can take back.
        looking: Those that look ahead, as far as the end of the sentence.
    """

    every: re.Pattern[str]
    lasting: re.Pattern[str]
    looking: re.Pattern[str]

    @classmethod
    def of(cls, patterns: Sequence[str]) -> "_Compiled":
        """Compile."""
        open_ended = [pattern for pattern in patterns if not pattern.endswith("$") and "|$" not in pattern]
        return cls(
            re.compile(_any_of(patterns)),
            re.compile(_any_of(pattern for pattern in open_ended if "(?!" not in pattern)),
            re.compile(_any_of(pattern for pattern in open_ended if "(?!" in pattern)),
        )

    def settles(self, text: str) -> bool:
        """Whether a match in a text outlasts all that may follow it."""
        lasting = self.lasting.search(text)
        if lasting is not None and lasting.end() < len(text):
            return True
        return any(_SETTLES.search(text, match.end()) for match in self.looking.finditer(text))


@cache
def _language(name: str, mode: str) -> _Compiled:
    return _Compiled.of(list(_patterns(name, MEANINGS_BY_MODE[mode])))


@cache
def _signs(name: str) -> re.Pattern[str]:
    """A text without a match holds none of a language's patterns, which need not be compiled for it."""
    return re.compile(_file(name).get("signs", ""))


_BUILT_IN = MarkerOptions()


class RefusalDetector:
    """Compiled patterns; an empty answer is a refusal in every mode.

    Attributes:
        is_refusal: Whether an answer declines, evades, or says nothing.
        is_settled: Whether every answer that begins like this is a refusal.
    """

    is_refusal: Callable[[str], bool]
    is_settled: Callable[[str], bool]

    def __init__(self, options: MarkerOptions = _BUILT_IN) -> None:
        """Args: options: whose plain phrases replace the patterns of its mode where there are any.

        Raises:
            ConfigurationError: A phrase is empty.
        """
        markers = [normalized(marker) for marker in options.refusal_markers]
        if not all(markers):
            raise ConfigurationError("A refusal marker is empty; it would count every answer as a refusal.")
        self._mode = options.refusal_detection_mode
        self._given = [re.escape(marker) for marker in markers]
        self._compiled = _Compiled.of(self._given) if markers else None
        self._first_version = options.refusal_patterns == "0.1"
        self._names = (VERSION_0_1,) if self._first_version else LANGUAGES
        # Greedy answers, and even more so their beginnings, repeat from candidate to candidate and from trial to trial.
        self.is_refusal = lru_cache(REMEMBERED)(self._is_refusal)
        self.is_settled = lru_cache(REMEMBERED)(self._is_settled)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the patterns: counts of refusals compare only where it is the same."""
        if self._given:
            return _hashed(_any_of(self._given), "")
        parts = [_any_of(_patterns(name, MEANINGS_BY_MODE[self._mode])) for name in self._names]
        if self._first_version:
            return _hashed(*parts, _SPEECH_0_1.pattern)
        signs = [_file(name)["signs"] for name in self._names]
        return _hashed(*parts, *signs, _SPEECH.pattern, _ALL_QUOTED.pattern, repr(sorted(_FOLDED.items())))

    def _is_refusal(self, response: str) -> bool:
        text = normalized(response)
        if not any(character.isalnum() for character in text):
            return True
        quoted = _ALL_QUOTED.fullmatch(self._folded(text))
        text = quoted[1].strip() if quoted and self._reads_quotations else self._searched(text)
        return any(part.every.search(text) for part in self._parts(f"{text} "))

    def _is_settled(self, beginning: str) -> bool:
        # A match counts once the text goes on behind it: at the very end its last word may still grow, and its last
        # letter may still get marks.
        text = normalized(beginning)
        while text and unicodedata.combining(text[-1]):
            text = text[:-1]
        text = self._searched(text)
        return any(part.settles(text) for part in self._parts(text))

    @property
    def _reads_quotations(self) -> bool:
        return self._compiled is None and not self._first_version

    def _parts(self, text: str) -> Iterator[_Compiled]:
        if self._compiled is not None:
            yield self._compiled
            return
        for name in self._names:
            if _signs(name).search(text):
                yield _language(name, self._mode)

    def _folded(self, text: str) -> str:
        return text.translate(_FOLDED) if self._reads_quotations else text

    def _searched(self, text: str) -> str:
        """Normalised text without what others say in it; a quotation that has begun stays out however it goes on."""
        if self._compiled is not None:
            return text
        return (_SPEECH if self._reads_quotations else _SPEECH_0_1).sub('""', self._folded(text))


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

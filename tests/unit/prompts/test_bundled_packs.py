"""The packs that come with Heretic: counts, pairs, parts that share nothing, patterns that find what they should."""

import re
import sys
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import pytest

from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS
from heretic.evaluation.evaluators.asked_for import holds_what_was_asked_for, parts_of
from heretic.evaluation.marks import Marks
from heretic.prompts.packs import ROLES, Pack, bundled_behaviors, find_pack
from heretic.prompts.sources import load_prompt_set
from heretic.prompts.text_files import BUNDLED_FOLDER, BUNDLED_PREFIX
from heretic.run.preflight import preflight

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

PAIRED = ("flattery", "hedging", "meta-commentary", "sycophancy", "verbosity")
"""Whose lines of the same number ask the same question, once to show the behaviour and once not to."""
COUNTS = {"train": 80, "evaluation": 40, "held_out": 40}
MORE = {"train": 100, "evaluation": 50, "held_out": 50}
KEPT = {
    ("hedging", "warranted-doubt"): COUNTS,
    ("meta-commentary", "structure"): COUNTS,
    ("over-refusal", "abstention"): COUNTS,
    ("sycophancy", "true-claims"): MORE,
    ("verbosity", "completeness"): COUNTS,
}
EXAMPLES = Path(__file__).parent / "behaviors"
DENSITY = ("flattery", "hedging", "meta-commentary")
OFFLINE = sorted(set(bundled_behaviors()) - {"refusal"})
"""All but the one whose prompts are on the hub."""


def lines_of(name: str, side: str, part: str) -> list[str]:
    return (BUNDLED_FOLDER / name / side / f"{part}.txt").read_text(encoding="utf-8").splitlines()


def plain(text: str) -> str:
    """Words alone."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def examples(name: str) -> dict[str, list[str]]:
    path = EXAMPLES / f"{name.replace('-', '_')}_examples.toml"
    found: dict[str, list[str]] = tomllib.loads(path.read_text(encoding="utf-8"))
    return found


def test_every_pack_is_tested_here() -> None:
    assert set(bundled_behaviors()) == {"demo", "over-refusal", "refusal", *PAIRED}
    assert {name for name in bundled_behaviors() if find_pack(name).evaluator == "density"} == set(DENSITY)
    assert {path.name.removesuffix("_examples.toml") for path in EXAMPLES.glob("*.toml")} == {
        name.replace("-", "_") for name in DENSITY
    }


@pytest.mark.parametrize("name", bundled_behaviors())
def test_a_pack_says_what_it_is_in_plain_sentences(name: str) -> None:
    pack = find_pack(name)
    assert pack.name == name
    EVALUATORS.get(pack.evaluator)
    for text in (pack.description, pack.card):
        assert text.isascii()
        assert text[0].isupper()
        assert text.endswith((".", ")"))
    text = bundled_behaviors()[name].read_text(encoding="utf-8")
    assert text.isascii()
    assert text.startswith("# ")


@pytest.mark.parametrize("name", OFFLINE)
def test_a_pack_can_be_run_as_it_is(name: str) -> None:
    prompts = preflight(Settings(model="demo", behavior=[name]))
    for sets in (prompts.baseline, prompts.target, prompts.baseline_evaluation, prompts.target_evaluation):
        assert len(sets) >= 10


def sides(pack: Pack) -> dict[str, dict[str, list[str]]]:
    """Texts by side and part, of the sets that come with the package."""
    found: dict[str, dict[str, list[str]]] = {"good": {}, "bad": {}}
    for role in ROLES:
        own = pack.prompts[role]
        assert own.dataset.startswith(BUNDLED_PREFIX)
        prompts = load_prompt_set(role, own, None).prompts
        # Case and spacing do not count.
        found[role.split("_")[0]][role] = [" ".join(prompt.user.casefold().split()) for prompt in prompts]
    return found


@pytest.mark.parametrize("name", OFFLINE)
def test_no_prompt_stands_in_two_parts_or_twice_in_one(name: str) -> None:
    for parts in sides(find_pack(name)).values():
        texts = [text for part in parts.values() for text in part]
        assert len(parts) == 3
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("part", COUNTS)
@pytest.mark.parametrize("name", PAIRED)
def test_a_part_has_its_number_of_tidy_lines(name: str, part: str) -> None:
    for side in ("target", "baseline"):
        lines = lines_of(name, side, part)
        assert len(lines) == (MORE if name == "sycophancy" else COUNTS)[part]
        assert_tidy(lines)


def assert_tidy(lines: list[str]) -> None:
    for line in lines:
        assert line.isascii()
        assert line == line.strip()
        assert len(line.split()) >= 3
        assert not re.match(r"(\d+[.)]|[-*]) ", line), "numbered, or a list"


def test_every_kept_set_is_tested_here() -> None:
    kept = {(name, each.name): each for name in bundled_behaviors() for each in find_pack(name).keep}
    assert kept.keys() == KEPT.keys()
    for each in kept.values():
        assert not EVALUATORS.get(each.evaluator).unit


@pytest.mark.parametrize(("name", "kept"), KEPT)
def test_a_kept_set_has_its_number_of_tidy_lines(name: str, kept: str) -> None:
    for part, count in KEPT[name, kept].items():
        lines = lines_of(name, f"keep/{kept}", part)
        assert len(lines) == count
        assert_tidy(lines)


def test_no_prompt_shows_one_behaviour_and_is_kept_or_shows_another() -> None:
    texts = Counter(
        plain(line)
        for file in BUNDLED_FOLDER.glob("**/*.txt")
        if "target" in file.parts or "keep" in file.parts
        for line in file.read_text(encoding="utf-8").splitlines()
    )
    assert [text for text, times in texts.items() if times > 1] == []


@pytest.mark.parametrize("part", MORE)
def test_claims_have_a_false_and_a_true_twin_in_the_same_words(part: str) -> None:
    false, true = lines_of("sycophancy", "target", part), lines_of("sycophancy", "keep/true-claims", part)
    for one, other in zip(false, true, strict=True):
        assert plain(one) != plain(other)
        # What stands around the claim is the same, from the first word or to the last one.
        first, second = plain(one).split(), plain(other).split()
        assert first[0] == second[0]
        assert first[-1] == second[-1]


@pytest.mark.parametrize("part", COUNTS)
def test_complete_and_structured_answers_can_be_told_from_others(part: str) -> None:
    """Every prompt asks for something that an answer without any structure or part has not."""
    for prompt in (
        *lines_of("verbosity", "keep/completeness", part),
        *lines_of("meta-commentary", "keep/structure", part),
    ):
        assert not holds_what_was_asked_for(prompt, "Many things could be said of that, and all of them are fine.")
    for prompt in lines_of("verbosity", "keep/completeness", part):
        parts = parts_of(prompt)
        assert 2 <= len(parts) <= 4
        assert holds_what_was_asked_for(prompt, " ".join(f"{part}: zebra{place}." for place, part in enumerate(parts)))


DOUBTS = (
    "It is not known for sure.",
    "Nobody knows what he looked like.",
    "Historians disagree about this.",
    "I cannot predict the future.",
    "It depends on the soil.",
    "The cause may be a loose bolt.",
    "The true number is estimated at ten million.",
    "It is believed to be the oldest one.",
    "There is no definitive answer to this.",
    "This remains one of the great mysteries; the reason is unclear.",
)
CERTAINTIES = (
    "He was buried in Seville.",
    "Yes, it will rain in London on that day.",
    "The answer is 42.",
    "The city was abandoned because of a war.",
    "Cats purr when they are happy.",
)


def test_patterns_of_warranted_doubt_find_doubt_and_nothing_else() -> None:
    (kept,) = find_pack("hedging").keep
    marks = Marks(kept.options.further["patterns"])
    assert [text for text in DOUBTS if not marks.count(text)] == []
    assert [text for text in CERTAINTIES if marks.count(text)] == []


def question(showing: str, without: str) -> tuple[str, ...]:
    """The longest run of words that two lines share."""
    first, second = plain(showing).split(), plain(without).split()
    match = SequenceMatcher(None, first, second, autojunk=False).find_longest_match()
    return tuple(first[match.a : match.a + match.size])


@pytest.mark.parametrize("part", COUNTS)
@pytest.mark.parametrize("name", PAIRED)
def test_lines_of_the_same_number_ask_the_same_question(name: str, part: str) -> None:
    """Each is nearer to its own counterpart than to any other, by the words that few lines have."""
    target, baseline = (lines_of(name, side, part) for side in ("target", "baseline"))
    words = [set(plain(line).split()) for line in baseline]
    frequency = Counter(word for own in words for word in own)
    for number, (showing, without) in enumerate(zip(target, baseline, strict=True)):
        assert plain(showing) != plain(without)
        assert len(question(showing, without)) >= 3, (showing, without)
        own = set(plain(showing).split())
        nearness = [sum(1 / frequency[word] for word in own & other) for other in words]
        assert max(range(len(words)), key=nearness.__getitem__) == number, (showing, without)


@pytest.mark.parametrize("name", PAIRED)
def test_questions_are_not_asked_again_in_another_part(name: str) -> None:
    """What a pair has in common is its question."""
    every = [
        question(showing, without)
        for part in COUNTS
        for showing, without in zip(lines_of(name, "target", part), lines_of(name, "baseline", part), strict=True)
    ]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("name", DENSITY)
def test_patterns_find_what_shows_the_behaviour_and_nothing_else(name: str) -> None:
    marks, known = Marks(find_pack(name).options.patterns), examples(name)
    assert min(len(known["shows"]), len(known["lacks"])) >= 40
    assert [text for text in known["shows"] if not marks.count(text)] == []
    assert [
        (text, [text[start:end] for start, end in marks.spans(text)]) for text in known["lacks"] if marks.count(text)
    ] == []


@pytest.mark.parametrize("name", DENSITY)
def test_every_pattern_finds_something(name: str) -> None:
    shows = examples(name)["shows"]
    for pattern in find_pack(name).options.patterns:
        assert any(Marks((pattern,)).count(text) for text in shows), pattern


@pytest.mark.parametrize("name", DENSITY)
def test_patterns_come_to_an_end_on_texts_that_hold_them_up(name: str) -> None:
    """Answers of a broken edit repeat themselves, words of the patterns too; the suite's time limit is this test's."""
    marks = Marks(find_pack(name).options.patterns)
    words = sorted({word for text in examples(name)["shows"] for word in text.split()})
    for text in (
        " ".join(words) * 3,
        "that is such a really " * 200,
        "a" * 5000,
        " " * 5000,
        "I'm so " * 500,
        "!" * 5000,
    ):
        assert marks.count(text) >= 0


@pytest.mark.parametrize("name", DENSITY)
def test_instructions_of_the_prompts_are_no_marks_by_themselves(name: str) -> None:
    """Questions are not what is measured, but a pattern that matches most of them would match ordinary text."""
    marks = Marks(find_pack(name).options.patterns)
    questions = lines_of(name, "target", "evaluation")
    assert sum(bool(marks.count(question)) for question in questions) <= len(questions) // 4

"""Words: what spaces separate, and in scripts without spaces what dictionaries tell apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.passes.pico_runner import PROMPT_SET

from heretic.config import Settings
from heretic.evaluation.evaluator import EVALUATORS, EvaluatorOptions
from heretic.evaluation.pack_check import _are_pairs
from heretic.evaluation.words_of_texts import count_words, warn_of_joined_words, words
from heretic.observability.events import Event, Warned, subscribed
from heretic.prompts.packs import PackOptions
from heretic.prompts.types import Prompt, PromptSet

CHINESE = "我今天早上去超市买了一些水果和蔬菜。"
SCRIPTS_WITH_SPACES = st.text(
    st.characters(max_codepoint=0x0DFF, exclude_categories=["Cs"])
    | st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CHINESE, "我 今天 早上 去 超市 买 了 一些 水果 和 蔬菜"),
        ("今日は朝からスーパーで果物", "今日 は 朝 から スーパー で 果物"),
        ("วันนี้ฉันไปตลาดซื้อผลไม้", "วัน นี้ ฉัน ไป ตลาด ซื้อ ผล ไม้"),
        ("ຂ້ອຍໄປຕະຫຼາດມື້ນີ້", "ຂ້ອຍ ໄປ ຕະຫຼາດ ມື້ນີ້"),
        ("ខ្ញុំទៅផ្សារនៅថ្ងៃនេះ", "ខ្ញុំ ទៅ ផ្សារ នៅ ថ្ងៃនេះ"),
        ("ကျွန်တော်ဒီနေ့", "ကျွန်တော် ဒီ နေ့"),
        # Beside other scripts; what has no such letter is what spaces separate.
        ("用 well-known Python3.10 来写代码。好", "用 well-known Python3.10 来 写 代码 好"),
        ("한국어 문장은 띄어쓰기를 한다.", "한국어 문장은 띄어쓰기를 한다."),
        ("・", "・"),
    ],
)
def test_words_by_script(text: str, expected: str) -> None:
    assert words(text) == expected.split()


def test_a_long_answer_in_chinese_has_many_words() -> None:
    answer = CHINESE * 26
    assert len(answer) == 468
    assert count_words(answer) == 26 * 11
    assert [count_words(text) for text in ("", " \n", "。")] == [0, 0, 1]


@given(SCRIPTS_WITH_SPACES)
def test_of_scripts_with_spaces_words_are_what_spaces_separate(text: str) -> None:
    """Latin, Greek, Cyrillic, Hebrew, Arabic, the scripts of India, Hangul: stored figures stay true."""
    assert count_words(text) == len(text.split())


@pytest.mark.parametrize(("name", "value"), [("length", 22.0), ("density", 100 * 2 / 110)])
def test_evaluators_count_these_words(name: str, value: float) -> None:
    answers = [CHINESE * 2, *[CHINESE * 10] * 4] if name == "density" else [CHINESE * 2] * 5
    evaluator = EVALUATORS.get(name)(
        PROMPT_SET, answers, EvaluatorOptions(Settings(), PackOptions(patterns=("^我今天早上", "蔬菜。$")), "hedging")
    )
    assert evaluator.amount(answers[-1]) == pytest.approx(value)


@pytest.mark.parametrize("name", ["length", "density"])
def test_words_that_are_not_told_apart_are_said_once(name: str) -> None:
    options = EvaluatorOptions(Settings(), PackOptions(patterns=("maybe",)), "hedging")
    events: list[Event] = []
    with subscribed(events.append):
        evaluator = EVALUATORS.get(name)
        evaluator(PROMPT_SET, ["wordswithoutanyspacebetweenthem"] * 5, options)
        # Held-out answers of the same model.
        evaluator(PROMPT_SET, ["wordswithoutanyspacebetweenthem"] * 5, EvaluatorOptions(**vars_of(options), tokens=40))
        evaluator(PROMPT_SET, ["", "Donaudampfschifffahrtsgesellschaft heißt das Wort.", "a", "b", CHINESE], options)
    (warning,) = [event.message for event in events if isinstance(event, Warned)]
    assert "31 characters a word" in warning
    assert "hedging" in warning


def vars_of(options: EvaluatorOptions) -> dict[str, object]:
    return {"settings": options.settings, "pack": options.pack, "behavior": options.behavior}


def test_of_answers_without_a_word_nothing_is_said() -> None:
    events: list[Event] = []
    with subscribed(events.append):
        warn_of_joined_words("hedging", ["", " "])
    assert events == []


def test_prompts_without_spaces_are_pairs_by_their_words() -> None:
    target, baseline = (
        PromptSet(role, tuple(Prompt(f"{CHINESE}{more}") for more in endings))
        for role, endings in (("bad_prompts", ("请详细回答", "越长越好")), ("good_prompts", ("请简短回答", "一句话")))
    )
    assert _are_pairs(target, baseline)
    assert not _are_pairs(target, PromptSet("good_prompts", tuple(Prompt("天空为什么是蓝色的") for _ in range(2))))

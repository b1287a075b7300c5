import re

from heretic.web import markup
from heretic.web.conversation import Answer, Conversation, Turn

NASTY = "<script>x()</script> ![a](http://b/c.png) ${x} {{y}} `z` <img src=q onerror=r> \x1b[31m"


def test_foreign_text_has_neither_tags_nor_templates() -> None:
    turn = Turn(NASTY, (Answer(f"<think>{NASTY}</think>{NASTY}", 0.0), Answer(NASTY, 0.5)))
    html = markup.transcript(Conversation("", "", (turn,)))
    assert set(re.findall(r"<(\w+)", html)) <= {
        "section",
        "div",
        "article",
        "h4",
        "details",
        "summary",
        "footer",
        "mark",
    }
    assert not set("${}`\x1b") & set(html)
    assert not re.search(r"<[^>]*(onerror|src)", html)


def test_words_that_differ_are_marked_in_both_columns() -> None:
    first, second = markup.marked("I can help you.", "I cannot help you, sorry.")
    assert first == "I <mark>can</mark> help you."
    assert second == "I <mark>cannot</mark> help you<mark>, sorry</mark>."
    assert markup.marked("same & same", "same & same") == ("same &amp; same",) * 2


def test_scripts_without_spaces_are_compared_letter_by_letter() -> None:
    assert markup.marked("我不能帮你", "我能帮你")[0] == "我<mark>不</mark>能帮你"


def test_very_long_answers_are_shown_unmarked() -> None:
    long = "a " * markup.MOST_COMPARED
    assert markup.marked(long, "b") == (long, "b")


def test_nothing_is_marked_while_an_answer_is_written() -> None:
    conversation = Conversation("", "", (Turn("q", (Answer("a b", 0.0), Answer("a c", 1.0))),))
    assert "<mark>" not in markup.transcript(conversation, writing=True)
    assert markup.transcript(conversation).count("<mark>") == 2


def test_facts_of_an_answer() -> None:
    facts = markup.facts(Answer("x", tokens=10, context=20, seconds=2.0, end="stopped"))
    assert facts == "10 tokens, 5.0 tokens/s, context 30 tokens, stopped"
    assert markup.facts(Answer("")) == "0 tokens, context 0 tokens"

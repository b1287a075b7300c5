"""What was asked for and can be seen in an answer: parts, list items, labels."""

import pytest

from heretic.evaluation.evaluators.asked_for import holds_what_was_asked_for, parts_of

CAPITALS = "Name the capital of each of these countries: Italy, Norway and Greece."
STEPS = "Explain in three numbered steps how to make a cup of tea."
BULLETS = "List four kinds of bread as bullets."
LABELS = 'Write a joke with the labels "Setup:" and "Punchline:".'


def test_parts_stand_behind_the_last_colon() -> None:
    assert parts_of(CAPITALS) == ["Italy", "Norway", "Greece"]
    assert parts_of("Tell me: what are these: red and white, sea or land?") == ["red", "white", "sea", "land"]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (CAPITALS, "The capital of Italy is Rome, that of Norway is Oslo, and Greece has Athens."),
        (CAPITALS, "Italy: Rome, Norway: Oslo, Greece: Athens."),
        (CAPITALS, "Rome (Italy), Oslo (Norway), Athens (Greece)"),
        (CAPITALS, "- **Greece**: Athens\n- **Italy**: Rome\n- **Norway**: Oslo"),
        ("What are these used for: hammer, saws?", "Hammers drive nails. A saw cuts wood."),
        ("What is the square of each of these numbers: two, five?", "The square of two is 4, that of five 25."),
        (STEPS, "1. Boil water.\n2. Add the tea.\n3. Wait."),
        (STEPS, "Step 1: Boil water.\n**Step 2:** Add the tea.\nStep 3: Wait and"),
        (BULLETS, "Kinds of bread:\n- Rye\n- White\n- Flat"),
        (LABELS, "**Setup:** Why did it?\n\n**Punchline**: It did."),
        ('Begin with "Of course" and name a river.', "Of course! The Nile."),
    ],
)
def test_all_that_was_asked_for_is_there(request_: str, text: str) -> None:
    assert holds_what_was_asked_for(request_, text)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (CAPITALS, ""),
        (CAPITALS, "The capital of Italy is Rome, and that of Norway is Oslo."),
        (CAPITALS, "Italy, Norway and Greece are countries of Europe."),
        (CAPITALS, "Each of these countries, Italy, Norway, Greece, has a capital."),
        (STEPS, "Boil water, add the tea and wait."),
        (STEPS, "1. Boil water.\n2. Add the tea."),
        (BULLETS, "Rye, white, flat and sour bread."),
        (BULLETS, "- Rye\n- White"),
        (LABELS, "Setup: Why did it? It did."),
    ],
)
def test_something_is_missing(request_: str, text: str) -> None:
    assert not holds_what_was_asked_for(request_, text)


@pytest.mark.parametrize("wanted", ["two", "2"])
def test_a_list_needs_no_more_items_than_are_asked_for(wanted: str) -> None:
    assert holds_what_was_asked_for(f"Explain in {wanted} numbered points how a candle burns.", "1. Wax\n2. Air")

"""The card's section about abilities, from plain JSON."""

import json

from tests.unit.interface.test_console import CAPABILITY

from heretic.export.capability_card import capability_lines


def stored(**changes):
    """As it comes back from a file."""
    return json.loads(json.dumps({**CAPABILITY, **changes}))


def test_tables_have_as_many_cells_as_headings_everywhere():
    tables = [line for line in "\n".join(capability_lines(stored())).splitlines() if line.startswith("|")]
    assert {line.count("|") - 1 for line in tables[:4]} == {5}
    assert {line.count("|") - 1 for line in tables[4:]} == {6}
    assert len(tables) == 4 + 5


def test_numbers_of_questions_and_benchmarks():
    text = "\n".join(capability_lines(stored()))
    assert text.startswith("## What the model can still do\n\n")
    assert "| **overall** | 2 | 100.0 % | 50.0 % | -50.0 (" in text
    assert "| `high_school_computer_science` | 2 | 100.0 % |" in text
    assert "questions of `cais/mmlu` with four choices, after 3 worked examples" in text
    assert "Answers that became wrong: 1, right: 0 (exact McNemar test: p = 1)" in text
    assert "the first 20 items of each task" in text
    assert (
        "| `arc_easy` | `acc_norm, higher is better` | 20 | 0.5000 +- 0.1000 | 0.2500 +- 0.1000 | -0.2500 (-0.5" in text
    )
    assert "| `gsm8k` | `exact_match, strict-match, higher is better` | 9 |" in text
    assert "| `wikitext` | `word_perplexity, lower is better` | 9 | 12.5000 | 13.5000 | +1.0000 |" in text
    assert text.isascii()


def test_fewer_examples_somewhere_are_said():
    questions = {**CAPABILITY["questions"], "few_shot": {"a": 3, "b": 1}}
    assert "after 1 to 3 worked examples" in "\n".join(capability_lines(stored(questions=questions)))


def test_foreign_names_cannot_break_out_of_their_cell():
    source = "x` | y\n# z"
    lines = capability_lines(stored(questions={**CAPABILITY["questions"], "source": source}))
    assert "of `x' / y # z` with" in lines[2]


def test_what_was_not_measured_is_not_mentioned():
    assert capability_lines(stored(questions=None, benchmarks=[])) == []
    assert "Multiple-choice" not in "\n".join(capability_lines(stored(questions=None)))
    assert "Harness" not in "\n".join(capability_lines(stored(benchmarks=[])))
    assert "the first" not in "\n".join(capability_lines(stored(benchmark_limit=None)))

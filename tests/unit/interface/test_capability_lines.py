"""The capability table lines up, and says what was not measured in no row."""

from tests.unit.interface.test_console import CAPABILITY, report

from heretic.interface.rows import rows
from heretic.observability.events import CapabilityMeasured, CapabilityStarted


def texts(event):
    return [row.text for row in rows(event)]


def test_what_is_measured_is_said_first():
    assert texts(CapabilityStarted("edited", "cais/mmlu", 240, ("arc_easy", "gsm8k"))) == [
        "edited model: 240 questions of cais/mmlu",
        "edited model: arc_easy, gsm8k",
    ]
    assert texts(CapabilityStarted("edited", "", 0, ("arc_easy",))) == ["edited model: arc_easy"]


def test_columns_line_up_and_long_names_take_a_row_of_their_own():
    lines = texts(CapabilityMeasured(CAPABILITY, 62.0))
    header = lines[0]
    assert header.split() == ["right", "answers", "base", "edited", "difference", "(95", "%)"]
    (overall,) = [line for line in lines if line.startswith("overall")]
    for word, value in (("base", "100.0 %"), ("edited", "50.0 %")):
        assert header.index(word) + len(word) == overall.index(value) + len(value)
    at = lines.index("high_school_computer_science")
    assert lines[at + 1].split()[:2] == ["100.0", "%"]
    assert lines[at + 1].index("100.0 %") == overall.index("100.0 %")


def test_intervals_standard_errors_or_neither():
    lines = texts(CapabilityMeasured(CAPABILITY, 62.0))
    arc = next(line for line in lines if line.startswith("arc_easy acc_norm"))
    assert arc.split()[2:] == ["0.500", "0.250", "-0.250", "(-0.500", "to", "+0.100)"]
    at = lines.index("gsm8k exact_match (strict-match)")
    assert lines[at + 1].split() == ["0.500", "0.250", "-0.250", "(+-0.100,", "+-0.100)"]
    at = lines.index("wikitext word_perplexity")
    assert lines[at + 1].split() == ["12.500", "13.500", "+1.000"]


def test_only_benchmarks_and_only_questions():
    alone = texts(CapabilityMeasured({**CAPABILITY, "questions": None}, 1.0))
    assert alone[0].startswith("benchmark")
    assert not any("question" in line for line in alone)
    questions = texts(CapabilityMeasured({**CAPABILITY, "benchmarks": []}, 1.0))
    assert not any("benchmark" in line for line in questions)


def test_the_console_prints_the_table():
    assert "overall                100.0 %  50.0 %" in report(CapabilityMeasured(CAPABILITY, 62.0))

"""What two checks of one trial found together."""

from typing import Any

from heretic.checks.further_checks import joined


def found(questions: Any = None, **benchmarks: float) -> dict[str, Any]:
    measures = [{"task": task, "edited": value} for task, value in benchmarks.items()]
    return {"questions": questions, "benchmarks": measures, "benchmark_limit": None}


def test_the_first_check_stands_alone() -> None:
    assert joined(None, found("q")) == found("q")


def test_a_later_check_keeps_what_it_does_not_measure() -> None:
    assert joined(found("q", a=1.0), found(b=2.0)) == found("q", a=1.0, b=2.0)
    assert joined(found(a=1.0), found("q")) == found("q", a=1.0)


def test_of_what_both_measured_the_later_numbers_count() -> None:
    assert joined(found("old", a=1.0, b=1.0), found("new", b=2.0)) == found("new", a=1.0, b=2.0)

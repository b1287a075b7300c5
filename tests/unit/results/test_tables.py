"""Tables as cells: what is shown of results, before anybody lays it out."""

from dataclasses import replace

from tests.unit.measured import capability, counted, divergence, held_out, kept, measured, trial, words
from tests.unit.search.studies import record, several

from heretic.results import tables
from heretic.results.held_out import Estimate
from heretic.results.plan import EditPlan, Schedule, Scope
from heretic.results.score import AnswerDetails, Scores
from heretic.results.tables import Row, Table, score_interval


def cells(table: Table) -> list[tuple[str, ...]]:
    return [row.cells for row in table.rows]


def column(table: Table, heading: str) -> dict[str, str]:
    """By the name of the row; of equal names the first."""
    place = table.header.index(heading)
    return {row.cells[0]: row.cells[place] for row in reversed(table.rows) if not row.is_group}


def test_a_trial_is_a_row_with_every_number() -> None:
    records = [several(3, 4, 20.5, 0.25), several(4, 40, 2.5, 0.125)]
    table = tables.trials(records, marked=4)
    assert table.header == ("Trial", "refusals", "words", "KL (nats)", "95th percentile", "Same top token")
    assert cells(table) == [
        ("4", "4/100", "20.5", "0.2500", "0.5000", "-"),
        ("5", "40/100", "2.50", "0.1250", "0.2500", "-"),
    ]
    assert [row.is_marked for row in table.rows] == [False, True]
    *trials, original = tables.trials(records, marked=4, with_original=True).rows
    assert trials == list(table.rows)
    assert original.cells == ("original", "50/100", "20.0", "0", "0", "100.0 %")
    assert tables.trials([]).rows == ()


def test_held_out_values_stand_beside_those_of_their_trial() -> None:
    table = tables.trials([trial(), trial(number=3)], held_out={11: held_out()}).without(*tables.SPREAD)
    assert table.header == ("Trial", "refusals", "KL (nats)", "Held out")
    assert cells(table) == [("12", "3/100", "0.0123", "8/100, KL 0.0234"), ("4", "3/100", "0.0123", "")]
    assert "Held out" not in tables.trials([trial()], held_out={}).header


def test_scores_have_an_interval_where_answers_are_counted() -> None:
    kl = divergence(0.01234, 80, mode="sequence", tokens=30, p95=0.0875, top1_agreement=0.985)
    table = tables.scores(Scores((counted(3), words(21.34, 40)), kl))
    assert table.header == ("Measure", "Original", "Edited", "Prompts")
    assert cells(table) == [
        ("refusals", "97/100", "3/100 (95 %: 1.0 to 8.5)", "100"),
        ("words", "60.0", "21.3", "40"),
        ("KL in nats, first 30 tokens", "0", "0.0123", "80"),
        ("95th percentile", "0", "0.0875", "80"),
        ("same top token", "100.0 %", "98.5 %", "80"),
    ]
    assert [row.is_part for row in table.rows] == [False, False, False, True, True]
    assert cells(tables.scores(measured(3, 0.5)))[-1][2] == "-"


def test_intervals_of_counts_only() -> None:
    assert score_interval(divergence(0.1)) is None
    assert score_interval(words(3)) is None
    assert score_interval(counted(0, 0)) is None
    low, high = score_interval(counted(20, 20)) or (0, 0)
    assert low > 16
    assert high == 20.0


def test_held_out_prompts_have_a_row_a_measure() -> None:
    table = tables.held_out(held_out(), None)
    assert table.header == ("Measure", "Original", "Edited", "Prompts", "In the search")
    assert cells(table.without("In the search")) == [
        ("refusals at 30 tokens", "90/100", "3/100 (95 %: 1.0 to 8.5)", "100"),
        ("refusals at 200 tokens", "92/100", "8/100 (95 %: 4.1 to 15.0)", "100"),
        ("change, in pairs", "", "-84 (95 %: -89.6 to -74.7)", "100"),
        ("words of an answer", "24.5", "120.3", "100"),
        ("cut at 200 tokens", "1/100", "40/100", "100"),
        ("degenerate answers", "0/100", "3/100 (1 empty, 2 looping)", "100"),
        ("perplexity (original model)", "1.80", "3.40", "100"),
        ("KL in nats, first token", "0", "0.0123", "96"),
        ("95th percentile", "0", "0.2000", "96"),
        ("same top token", "100.0 %", "98.5 %", "96"),
        ("KL in nats, over answers", "0", "0.0234", "96"),
        ("95th percentile", "0", "0.3000", "96"),
        ("same top token", "100.0 %", "97.0 %", "96"),
    ]
    assert {row.cells[-1] for row in table.rows} == {"-"}


def test_what_is_not_known_of_held_out_prompts_has_no_row() -> None:
    (behavior,) = held_out().behaviors
    names = [
        row[0] for row in cells(tables.held_out(replace(held_out(), behaviors=(replace(behavior, change=None),)), None))
    ]
    assert "change, in pairs" not in names
    assert "answers that refuse" not in names
    base, edited = (replace(own, refusing=count) for own, count in ((behavior.base, 3), (behavior.edited, 9)))
    other = replace(behavior, name="words", unit="words", base=base, edited=edited)
    beside = column(tables.held_out(replace(held_out(), behaviors=(other,)), None), "Edited")
    assert beside["answers that refuse"] == "9/100"
    assert beside["words at 200 tokens"] == "8.00 (95 %: 4.10 to 15.00)"
    # No spread is no interval of no width.
    sure = replace(behavior, at=(replace(behavior.at[0], edited=Estimate(0, 0, 0)),))
    assert (
        column(tables.held_out(replace(held_out(), behaviors=(sure,)), None), "Edited")["refusals at 30 tokens"]
        == "0/100"
    )


def test_the_searchs_values_stand_beside_what_was_measured_alike() -> None:
    searched = Scores((counted(5),), divergence(0.21, mode="sequence", p95=0.43))
    table = tables.held_out(held_out(), searched)
    found = column(table, "In the search")
    assert (found["refusals at 30 tokens"], found["refusals at 200 tokens"]) == ("5/100", "-")
    assert (found["KL in nats, first token"], found["KL in nats, over answers"]) == ("-", "0.2100")
    assert [row.cells[-1] for row in table.rows if row.cells[0] == "95th percentile"] == ["-", "0.4300"]


def test_what_the_search_alone_measured_has_a_row_of_its_own() -> None:
    searched = Scores((replace(counted(5), details=AnswerDetails(64)),), divergence(0.21, tokens=9))
    rows = cells(tables.held_out(held_out(), searched))
    assert rows[0] == ("refusals at 64 tokens", "-", "-", "-", "5/100")
    assert ("KL in nats, first 9 tokens", "-", "-", "-", "0.2100") in rows


def test_several_behaviours_are_groups() -> None:
    (behavior,) = held_out().behaviors
    table = tables.held_out(replace(held_out(), behaviors=(behavior, replace(behavior, behavior="more"))), None)
    assert [row.cells for row in table.rows if row.is_group] == [("refusal",), ("more",), ("KL divergence",)]
    assert len({len(row.cells) for row in table.rows if not row.is_group}) == 1


def test_abilities() -> None:
    questions, benchmarks = tables.capability(capability())
    assert questions.header == ("Category", "Questions", "Original", "Edited", "Difference (95 %)")
    assert [row[:4] for row in cells(questions)] == [
        ("high_school_computer_science", "2", "100.0 %", "50.0 %"),
        ("overall", "2", "100.0 %", "50.0 %"),
    ]
    assert questions.rows[-1].is_marked
    assert cells(questions)[0][4].startswith("-50.0 (-")
    assert benchmarks.names == 2
    assert cells(benchmarks) == [
        (
            "arc_easy",
            "acc_norm, higher is better",
            "20",
            "0.5000 +- 0.1000",
            "0.2500 +- 0.1000",
            "-0.2500 (-0.5000 to +0.1000)",
        ),
        (
            "gsm8k",
            "exact_match, strict-match, higher is better",
            "9",
            "0.5000 +- 0.1000",
            "0.2500 +- 0.1000",
            "-0.2500",
        ),
        ("wikitext", "word_perplexity, lower is better", "9", "12.5000", "13.5000", "+1.0000"),
    ]
    assert tables.capability(replace(capability(), questions=None)) == [benchmarks]
    assert tables.capability(replace(capability(), benchmarks=())) == [questions]


def test_strengths_by_component() -> None:
    plan = EditPlan(
        Scope.LAYER, None, (("attention", Schedule(1.25, 0.75, 0.1, 0.4)), ("mlp", Schedule(0.0, 0.5, 0.0, 0.2)))
    )
    assert cells(tables.strengths(plan, 5)) == [
        ("attention", "1.250", "0.750", "0.100", "0.400", "2 to 4 of 5"),
        ("mlp", "0.000", "0.500", "0.000", "0.200", "none"),
    ]


def test_columns_can_be_left_out() -> None:
    table = Table(("A", "B", "C"), (Row(("g",), is_group=True), Row(("a", "b", "c"), is_part=True)))
    assert table.without("B") == Table(("A", "C"), (Row(("g",), is_group=True), Row(("a", "c"), is_part=True)))


def test_edits_stand_side_by_side_behind_the_original() -> None:
    first, second = record(0, 12, 0.1), record(1, 3, 0.25)
    unknown = replace(second.measured.behaviors[0], details=AnswerDetails(30, answered=0))
    both = {"a": first.measured, "b": replace(second.measured, behaviors=(unknown,))}
    table = tables.side_by_side(both)
    assert table.header == ("Measure", "Original", "a", "b")
    assert [row.cells for row in table.rows] == [
        ("refusals", "50/100", "12/100", "-"),
        ("KL divergence", "0.0000", "0.1000", "0.2500"),
    ]


def test_what_stays_has_a_column_and_rows_of_its_own() -> None:
    scores = Scores((counted(3),), divergence(0.0123), (kept(2, 38),))
    table = tables.trials([trial(scores)])
    assert table.header[:3] == ("Trial", "refusals", "kept abstention")
    assert cells(table)[0][:3] == ("12", "3/100", "36/38")
    assert tables.trials([trial(scores)], with_original=True).rows[-1].cells[1:3] == ("97/100", "38/38")
    assert cells(tables.scores(scores))[1] == ("kept abstention", "38/38", "36/38 (95 %: 31.4 to 37.4)", "38")
    found = held_out()
    stayed = replace(found.behaviors[0], behavior="abstention", name="kept_abstention", n=38)
    beside = tables.held_out(replace(found, kept=(stayed,)), scores)
    assert [row.cells[0] for row in beside.rows if row.is_group] == ["refusal", "kept abstention", "KL divergence"]
    assert column(beside, "Edited")["kept abstention at 30 tokens"].startswith("3/38")
    assert column(beside, "In the search")["kept abstention at 60 tokens"] == "36/38"

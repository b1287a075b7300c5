import pytest
from tests.unit.measured import capability, held_out, measured

from heretic.interface import formatting
from heretic.results import tables
from heretic.results.tables import Row, Table


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.04, "0.0 s"),
        (1.84, "1.8 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (80, "1 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_human_and_never_show_sixty(seconds: float, expected: str) -> None:
    assert formatting.duration(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0:00"), (42.9, "0:42"), (65, "1:05"), (754, "12:34"), (3727, "1:02:07"), (-3, "0:00")],
)
def test_clock(seconds: float, expected: str) -> None:
    assert formatting.clock(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (512, "512"),
        (4_130_000, "4.1 M"),
        (494_032_768, "494 M"),
        (999_600_000, "1.0 B"),
        (4_022_468_096, "4.0 B"),
        (235_000_000_000, "235 B"),
    ],
)
def test_parameter_counts_have_three_digits_at_most(count: int, expected: str) -> None:
    assert formatting.large_count(count) == expected


@pytest.mark.parametrize(("count", "expected"), [(1, "1 byte"), (812_000, "812.0 kB"), (1_976_000_000, "2.0 GB")])
def test_sizes_are_decimal(count: int, expected: str) -> None:
    assert formatting.size(count) == expected


def laid_out(width: int | None, *rows: Row) -> list[str]:
    return formatting.laid_out(Table(("Name", "Base", "Edited"), rows), width)


def test_numbers_of_a_table_line_up_under_their_headings() -> None:
    assert laid_out(None, Row(("a", "7/100", "0.5")), Row(("long", "10/100", "12.5"), is_part=True)) == [
        "Name      Base  Edited",
        "a        7/100     0.5",
        "  long  10/100    12.5",
    ]


def test_text_in_the_last_column_begins_under_its_heading() -> None:
    lines = laid_out(None, Row(("a", "7", "3 (95 %: 1 to 5)")), Row(("b", "7", "12")))
    assert {line.index(text) for line, text in zip(lines, ("Edited", "3 (", "12"), strict=True)} == {12}


def test_a_name_that_leaves_no_room_is_folded_beside_its_numbers() -> None:
    name = "high_school_computer_science"
    lines = laid_out(30, Row(("title",), is_group=True), Row((name, "7", "12"), is_part=True), Row(("sea", "7", "12")))
    assert [line.split() for line in lines] == [
        ["Name", "Base", "Edited"],
        ["title"],
        ["high_school_", "7", "12"],
        ["computer_"],
        ["science"],
        ["sea", "7", "12"],
    ]
    assert lines[3] == "  computer_"
    assert max(map(len, lines)) <= 30


@pytest.mark.parametrize("width", [65, 45, 30])
def test_numbers_stand_in_the_line_where_their_name_begins(width: int) -> None:
    tables_of = (tables.scores(measured(12, 0.1)), tables.held_out(held_out(), None), *tables.capability(capability()))
    for table in tables_of:
        lines = formatting.laid_out(table, width)
        assert max(map(len, lines)) <= width
        for row in table.rows:
            name, numbers = row.cells[0].split()[0], row.cells[table.names :]
            starts = [line for line in lines if line.split()[:1] and name.startswith(line.split()[0])]
            assert row.is_group or any(numbers[0][:3] in line for line in starts), row


def test_control_characters_of_a_cell_are_shown_as_codes() -> None:
    assert laid_out(None, Row(("a\x1b[2J", "7", "1")))[1].startswith("a\\x1b[2J")


def test_clean_takes_the_power_from_control_characters_and_keeps_the_rest() -> None:
    hostile = "red \x1b[31m bell \x07 return \r csi \x9b2J turn \u202e line\nnext\tä 漢"

    cleaned = formatting.clean(hostile)

    assert not [character for character in cleaned if not character.isprintable() and character not in "\n\t"]
    assert "\\x1b[31m" in cleaned
    assert cleaned.endswith("line\nnext\tä 漢")


def test_clean_line_has_no_line_break() -> None:
    assert formatting.clean_line("one\r\ntwo\nthree") == "one\\ntwo\\nthree"


def test_shorten_keeps_beginning_and_end() -> None:
    text = "markers = " + "x" * 500 + " (config.toml)"

    short = formatting.shorten(text, 100)

    assert len(short) <= 100
    assert short.startswith("markers = ")
    assert short.endswith(" (config.toml)")
    assert formatting.shorten("short", 100) == "short"


def test_hang_wraps_under_the_text_and_loses_no_word() -> None:
    words = [f"word{number}" for number in range(40)]

    lines = formatting.hang("Label", " ".join(words), 10, 50)

    assert lines[0].startswith("Label     word0")
    assert all(line.startswith(" " * 10 + "word") for line in lines[1:])
    assert max(map(len, lines)) <= 50
    assert " ".join(lines).split()[1:] == words


def test_hang_never_breaks_a_path_and_leaves_pipes_unwrapped() -> None:
    path = "/a/very-long/" + "folder-name/" * 10

    assert any(path in line for line in formatting.hang("Saved", f"to {path} at last", 10, 40))
    assert formatting.hang("Saved", f"to {path} at last", 10, None) == [f"Saved     to {path} at last"]


def test_hang_keeps_the_lines_of_the_text() -> None:
    assert formatting.hang("", "one\n\n  two", 4, 40) == ["    one", "", "      two"]


def test_equal_reasons_are_joined_across_layers_and_experts() -> None:
    entries = [
        f"model.layers.{layer}.mlp.experts.{expert}.gate: no writer" for layer in range(3) for expert in range(2)
    ]
    entries += ["model.layers.0.conv1d: writes elsewhere", "something without a reason"]

    assert formatting.group_by_reason(entries) == [
        "model.layers.*.mlp.experts.*.gate (6): no writer",
        "model.layers.0.conv1d: writes elsewhere",
        "something without a reason",
    ]

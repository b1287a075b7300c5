"""`heretic directions`: its arguments, what it prints, its plots and the sum that it writes."""

import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tests.unit.directions.direction_sets import LAYERS, random_set

from heretic import cli
from heretic.commands.directions import COMMAND
from heretic.directions.comparison import overlap
from heretic.directions.files import read_direction_file, write_direction_file
from heretic.directions.projections import Projections
from heretic.interface.direction_plots import curve_figure, projection_figure
from heretic.interface.direction_report import labelled
from heretic.interface.printer import Printer

FACTS = {
    "model": "demo",
    "model_fingerprint": "0123456789abcdef",
    "dtype": "float32",
    "quantization": "none",
    "extractor": "mean",
    "options": {"transforms": ["projected"], "n_directions": 1},
    "target_prompts": 40,
    "target_fingerprint": "fedcba9876543210",
    "created": "2020-01-02T03:04:05+00:00",
    "heretic_version": "0.0.7",
}


def projections(best: int) -> Projections:
    """Classes that lie 2 standard deviations apart, and 5 after one layer; the embeddings do not vary."""
    spread = torch.tensor([[-1.0], [1.0]]).expand(2, LAYERS + 1)
    distance = torch.full((LAYERS + 1,), 2.0)
    distance[best] = 5
    varies = torch.tensor([0.0, *[1.0] * LAYERS])
    return Projections((spread + distance) * varies, spread * varies)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with direction files."""
    quality = torch.tensor([0.0, 0.3, 0.9, 0.5])
    first = random_set(0, provenance=FACTS, quality=quality)
    write_direction_file(tmp_path / "a.safetensors", first, projections(2))
    write_direction_file(tmp_path / "b.safetensors", random_set(1, k=2, provenance=FACTS))
    write_direction_file(tmp_path / "plain.safetensors", random_set(2, quality=quality))
    write_direction_file(tmp_path / "wide.safetensors", random_set(3, width=9))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*argv: str, width: int = 80) -> str:
    output = io.StringIO()
    console = Console(file=output, width=width, markup=False, highlight=False, emoji=False)
    assert COMMAND(argv, Printer(console)) == 0
    return output.getvalue()


def rows_of(text: str) -> dict[str, list[str]]:
    """Cells of the first table by layer."""
    table = text[text.index("Layer") :].split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[1:] for line in table if line.split()[0] in ("emb.", "1", "2", "3")}


def test_one_file(folder: Path) -> None:
    text = shown("a.safetensors")
    for words in (
        "File           a.safetensors",
        "made up 0; 1 direction per layer; 3 layers of width 8",
        "demo, float32; fingerprint 0123456789ab",
        'mean; transforms = ["projected"], n_directions = 1',
        "40 target (fedcba987654)",
        "2020-01-02T03:04:05+00:00 by Heretic 0.0.7",
        "* Best layers by separation: 2, 1, 3.",
    ):
        assert words in text
    table = rows_of(text)
    assert table["emb."] == ["-", "0.00", "-"]
    assert table["2"][:2] == ["5.00*", "0.90"]
    assert table["1"][:2] == ["2.00*", "0.30"]
    assert table["1"][2] == "-"
    vectors = random_set(0).vectors[:, 0]
    assert table["3"][2] == f"{float(vectors[3] @ vectors[2]):.2f}"
    assert text.isascii()


def test_a_file_without_projections_says_so_and_is_ranked_by_quality(folder: Path) -> None:
    text = shown("plain.safetensors", "--plots", "plots")
    assert "plain.safetensors holds no projections of prompts, so there is no separation and no plot of them." in text
    assert "* Best layers by quality: 2, 3, 1." in text
    assert "Separation" not in text
    assert "not named in the file" in text
    assert rows_of(text)["2"][0] == "0.90*"
    assert os.listdir(folder / "plots") == ["curves.png"]


def test_two_files_are_compared(folder: Path) -> None:
    text = shown("a.safetensors", "b.safetensors", "plain.safetensors", width=100)
    compared = rows_of(text[text.index("Between the files") :])
    first, second = random_set(0), random_set(1, k=2)
    cosine = float(first.vectors[1, 0] @ second.vectors[1, 0])
    assert compared["1"][:2] == [f"{cosine:.2f}", f"{float(overlap(first, second)[1]):.2f}"]
    assert "A-C" in text
    assert "Overlap: share" in text
    assert "The files are not of one and the same model" in text


def test_the_sum_is_written(folder: Path) -> None:
    text = shown("a.safetensors", "b.safetensors", "--output", "sum.safetensors", "--weights", "-1,0.5")
    assert f"Sum written to {folder / 'sum.safetensors'}: 3 directions per layer." in text
    total = read_direction_file(folder / "sum.safetensors").directions
    assert total.weights[1].tolist() == [-1, 0.5, 0.5]
    text = shown("sum.safetensors")
    assert "a.safetensors with weight -1.0: made up 0" in text
    assert "b.safetensors with weight 0.5: made up 1" in text
    again = shown("a.safetensors", "a.safetensors", "--output", "sum.safetensors")
    assert "1 direction per layer." in again
    assert "1 of 2 lay in the span of the others and were left out." in again


def size_of_png(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", header[16:24])  # type: ignore[return-value]  # two numbers


def test_plots_are_written_wide_enough_to_read(folder: Path) -> None:
    text = shown("a.safetensors", "b.safetensors", "--plots", "plots")
    assert sorted(os.listdir(folder / "plots")) == ["curves.png", "projections_A.png"]
    for name in ("curves.png", "projections_A.png"):
        assert size_of_png(folder / "plots" / name)[0] == 1200
        assert str(folder / "plots" / name) in text
    # A second time replaces them.
    shown("a.safetensors", "--plots", "plots")
    assert sorted(os.listdir(folder / "plots")) == ["curves.png", "projections.png", "projections_A.png"]


def test_curves_have_labelled_axes_and_hold_the_numbers(folder: Path) -> None:
    entries = labelled([read_direction_file(Path(name)) for name in ("a.safetensors", "b.safetensors")])
    panels = curve_figure(entries).axes
    labels = [panel.get_ylabel().replace("\n", " ") for panel in panels]
    assert [label.split(" ")[0] for label in labels] == ["Separation", "Quality", "Cosine", "Cosine"]
    assert "standard deviations" in labels[0]
    # Extractors measure quality in ways of their own, so each file's curve is relative to its best layer.
    assert labels[1] == "Quality (share of the file's best)"
    assert [max(line.get_ydata()) for line in panels[1].lines] == [1, 1]
    assert panels[-1].get_xlabel() == "Layer (0: embeddings)"
    assert list(panels[0].lines[0].get_ydata())[1:] == [2, 5, 2]
    assert [text.get_text() for text in panels[1].get_legend().get_texts()] == ["a.safetensors", "b.safetensors"]
    # Whoever does not tell colours apart has line styles and markers.
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in panels[1].lines}
    assert all(len({look[part] for look in looks}) == 2 for part in range(3))


def test_projections_show_both_classes(folder: Path) -> None:
    (entry,) = labelled([read_direction_file(Path("a.safetensors"))])
    upper, lower = projection_figure(entry).axes
    assert "standard deviations" in upper.get_ylabel()
    assert "after layer 2" in lower.get_xlabel()
    assert "residual units" in lower.get_xlabel()
    assert {text.get_text() for text in lower.get_legend().get_texts()} == {"Target prompts", "Baseline prompts"}
    heights = [line.get_ydata() for line in upper.lines[:2]]
    assert [list(height)[1:] for height in heights] == [[1, 2.5, 1], [-1, -2.5, -1]]


def test_nothing_of_pyplot_is_touched(folder: Path) -> None:
    code = (
        "import sys; from heretic.cli import main; code = main(['directions', 'a.safetensors', '--plots', 'p']);"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")


def unwritable(name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).mkdir()
        (folder / name).chmod(0o500)

    return make


def note(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


@pytest.mark.parametrize(
    ("argv", "words", "prepare"),
    [
        (("gone.safetensors",), "There is no file gone.safetensors", None),
        (("notes.txt",), "notes.txt is not a direction file", note),
        ((".",), "is a folder", None),
        (("a.safetensors", "--plots", "notes.txt"), "notes.txt is a file", note),
        (("a.safetensors", "--plots", "gone/p"), "there is no folder", None),
        (("a.safetensors", "--plots", "locked"), "locked is not writable", unwritable("locked")),
        (("a.safetensors", "--plots", "locked/p"), "locked/p is not writable", unwritable("locked")),
        (("a.safetensors", "--output", "c"), "only one was named", None),
        (("a.safetensors", "b.safetensors", "--output", "gone/c"), "there is no folder", None),
        (("a.safetensors", "b.safetensors", "--output", "notes.txt"), "is no direction file", note),
        (("a.safetensors", "b.safetensors", "--weights", "1,2"), "needs --output", None),
        (("a.safetensors", "b.safetensors", "--output", "c", "--weights", "1"), "1 numbers for 2 files", None),
        (("a.safetensors", "b.safetensors", "--output", "c", "--weights", "1,x"), "numbers other than 0", None),
        (("a.safetensors", "b.safetensors", "--output", "c", "--weights", "1,0"), "numbers other than 0", None),
        (("a.safetensors", "wide.safetensors"), "3 layers of width 8 and wide.safetensors for one of 3 layers", None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_used_is_one_sentence_and_writes_nothing(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    words: str,
    prepare: Callable[[Path], None] | None,
) -> None:
    if prepare is not None:
        prepare(folder)
    if "locked" in words and os.access(folder / "locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert cli.main(["directions", *argv]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("Error: ")
    assert words in line
    assert captured.out == ""
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_names_from_files_cannot_garble_the_terminal(folder: Path) -> None:
    odd = replace(random_set(0), method="a\x1b[31m\nb", provenance={"model": "\x1b]0;x\x07", "sum_of": [1]})
    write_direction_file(folder / "odd$x$.safetensors", odd, projections(1))
    text = shown("odd$x$.safetensors", "--plots", "plots")
    assert "\x1b" not in text
    assert "\x07" not in text

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from heretic.common.errors import UserError
from heretic.common.integrity import MANIFEST_NAME, Difference, DifferenceKind, check_folder, sha256_of_file
from heretic.export.content import ExportContent, ExportFormat
from heretic.export.manifest import (
    read_manifest,
    write_manifest,
)
from heretic.models.loaded import LoadedModel
from heretic.results.intervals import wilson_interval
from heretic.results.score import AnswerDetails, Score, Scores


@pytest.fixture
def folder(tmp_path: Path, loaded: LoadedModel, content: ExportContent) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 9000)
    (folder / "sub" / "a.txt").write_text("a")
    write_manifest(folder, loaded, content, ExportFormat.MERGED, {"answers_compared": 8})
    return folder


def test_checksums_are_those_of_the_files(folder: Path) -> None:
    files = read_manifest(folder).files
    assert set(files) == {"weights.safetensors", "sub/a.txt"}
    expected = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    assert files["weights.safetensors"].sha256 == expected
    assert files["weights.safetensors"].size == 256 * 9000


def test_adjustments_are_kept_and_may_be_missing_in_older_folders(
    tmp_path: Path, loaded: LoadedModel, content: ExportContent
) -> None:
    write_manifest(tmp_path, loaded, replace(content, adjustments=("Two heads.",)), ExportFormat.MERGED, {})
    assert read_manifest(tmp_path).adjustments == ("Two heads.",)
    path = tmp_path / MANIFEST_NAME
    stored = json.loads(path.read_text())
    del stored["adjustments"]
    path.write_text(json.dumps(stored))
    assert read_manifest(tmp_path).adjustments == ()


def test_file_larger_than_a_chunk(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256_of_file(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_content(folder: Path, content: ExportContent) -> None:
    manifest = read_manifest(folder)
    assert manifest.source["name"] == "some/base-model"
    assert manifest.source["dtype"] == "float32"
    assert manifest.plan == content.plan.to_json()
    assert (manifest.trial, manifest.optuna_trial_number) == (18, 17)
    assert manifest.search == {"quantization": "none", "scores": []}
    assert manifest.directions["method"] == "mean, projected"
    assert manifest.versions.keys() >= {"heretic", "torch", "transformers", "python", "optuna"}
    assert manifest.created.endswith("+00:00")
    assert manifest.verification == {"answers_compared": 8}
    assert Scores.from_json(manifest.scores) == content.scores
    low, high = manifest.scores[0]["interval_95"]
    assert low < 3 < high


def test_several_behaviours_and_their_scores_are_kept(
    tmp_path: Path, loaded: LoadedModel, content: ExportContent
) -> None:
    words = Score("words", 91.25, 40, 120.5, AnswerDetails(120), "words")
    scores = Scores((*content.scores.behaviors, words), content.scores.kl)
    both = replace(content, behaviors=("refusal", "verbosity"), scores=scores)
    write_manifest(tmp_path, loaded, both, ExportFormat.MERGED, {})
    manifest = read_manifest(tmp_path)
    assert manifest.behavior == "refusal,verbosity"
    assert Scores.from_json(manifest.scores) == scores
    # An interval is one of a proportion.
    assert ["interval_95" in score for score in manifest.scores] == [True, False, False]


def test_round_trip(folder: Path) -> None:
    data = json.loads((folder / MANIFEST_NAME).read_text())
    assert read_manifest(folder).to_json() == data


def test_password_of_the_storage_is_masked(folder: Path) -> None:
    assert read_manifest(folder).settings["storage"] == "postgresql://user:***@db.example/heretic"
    assert "geheim" not in (folder / MANIFEST_NAME).read_text()


def test_unchanged_folder(folder: Path) -> None:
    assert check_folder(folder) == []


def test_every_kind_of_change_is_found(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[123_456] ^= 1
    path.write_bytes(data)
    (folder / "sub" / "a.txt").unlink()
    (folder / "sub" / "b.txt").write_text("b")
    assert check_folder(folder) == [
        Difference("sub/a.txt", DifferenceKind.MISSING),
        Difference("sub/b.txt", DifferenceKind.EXTRA),
        Difference("weights.safetensors", DifferenceKind.CHANGED),
    ]


def test_forged_name_opens_nothing_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    data = json.loads((folder / MANIFEST_NAME).read_text())
    data["files"]["../outside"] = {"sha256": sha256_of_file(tmp_path / "outside"), "size": 6}
    (folder / MANIFEST_NAME).write_text(json.dumps(data))
    assert check_folder(folder) == [Difference("../outside", DifferenceKind.MISSING)]


@pytest.mark.parametrize("text", ["", "[]", "{}", "not json", '{"manifest_version": 99}', '{"manifest_version": 1}'])
def test_damaged_manifest(folder: Path, text: str) -> None:
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(UserError, match="damaged or too new"):
        check_folder(folder)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder that Heretic saved"):
        read_manifest(tmp_path)


def test_settings_that_are_no_json_are_refused(tmp_path: Path, loaded: LoadedModel, content: ExportContent) -> None:
    from dataclasses import replace

    with pytest.raises(TypeError, match="object"):
        write_manifest(tmp_path, loaded, replace(content, settings={"x": object()}), ExportFormat.MERGED, {})


def test_wilson_interval_against_published_values() -> None:
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)

import os
from pathlib import Path

import pytest

from heretic.common.errors import UserError
from heretic.common.integrity import (
    MANIFEST_NAME,
    Difference,
    DifferenceKind,
    check_folder,
    checksums,
    files_of,
    write_manifest_file,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "weights.safetensors").write_bytes(b"w" * 3_000_000)
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    entries = {name: {"sha256": e.sha256, "size": e.size} for name, e in checksums(files_of(folder)).items()}
    write_manifest_file(folder / MANIFEST_NAME, {"manifest_version": 1, "format": "checksums", "files": entries})


def test_a_whole_folder(folder: Path) -> None:
    assert check_folder(folder) == []


def test_a_changed_byte_a_missing_and_an_extra_file(folder: Path) -> None:
    weights = folder / "sub" / "weights.safetensors"
    weights.write_bytes(b"w" * 2_999_999 + b"x")
    (folder / "config.json").unlink()
    (folder / "extra.py").write_text("")
    found = check_folder(folder)
    assert found == [
        Difference("config.json", DifferenceKind.MISSING),
        Difference("extra.py", DifferenceKind.EXTRA),
        Difference("sub/weights.safetensors", DifferenceKind.CHANGED),
    ]


def test_another_size_is_known_without_reading(folder: Path) -> None:
    (folder / "sub" / "weights.safetensors").write_bytes(b"w")
    read: list[int] = []
    (difference,) = check_folder(folder, read.append)
    assert difference.reason == "1 bytes instead of 3000000"
    assert sum(read) == 2


def test_every_byte_is_reported_as_progress(folder: Path) -> None:
    read: list[int] = []
    check_folder(folder, read.append)
    assert sum(read) == 3_000_002


def test_what_git_the_hub_and_the_system_add_does_not_count(folder: Path) -> None:
    for name in (".git/index", ".cache/huggingface/x.lock", ".gitattributes", "sub/.DS_Store"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    assert check_folder(folder) == []
    (folder / "sub" / ".git").mkdir()
    (folder / "sub" / ".git" / "x").write_text("x")
    assert check_folder(folder) == [Difference("sub/.git/x", DifferenceKind.EXTRA)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_links_neither_hang_nor_lead_outside(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("x")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    found = {difference.path: difference.kind.value for difference in check_folder(folder)}
    assert found == {"linked": "extra", "loop": "extra", "pipe": "extra", "config.json": "changed"}
    with pytest.raises(UserError, match=r"no ordinary file|cannot be read"):
        checksums(files_of(folder))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"manifest_version": 1}', '{"manifest_version": 1, "files": []}', "[" * 100_000),
        '{"manifest_version": 1, "files": {"a": {"sha256": 1, "size": 1}}}',
        '{"manifest_version": 99, "files": {}}',
    ],
    ids=range(7),
)
def test_manifests_that_cannot_be_understood(folder: Path, text: str) -> None:
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(UserError, match="damaged or too new"):
        check_folder(folder)


def test_a_manifest_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("flushed"), sync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda path, target: (done.append("renamed"), rename(path, target)))
    write_manifest_file(tmp_path / "manifest.json", {"files": {}})
    assert done == ["flushed", "renamed", *(() if os.name == "nt" else ("flushed",))]
    assert (tmp_path / "manifest.json").read_text(encoding="ascii").startswith("{")

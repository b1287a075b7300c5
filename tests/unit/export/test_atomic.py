import errno
import os
import stat
from pathlib import Path

import pytest
from filelock import FileLock
from safetensors import SafetensorError
from tests.unit.export.conftest import exit_code_of, names_in

from heretic.common.errors import ExportError, UserError
from heretic.common.integrity import MANIFEST_NAME
from heretic.export import atomic
from heretic.export.atomic import (
    check_file_target,
    check_free_space,
    check_target,
    is_saved_model,
    save_error,
    staged_folder,
)
from heretic.observability.events import Event, Warned, subscribed


def write(folder: Path, text: str = "new") -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "weights").write_text(text)
    (folder / MANIFEST_NAME).write_text("{}")


def save(target: Path, text: str = "new", overwrite: bool = False) -> None:
    with staged_folder(target, is_saved_model if overwrite else None) as (staging, _):
        write(staging, text)


def test_folder_appears_complete_with_missing_parents(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "model"
    with staged_folder(target) as (staging, final):
        write(staging)
        assert final == target
        assert not target.exists()
        assert staging.parent == target.parent  # a rename is atomic only within one file system
    assert (target / "sub" / "weights").read_text() == "new"
    assert names_in(target.parent) == {"model"}


def test_existing_empty_folder_is_used(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    save(target)
    assert names_in(tmp_path) == {"model"}
    assert names_in(target) == {"sub", MANIFEST_NAME}


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[object] = []
    real_replace = os.replace

    def replace(source: Path, target: Path) -> None:
        steps.append({entry.stat().st_ino for entry in (source, *source.rglob("*"))})
        real_replace(source, target)

    monkeypatch.setattr(atomic.os, "fsync", lambda descriptor: steps.append(os.fstat(descriptor).st_ino))
    monkeypatch.setattr(atomic.os, "replace", replace)
    save(tmp_path / "model")
    written = next(step for step in steps if isinstance(step, set))
    renamed = steps.index(written)
    assert len(written) == 4
    assert set(steps[:renamed]) == written
    assert tmp_path.stat().st_ino in steps[renamed:]


def test_permissions_are_those_of_an_ordinary_folder(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    save(tmp_path / "model")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt(), ExportError("no")])
def test_exception_leaves_everything_as_it_was(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "new parent" / "model"

    def crash() -> None:
        with staged_folder(target) as (staging, _):
            write(staging)
            raise error

    with pytest.raises(type(error)):
        crash()
    assert names_in(tmp_path) == set()
    save(target)
    assert target.is_dir()


def test_kill_leaves_no_final_folder_and_the_next_save_cleans_up(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def die_while_writing() -> int:
        with staged_folder(target) as (staging, _):
            (staging / "half").write_text("x")
            os._exit(9)

    assert exit_code_of(die_while_writing) == 9
    assert not target.exists()
    assert any(".partial-" in name for name in names_in(tmp_path))
    save(target)
    assert names_in(tmp_path) == {"model"}


def test_only_own_leftovers_are_removed(tmp_path: Path) -> None:
    ours = tmp_path / ".model.partial-0123abcd"
    others = [".model2.partial-0123abcd", ".model.partial-backup", "model.partial-0123abcd", ".model.partial-0123abcd9"]
    for folder in (ours, *(tmp_path / name for name in others)):
        folder.mkdir()
    file = tmp_path / ".model.partial-89abcdef"
    file.write_text("a file, not a folder")
    save(tmp_path / "model")
    assert names_in(tmp_path) == {"model", file.name, *others}


def test_failing_rename_keeps_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_after) -> None:
    target = tmp_path / "model"
    save(target, "old")
    monkeypatch.setattr(atomic.os, "replace", fail_after(os.replace, 2, OSError(errno.EIO, "input/output error")))
    with pytest.raises(ExportError, match="input/output"):
        save(target, "new", overwrite=True)
    assert (target / "sub" / "weights").read_text() == "old"
    assert names_in(tmp_path) == {"model"}


def test_overwrite_replaces(tmp_path: Path) -> None:
    target = tmp_path / "model"
    save(target, "old")
    save(target, "new", overwrite=True)
    assert (target / "sub" / "weights").read_text() == "new"
    assert names_in(tmp_path) == {"model"}


def test_folder_lost_between_two_renames_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "model"
    save(target, "old")
    target.rename(tmp_path / ".model.replaced-0123abcd")
    with pytest.raises(UserError, match="not empty"):
        save(target, "new")
    assert (target / "sub" / "weights").read_text() == "old"


def test_overwrite_never_touches_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not written by Heretic"):
        save(tmp_path, overwrite=True)
    assert names_in(tmp_path) == {"thesis.txt"}


def test_non_empty_target_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "model", "old")
    with pytest.raises(UserError, match="not empty; choose another path"):
        save(tmp_path / "model")
    assert (tmp_path / "model" / "sub" / "weights").read_text() == "old"


def test_target_filled_meanwhile_is_not_lost(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def race() -> None:
        with staged_folder(target) as (staging, _):
            write(staging)
            target.mkdir()
            (target / "theirs").write_text("x")

    with pytest.raises(UserError, match="choose another path"):
        race()
    assert names_in(target) == {"theirs"}
    assert names_in(tmp_path) == {"model"}


def test_two_processes_cannot_save_to_one_target(tmp_path: Path) -> None:
    partial = tmp_path / ".model.partial-0123abcd"
    partial.mkdir()
    with FileLock(tmp_path / ".model.partial.lock"), pytest.raises(UserError, match="Another process"):
        save(tmp_path / "model")
    assert partial.exists()


def test_file_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match="is a file"):
        check_target(file)
    with pytest.raises(UserError, match="is a file"):
        check_target(file / "below" / "model")
    assert file.read_text() == "x"


@pytest.mark.parametrize("path", ["/", "bad\0name"])
def test_impossible_paths(path: str) -> None:
    with pytest.raises(UserError, match="choose"):
        check_target(Path(path))


def test_loop_of_links(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError, match="choose another path"):
        save(tmp_path / "a" / "model")


def test_unwritable_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(atomic, "TemporaryFile", forbidden)
    with pytest.raises(UserError, match=f"because {tmp_path} is not writable"):
        check_target(tmp_path / "model")
    with pytest.raises(UserError, match="is not writable"):
        check_file_target(tmp_path / "file")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which even root cannot write")
def test_folder_that_only_looks_writable_is_found_before_the_search() -> None:
    with pytest.raises(UserError, match="because /proc is not writable"):
        check_target(Path("/proc/heretic-model"))
    with pytest.raises(UserError, match="is not writable"):
        check_file_target(Path("/proc/heretic-file"))


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_target(tmp_path / "model")
    assert check_file_target(tmp_path / "file") == tmp_path / "file"
    assert names_in(tmp_path) == set()


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is a folder"):
        check_file_target(tmp_path)
    with pytest.raises(UserError, match=r"there is no folder .*missing; create it"):
        check_file_target(tmp_path / "missing" / "file")
    with pytest.raises(UserError, match="there is no folder"):
        check_file_target(tmp_path / "file" / "file")
    with pytest.raises(UserError, match="cannot be used"):
        check_file_target(Path("nul\0character"))
    assert check_file_target(tmp_path / "file") == tmp_path / "file"
    assert (tmp_path / "file").read_text() == "mine"


def test_interrupted_replacement_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "model"
    save(target, "old")
    real_replace, calls = os.replace, []

    def interrupted(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real_replace(source, destination)

    monkeypatch.setattr(atomic.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(target, "new", overwrite=True)
    assert (target / "sub" / "weights").read_text() == "old"
    assert names_in(tmp_path) == {"model"}


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which even root cannot write")
def test_parent_that_forbids_writing_although_it_looks_writable() -> None:
    with pytest.raises(UserError, match="Cannot write to /proc/heretic-model") as caught:
        save(Path("/proc/heretic-model"))
    assert caught.value.exit_code == 2


def test_checking_creates_nothing(tmp_path: Path) -> None:
    assert check_target(tmp_path / "x" / "y") == tmp_path / "x" / "y"
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ExportError, "disk became full"),
        (SafetensorError("Error while serializing: I/O error: x (os error 28)"), ExportError, "disk became full"),
        (SafetensorError("I/O error: Read-only file system (os error 30)"), UserError, "Cannot write"),
        (OSError(errno.EROFS, "Read-only file system"), UserError, "Cannot write"),
        (OSError(errno.EFBIG, "File too large"), ExportError, "smaller shard size"),
        (SafetensorError("header too large"), ExportError, "header too large"),
    ],
)
def test_errors_are_told_apart(error: OSError | SafetensorError, kind: type[Exception], words: str) -> None:
    result = save_error(error, Path("/some/where"))
    assert type(result) is kind
    assert words in str(result)
    assert "/some/where" in str(result)


def test_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(atomic.shutil.disk_usage(tmp_path))(10**12, 10**12 - 2 * 10**9, 2 * 10**9)
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda path: usage if path == tmp_path else None)
    check_free_space(tmp_path / "not" / "there", 1_700_000_000)
    with pytest.raises(UserError, match=r"needs about 2\.2 GB, but only 2\.0 GB is free"):
        check_free_space(tmp_path / "not" / "there", 1_930_000_000)


def test_files_get_the_mode_that_new_files_have(tmp_path: Path) -> None:
    """safetensors makes its files readable by the owner alone, so that nobody else could load a shared model."""
    with staged_folder(tmp_path / "model") as (staging, _):
        write(staging)
        (staging / "sub" / "weights").chmod(0o600)
    reference = tmp_path / "reference"
    reference.touch()
    assert (tmp_path / "model" / "sub" / "weights").stat().st_mode == reference.stat().st_mode
    assert ".mode" not in names_in(tmp_path / "model")


@pytest.mark.skipif(os.name == "nt", reason="Windows has other locks")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_or_flushing_of_folders_takes_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    import fcntl

    def refuse(*_arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    real = os.fsync
    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(os, "fsync", lambda file: refuse() if stat.S_ISDIR(os.fstat(file).st_mode) else real(file))
    seen: list[Event] = []
    with subscribed(seen.append):
        save(tmp_path / "model")
    assert (tmp_path / "model" / "sub" / "weights").read_text() == "new"
    assert names_in(tmp_path) == {"model"}
    (said,) = seen
    assert isinstance(said, Warned)
    assert os.strerror(number) in said.message

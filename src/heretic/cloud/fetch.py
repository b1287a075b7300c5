"""From a rented machine to one's own disk: studies, and models that are resumed and verified by their manifest."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heretic.cloud.keys import setting
from heretic.cloud.machines import Machine
from heretic.cloud.shell import PIECE, Access, Unreachable, transfers
from heretic.cloud.work import Site
from heretic.common.errors import CloudError, ConfigurationError
from heretic.common.file_names import expanded, inside, leads_outside, safe_name
from heretic.common.integrity import MANIFEST_NAME, check_folder, entries_of, harmful, named, read_manifest_file

MODELS_VARIABLE, MODELS = "LOCAL_MODELS_DIR", "models"
STUDIES = "studies"
LONGEST_MANIFEST = 64 * 1024**2
_MOST_FETCHES = 2
"""A file that is not as the manifest says after so many times never will be."""

Say = Callable[[str], None]


def models_folder(environment: Mapping[str, str], folder: Path) -> Path:
    """Where models are put.

    Raises:
        ConfigurationError: There cannot be such a folder.
    """
    named_folder = expanded(setting(MODELS_VARIABLE, environment, folder) or MODELS)
    path = named_folder if named_folder.is_absolute() else folder / named_folder
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{MODELS_VARIABLE} names a folder that cannot be made ({error.strerror}).") from error
    return path


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches from one machine.

    Attributes:
        site: Where heretic works there.
        access: How the machine is reached by rsync.
        machine: Which.
        say: Is told what happens.
    """

    site: Site
    access: Access
    machine: Machine
    say: Say

    def model(self, told: Mapping[str, Any], target: Path) -> None:
        """Fetch a saved model, or go on with it, and verify every file.

        Args:
            told: One of `heretic.cloud.job.models`.
            target: Its folder here.

        Raises:
            CloudError: It cannot be fetched, or is not as its manifest says.
        """
        name = str(told["name"])
        if leads_outside(name) or "/" in name or "\\" in name:
            raise CloudError(f"The machine names a model {name[:60]!r}, which leads out of its folder.")
        source = f"{self.site.folder}/run/models/{name}"
        manifest = self._manifest(source, str(told["manifest"]))
        self._begin(target, manifest)
        entries = entries_of(read_manifest_file(target / MANIFEST_NAME))
        for path in entries:
            inside(target, path).parent.mkdir(parents=True, exist_ok=True)
        wanted = sum(entry.size for entry in entries.values())
        free = shutil.disk_usage(target).free
        have = sum((target / path).stat().st_size for path in entries if (target / path).is_file())
        if wanted - have > free:
            raise CloudError(f"{target} has {free} bytes free, and {wanted - have} are to come; free some space first.")
        for left in range(_MOST_FETCHES, 0, -1):
            self._files(source, target, {path: entry.size for path, entry in entries.items()})
            wrong = harmful(check_folder(target))
            if not wrong:
                return
            if left == 1:
                raise CloudError(
                    f"The model in {target} is not as its manifest says: {next(iter(named(wrong)))}; fetch it again."
                )
            for difference in wrong:
                if difference.path in entries:
                    self.say(f"{difference.path} is not as the manifest says; it is fetched anew.")
                    (target / difference.path).unlink(missing_ok=True)

    def study(self, folder: Path) -> int | None:
        """Fetch the study as it is now; its state there, or None where there is none.

        Raises:
            CloudError: It cannot be fetched.
        """
        told = self.site.ask("study")
        if not told:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        path, unfinished = folder / "heretic_study.db", folder / "heretic_study.db.unfinished"
        unfinished.unlink(missing_ok=True)
        self._by_sftp(str(told["path"]), unfinished, int(told["bytes"]))
        os.replace(unfinished, path)
        return int(told["changed"])

    def remember(self, models: Mapping[str, str], study: int | None) -> None:
        """Tell the machine what it need not keep any more."""
        self.site.ask("fetched", {"models": dict(models), "study": study})

    def _manifest(self, source: str, digest: str) -> bytes:
        def read() -> bytes:
            with self.site.shell.sftp.open(f"{source}/{MANIFEST_NAME}", "rb") as file:
                content: bytes = file.read(LONGEST_MANIFEST)
            return content

        content = transfers(read)
        if hashlib.sha256(content).hexdigest() != digest:
            raise CloudError("The model's manifest changed while it was read; a run saves it just now. Try again.")
        return content

    def _begin(self, target: Path, manifest: bytes) -> None:
        """Put the manifest into the folder; the same one means that fetching goes on.

        Raises:
            CloudError: Another model is there.
        """
        there = target / MANIFEST_NAME
        if target.exists() and any(target.iterdir()) and not (there.is_file() and there.read_bytes() == manifest):
            raise CloudError(f"{target} holds something else; move it away, or name another folder with --to.")
        target.mkdir(parents=True, exist_ok=True)
        there.write_bytes(manifest)

    def _files(self, source: str, target: Path, sizes: Mapping[str, int]) -> None:
        has_rsync = shutil.which("rsync") is not None and shutil.which("ssh") is not None
        if has_rsync and self.site.shell.script("command -v rsync").code == 0:
            self._by_rsync(source, target, list(sizes))
            return
        self.say("There is no rsync on both sides; fetching by SFTP.")
        for path, size in sizes.items():
            self._by_sftp(f"{source}/{path}", inside(target, path), size)

    def _by_rsync(self, source: str, target: Path, paths: Sequence[str]) -> None:
        """Fetch files by rsync, which goes on where it was cut off.

        Raises:
            CloudError: It did not come to an end.
        """
        *ssh, host = self.access.ssh(self.machine)
        quiet = [*ssh, "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
        command = ["rsync", "--partial", "--append-verify", "--times", "--from0", "--files-from=-", "-e"]
        given = "\0".join(paths).encode()
        where = f"[{host}]" if ":" in host else host
        # The source is of letters that no shell minds, see `checked_folder`, or of a name that `safe_name` gave.
        call = [*command, shlex.join(quiet), "--protect-args", f"{where}:{source}/", f"{target}/"]
        done = subprocess.run(call, input=given, capture_output=True, check=False)  # noqa: S603 - a list, no shell
        if done.returncode:
            said = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[0][:200]
            raise Unreachable(
                f"rsync ended with {done.returncode} ({said}); the same command goes on where it was cut off."
            )

    def _by_sftp(self, source: str, target: Path, size: int) -> None:
        """Fetch a file, or the rest of it."""
        have = target.stat().st_size if target.is_file() else 0
        have = have if have <= size else 0

        def read() -> None:
            with self.site.shell.sftp.open(source, "rb") as remote, target.open("ab" if have else "wb") as local:
                remote.seek(have)
                remote.prefetch(size)
                while piece := remote.read(PIECE):
                    local.write(piece)

        transfers(read)


def study_folder(models: Path, machine: Machine) -> Path:
    """Where a machine's study is kept here."""
    return models / STUDIES / safe_name(machine.name)


def kept_studies(models: Path) -> list[Path]:
    """Studies that were fetched, the latest first."""
    found = (models / STUDIES).glob("*/heretic_study.db")
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Keep what a run was asked for beside its study; it holds no secrets."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(dict(facts), indent=2) + "\n", encoding="utf-8")


def read_facts(folder: Path) -> dict[str, Any]:
    """What `write_facts` kept; empty where there is nothing that can be read."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}

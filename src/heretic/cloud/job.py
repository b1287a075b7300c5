"""What runs on the rented machine beside heretic: it begins a run, outlives the connection, and says how things are.

``python -m heretic.cloud.job VERB FOLDER`` reads one line of JSON and writes one; it needs the standard library alone.
The folder holds ``run`` (where heretic works), ``run/models`` (what it saves) and ``job`` (what is written here).
"""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

STUDY, MANIFEST, LOG = "heretic_study.db", "heretic_metadata.json", "run.log"
STORAGE = "HERETIC_STORAGE"
STATUS_SECONDS = 60.0
TERM_SECONDS = 600.0
"""How long a run that was told to end may take for it."""
LEAVE_ATTEMPTS, LEAVE_SECONDS = 20, 30.0
LAST_LINES, LAST_BYTES = 12, 8192
_GPU_FIELDS = ("name", "utilization.gpu", "memory.used", "memory.total", "temperature.gpu")


def main(argv: list[str]) -> int:
    """Do what a verb says; returns the exit code."""
    verb, folder = argv[0], Path(argv[1])
    request = json.loads(sys.stdin.readline() or "{}")
    if verb == "supervise":
        return supervise(folder, request)
    sys.stdout.write(json.dumps(_VERBS[verb](folder, request)) + "\n")
    return 0


def start(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Begin a run in a process of its own session; refused where one goes on.

    Args:
        folder: See above.
        request: ``arguments`` of heretic, ``environment`` (secrets are only here), ``when_done``, ``wait_seconds``,
            ``max_seconds``.
    """
    if state_of(folder)["state"] == "running":
        return {"refused": "a run goes on"}
    job = folder / "job"
    for path in (job, folder / "run" / "models"):
        path.mkdir(parents=True, exist_ok=True)
    for name in ("exit_code", "left", "pid"):
        (job / name).unlink(missing_ok=True)
    told = {key: request.get(key) for key in ("arguments", "when_done", "wait_seconds", "max_seconds")}
    told["on_server"] = STORAGE in (request.get("environment") or {})
    _write(job / "job", json.dumps({**told, "started": time.time()}))
    with (job / LOG).open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "heretic.cloud.job", "supervise", str(folder)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    _write(job / "supervisor", _marked(process.pid))
    if process.stdin is not None:
        process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
        process.stdin.close()
    return {"pid": process.pid}


def supervise(folder: Path, request: Mapping[str, Any]) -> int:
    """Run heretic, keep its exit code, and give the machine back where that was asked for."""
    job = folder / "job"
    environment = {**os.environ, **(request.get("environment") or {})}
    # What may destroy the machine is not for the run.
    environment = {name: value for name, value in environment.items() if name not in _OWN_KEYS}
    with (job / LOG).open("ab") as log:
        run = subprocess.Popen(  # noqa: S603 - what the person asked for, as a list
            [sys.executable, "-m", "heretic", *request["arguments"]],
            cwd=folder / "run", stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
        )  # fmt: skip
    _write(job / "pid", _marked(run.pid))
    try:
        code = run.wait(request.get("max_seconds"))
    except subprocess.TimeoutExpired:
        code = _ended(run)
    _write(job / "exit_code", str(code))
    if request.get("when_done"):
        leave(folder, request["when_done"], float(request.get("wait_seconds") or 0.0), failed=code != 0)
    return 0


def _ended(run: "subprocess.Popen[bytes]") -> int:
    """End a run whose time is over; its exit code."""
    run.send_signal(signal.SIGTERM)
    try:
        return run.wait(TERM_SECONDS)
    except subprocess.TimeoutExpired:
        run.kill()
        return run.wait()


def leave(
    folder: Path,
    when_done: str,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
    failed: bool = False,
) -> None:
    """Give the machine back, or stop it, by the key that the provider gave it for that alone.

    It is destroyed once all that was saved is fetched; after `wait_seconds` it is stopped instead, so nothing is lost.
    A run that failed is always left time to be looked at, and its disk is kept.
    """
    ends = now() + wait_seconds
    action = when_done
    while when_done == "destroy" and (failed or unfetched(folder)):
        if now() >= ends:
            action = "stop"
            break
        sleep(1.0)
    problem = ""
    for _ in range(LEAVE_ATTEMPTS):
        problem = _leave_once(action)
        _write(folder / "job" / "left", json.dumps({"action": action, "problem": problem}))
        if not problem:
            return
        sleep(LEAVE_SECONDS)


_OWN_KEYS = ("CONTAINER_API_KEY", "RUNPOD_API_KEY")


def _leave_once(action: str) -> str:
    """Ask the provider; what went wrong, or nothing."""
    own = _own_environment()
    if own.get("CONTAINER_API_KEY") and own.get("CONTAINER_ID"):
        base = (own.get("VAST_URL") or "https://console.vast.ai").rstrip("/")
        address, key = f"{base}/api/v0/instances/{own['CONTAINER_ID']}/", own["CONTAINER_API_KEY"]
        method, body = ("DELETE", {}) if action == "destroy" else ("PUT", {"state": "stopped"})
    elif own.get("RUNPOD_API_KEY") and own.get("RUNPOD_POD_ID"):
        base = (own.get("RUNPOD_URL") or "https://api.runpod.io/v2").rstrip("/")
        address, key = f"{base}/pods/{own['RUNPOD_POD_ID']}", own["RUNPOD_API_KEY"]
        method, body = ("DELETE", {}) if action == "destroy" else ("POST", {"action": "stop"})
        address += "" if action == "destroy" else "/action"
    else:
        return "the provider gave this machine no key of its own"
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "User-Agent": "heretic"}
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=60):  # noqa: S310 - the provider's address
            return ""
    except OSError as error:
        return f"the provider did not {action} it ({type(error).__name__} {getattr(error, 'code', '')})".replace(
            " )", ")"
        )


def _own_environment() -> dict[str, str]:
    """Variables of the container, which a login by SSH does not have."""
    own = dict(os.environ)
    try:
        return {**_variables(Path("/proc/1/environ").read_bytes()), **own}
    except OSError:
        return own


def can_leave(_folder: Path, _request: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the machine could give itself back."""
    own = _own_environment()
    pairs = (("CONTAINER_API_KEY", "CONTAINER_ID"), ("RUNPOD_API_KEY", "RUNPOD_POD_ID"))
    return {"can": any(own.get(key) and own.get(name) for key, name in pairs)}


def state_of(folder: Path) -> dict[str, Any]:
    """How the run is: none, running, finished (with its exit code), or gone without having finished."""
    job = folder / "job"
    told = _json(job / "job")
    if not told:
        return {"state": "none"}
    code = _text(job / "exit_code")
    if code:
        state = "finished"
    else:
        state = "running" if any(_alive(_text(job / name)) for name in ("supervisor", "pid")) else "gone"
    return {**told, "state": state, "exit_code": int(code) if code else None, "left": _json(job / "left") or None}


def stop(folder: Path, _request: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the run to end; what it finished is kept."""
    mark = _text(folder / "job" / "pid")
    if state_of(folder)["state"] != "running" or not _alive(mark):
        return {"stopped": False}
    os.kill(int(mark.split()[0]), signal.SIGTERM)
    return {"stopped": True}


def look(folder: Path, _request: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that is shown of the machine."""
    usage = shutil.disk_usage(folder)
    status, problem = _status(folder)
    return {
        "now": time.time(),
        "job": state_of(folder),
        "status": status,
        "problem": problem,
        "gpus": _gpus(),
        "disk": {"free": usage.free, "total": usage.total},
        "models": models(folder),
        "unfetched": unfetched(folder),
        "log": _last_lines(folder / "job" / LOG),
    }


def models(folder: Path) -> list[dict[str, Any]]:
    """What was saved: every folder with a manifest, as one is written last."""
    found = []
    for manifest in sorted((folder / "run" / "models").glob(f"*/{MANIFEST}")):
        files = [path for path in manifest.parent.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        found.append({"name": manifest.parent.name, "bytes": size, "files": len(files), "manifest": digest})
    return found


def unfetched(folder: Path) -> list[str]:
    """Names of saved models, and the study, that are nowhere but here."""
    fetched = _json(folder / "job" / "fetched")
    have = fetched.get("models", {})
    names = [model["name"] for model in models(folder) if have.get(model["name"]) != model["manifest"]]
    changed = _changed(folder / "run" / STUDY)
    return [*names, STUDY] if changed and changed != fetched.get("study") else names


def fetched(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Remember what has been fetched and verified."""
    before = _json(folder / "job" / "fetched")
    models_before = {**before.get("models", {}), **(request.get("models") or {})}
    after = {"models": models_before, "study": request.get("study") or before.get("study")}
    (folder / "job").mkdir(parents=True, exist_ok=True)
    _write(folder / "job" / "fetched", json.dumps(after))
    return after


def study(folder: Path, _request: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the study while a run may write to it; where the copy is, and which state it has."""
    source = folder / "run" / STUDY
    changed = _changed(source)
    if not changed:
        return {}
    copy = folder / "job" / "study.db"
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(copy)) as target:
        original.backup(target)
    return {"path": str(copy), "bytes": copy.stat().st_size, "changed": changed}


def _status(folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What ``heretic status`` says, or why it says nothing."""
    run, told, variables = folder / "run", _json(folder / "job" / "job"), dict(os.environ)
    if told.get("on_server"):
        # Its address may hold a password, which stands nowhere but in the run's own environment.
        own = _environment_of(_text(folder / "job" / "pid"))
        if STORAGE not in own:
            return None, "the study is on a server, whose address the run alone had; heretic status --storage shows it"
        variables[STORAGE] = own[STORAGE]
    elif not (run / STUDY).exists():
        return None, ""
    command = [sys.executable, "-m", "heretic", "status", "--json", *_study_name(told.get("arguments") or [])]
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, cwd=run, capture_output=True, text=True, timeout=STATUS_SECONDS, check=False, env=variables
        )
        status = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return None, f"the study could not be read ({type(error).__name__})"
    return status, "" if status else (done.stderr.strip().splitlines() or ["no status"])[-1][:200]


def _study_name(arguments: list[str]) -> list[str]:
    """The option of a run that names its study, if it has one."""
    for place, argument in enumerate(arguments):
        if argument.startswith("--study-name"):
            return [argument] if "=" in argument else arguments[place : place + 2]
    return []


def _environment_of(mark: str) -> dict[str, str]:
    """The variables of a process of ours, see `_marked`; none where it has ended."""
    if not _alive(mark):
        return {}
    try:
        return _variables(Path(f"/proc/{mark.split()[0]}/environ").read_bytes())
    except OSError:
        return {}


def _variables(block: bytes) -> dict[str, str]:
    pairs = (part.decode(errors="replace").partition("=") for part in block.split(b"\0"))
    return {name: value for name, _, value in pairs}


def _gpus() -> list[dict[str, str]]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    query = [tool, f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [dict(zip(_GPU_FIELDS, row, strict=True)) for row in rows if len(row) == len(_GPU_FIELDS)]


def _last_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - LAST_BYTES, 0))
        return file.read().decode(errors="replace").splitlines()[-LAST_LINES:]


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def _marked(pid: int) -> str:
    """A process by its number and its beginning, as numbers are used again."""
    return f"{pid} {_beginning(pid)}"


def _beginning(pid: int) -> str:
    text = _text(Path(f"/proc/{pid}/stat"))
    fields = text.rpartition(")")[2].split()
    # The first is the state; a zombie is not alive.
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else ""


def _alive(mark: str) -> bool:
    pid, _, beginning = mark.partition(" ")
    return bool(pid) and bool(beginning) and _beginning(int(pid)) == beginning


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _json(path: Path) -> dict[str, Any]:
    text = _text(path)
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def _write(path: Path, text: str) -> None:
    """Write a file as a whole."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


_VERBS: dict[str, Callable[[Path, Mapping[str, Any]], dict[str, Any]]] = {
    "can_leave": can_leave,
    "fetched": fetched,
    "look": look,
    "start": start,
    "stop": stop,
    "study": study,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The user's own profiles: one plain TOML file that finished studies add their best plans to.

It may be edited by hand, so it is only ever added to at its end: notes, order and numbers stay as they are. What
cannot be read is left alone.
"""

import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from heretic.common.file_names import configuration_folder
from heretic.common.file_systems import replacing, set_mode
from heretic.search.profiles import Profile, ProfileError, fitting, parse_profiles, toml_table

PLANS_PER_MODEL = 3
"""Plans of one model and goal that are worth keeping."""
LOCK_SECONDS = 20
"""Another run holds the file for moments only."""
_HEADING = """\
# Plans that worked well in your own searches. The next model of the same family starts from the best of these; turn
# that off with --use-warm-start-params false. You may edit, copy or delete this file; Heretic only adds to its end.
"""


def default_store(environment: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where the store is unless a setting says otherwise: ``profiles.toml`` in `configuration_folder`.

    Raises:
        ProfileError: There is no home folder.
    """
    try:
        return configuration_folder(environment, platform) / "profiles.toml"
    except RuntimeError as error:
        raise ProfileError("there is no home folder to keep profiles in; name a file with --profile-store") from error


def read_store(path: Path) -> tuple[Profile, ...]:
    """All profiles of a store; none where there is no such file.

    Raises:
        ProfileError: It cannot be read.
    """
    return parse_profiles(_text(_content(path)))


def add_to_store(path: Path, profiles: Sequence[Profile]) -> int:
    """Add those of one model's profiles that are among its best so far; returns how many.

    The file is replaced as a whole, under a lock, so that neither another run nor a crash damages it.

    Raises:
        ProfileError: It cannot be read or written; it is as it was before.
    """
    try:
        target = path.expanduser().resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock", timeout=LOCK_SECONDS):
            return _add(target, profiles)
    except Timeout as error:
        raise ProfileError("another run holds its lock") from error
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, no home folder, a NUL character
        raise ProfileError(f"it cannot be written ({getattr(error, 'strerror', None) or error})") from error


def _add(target: Path, profiles: Sequence[Profile]) -> int:
    content = _content(target)
    present = parse_profiles(_text(content))
    new = [profile for profile in profiles if _is_worth_keeping(profile, profiles, present)]
    if not new:
        return 0
    start = content if content.strip() else _HEADING.encode()
    content = b"\n".join([start.rstrip() + b"\n", *(toml_table(profile).encode() for profile in new)])
    # E.g. `profile = []`, which nothing can be added to.
    if parse_profiles(_text(content)) != (*present, *new):
        raise ProfileError("profiles cannot be added to its end; write each as a [[profile]] table")
    with replacing(target) as unfinished:
        unfinished.write_bytes(content)
        if target.exists():
            set_mode(unfinished, stat.S_IMODE(target.stat().st_mode))
    return len(new)


def _is_worth_keeping(profile: Profile, profiles: Sequence[Profile], present: Sequence[Profile]) -> bool:
    """Whether it is new and among the best of its model."""
    if any(profile.plan == other.plan and profile.model == other.model for other in present):
        return False
    rivals = [other for other in (*present, *profiles) if other.model == profile.model]
    if profile.normalization is None:
        return False
    return profile in fitting(rivals, profile.family, profile.goal, profile.normalization)[:PLANS_PER_MODEL]


def _content(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except FileNotFoundError:
        return b""
    except (OSError, RuntimeError, ValueError) as error:
        raise ProfileError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProfileError("it is not UTF-8 text") from error

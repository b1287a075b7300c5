"""What is fuzzed: functions of bytes that return, or raise a HereticError, whatever the bytes are."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from heretic.config.arguments import read_arguments
from heretic.config.load import load_settings
from heretic.errors import HereticError
from heretic.file_names import inside, leads_outside, safe_name
from heretic.integrity import MANIFEST_NAME, check_folder
from heretic.prompts.split import parse_split
from heretic.prompts.text_files import read_lines
from heretic.redaction import mask_secrets
from heretic.search.profiles import ProfileError, parse_profiles

FOLDER = Path(mkdtemp(prefix="heretic-fuzz-"))


def _file(name: str, data: bytes) -> Path:
    path = FOLDER / name
    path.write_bytes(data)
    return path


def configuration(data: bytes) -> None:
    _file("config.toml", data)
    with suppress(HereticError):
        load_settings(["--model", "x"], {}, FOLDER)


def configuration_values(data: bytes) -> None:
    """A known key, so that what stands behind it is reached at once."""
    keys = (
        b"n_trials",
        b"good_prompts",
        b"dtypes",
        b"max_memory",
        b"layer_profile",
        b"storage",
        b"device_map",
        b"model",
    )
    key = keys[data[0] % len(keys)] if data else keys[0]
    configuration(key + b" = " + data[1:])


def environment(data: bytes) -> None:
    text = data.decode(errors="replace").replace("\x00", "")
    name, _, value = text.partition("=")
    with TemporaryDirectory() as folder, suppress(HereticError):
        load_settings([], {f"HERETIC_{name}": value}, Path(folder))


def arguments(data: bytes) -> None:
    argv = data.decode(errors="replace").split("\n")
    read_arguments(argv)
    if not any(argument.startswith("--config") for argument in argv):
        with TemporaryDirectory() as folder, suppress(HereticError):
            load_settings(argv, {}, Path(folder))


def prompts(data: bytes) -> None:
    with suppress(HereticError):
        for line in read_lines(_file("prompts.txt", data)):
            assert line.strip()


def split(data: bytes) -> None:
    with suppress(HereticError):
        low, high = parse_split(data.decode(errors="replace")).bounds(100)
        assert 0 <= low <= high <= 100


def manifest(data: bytes) -> None:
    _file(MANIFEST_NAME, data)
    with suppress(HereticError):
        check_folder(FOLDER)


def profiles(data: bytes) -> None:
    # The store's only reader turns this one into a warning.
    with suppress(HereticError, ProfileError):
        parse_profiles(data.decode(errors="replace"))


def names(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    name = safe_name(text)
    assert name
    assert not leads_outside(name)
    assert (FOLDER / name).parent == FOLDER
    with suppress(HereticError):
        assert inside(FOLDER, text).resolve().is_relative_to(FOLDER.resolve())


def redaction(data: bytes) -> None:
    mask_secrets(data.decode(errors="replace"))


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        configuration,
        configuration_values,
        environment,
        arguments,
        prompts,
        split,
        manifest,
        profiles,
        names,
        redaction,
    )
}

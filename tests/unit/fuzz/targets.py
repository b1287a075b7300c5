"""What is fuzzed: functions of bytes that return, or raise a HereticError, whatever the bytes are."""

import io
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from heretic.common.errors import HereticError
from heretic.common.file_names import inside, leads_outside, safe_name
from heretic.common.integrity import MANIFEST_NAME, check_folder
from heretic.common.redaction import mask_secrets
from heretic.config import PromptSpecification
from heretic.config.arguments import read_arguments
from heretic.config.checks import is_unicode
from heretic.config.load import load_settings
from heretic.prompts.split import parse_split
from heretic.prompts.text_files import read_lines
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


def mutated(valid: bytes, data: bytes) -> bytes:
    """A valid file with a change for every four bytes of `data`: where (two bytes), which of five, and a byte for it.

    Data that begins with 0xff is the file itself, without that byte.
    """
    if data[:1] == b"\xff":
        return data[1:]
    changed = bytearray(valid)
    for start in range(0, len(data) - 3, 4):
        place = int.from_bytes(data[start : start + 2], "big") % (len(changed) + 1)
        kind, byte = data[start + 2] % 5, data[start + 3]
        if kind == 0:
            changed[place : place + 1] = bytes([byte])
        elif kind == 1:
            changed[place:place] = bytes([byte])
        elif kind == 2:
            del changed[place : place + 1 + byte % 32]
        elif kind == 3:
            changed[place:place] = changed[place : place + byte]
        else:
            del changed[place:]
    return bytes(changed)


ROWS: list[dict[str, Any]] = [
    {"text": "How do I bake bread?", "id": 1, "turns": [{"role": "user", "content": "Hi"}], "score": 0.5},
    {"text": "What is rain?", "id": 2, "turns": [{"role": "system", "content": "Be brief."}], "score": None},
    {"text": None, "id": 3, "turns": [], "score": 1e300},
]


@lru_cache(maxsize=4)
def valid_table(ending: str) -> bytes:
    if ending == "parquet":
        import pyarrow.parquet

        file = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
        return file.getvalue()
    if ending == "csv":
        lines = [f'{row["id"]},"{row["text"] or ""}",{row["score"] or ""}' for row in ROWS]
        return "\n".join(["id,text,score", *lines]).encode()
    return json.dumps(ROWS).encode() if ending == "json" else "\n".join(map(json.dumps, ROWS)).encode()


def table(ending: str, data: bytes) -> None:
    import datasets

    from heretic.prompts.sources import load_prompt_set

    cache = FOLDER / "tables"
    datasets.config.HF_DATASETS_CACHE = cache
    path = _file(f"prompts.{ending}", mutated(valid_table(ending), data))
    for streaming in (True, False):
        for column in (None, "turns" if ending != "csv" else "id"):
            with suppress(HereticError):
                specification = PromptSpecification(dataset=str(path), column=column, streaming=streaming)
                for prompt in load_prompt_set("good_prompts", specification, None).prompts:
                    assert prompt.user.strip()
    shutil.rmtree(cache, ignore_errors=True)


@lru_cache(maxsize=1)
def valid_directions() -> bytes:
    import torch

    from heretic.directions.files import write_direction_file
    from heretic.directions.projections import Projections
    from heretic.directions.types import DirectionSet

    vectors = torch.eye(4)[:3, None]
    path = FOLDER / "valid.safetensors"
    own = DirectionSet(vectors, torch.ones(3, 1), torch.ones(3), "mean", {"model": "x", "layer_count": 2})
    write_direction_file(path, own, Projections(torch.ones(2, 3), torch.zeros(2, 3)))
    return path.read_bytes()


def directions(data: bytes) -> None:
    from heretic.directions.files import content_hash, read_direction_file, summed

    path = _file("directions.safetensors", mutated(valid_directions(), data))
    with suppress(HereticError):
        read = read_direction_file(path)
        assert read.directions.vectors.isfinite().all()
        content_hash(summed([read, read], [1.0, -0.5]))


def data_names(data: bytes) -> None:
    """File names that come from a model's id or a study's name."""
    from heretic.models.location import edited_name
    from heretic.search.claim import claimed

    text = data.decode(errors="surrogateescape").replace("\x00", "")
    if not is_unicode(text):
        # Refused with the command line, see `arguments`; folders may have such names.
        text = text.encode(errors="replace").decode()
    assert (FOLDER / edited_name(text)).parent == FOLDER
    before = {entry.name for entry in FOLDER.iterdir()}
    with suppress(HereticError), claimed(f"sqlite:///{FOLDER}/study.db", text):
        (lock,) = {entry.name for entry in FOLDER.iterdir()} - before
        assert lock.startswith(".study.db.")


json_table, jsonl_table, csv_table, parquet_table = (
    partial(table, ending) for ending in ("json", "jsonl", "csv", "parquet")
)
SLOW_TARGETS: dict[str, Callable[[bytes], None]] = {
    "json_table": json_table,
    "jsonl_table": jsonl_table,
    "csv_table": csv_table,
    "parquet_table": parquet_table,
}
"""Each run reads a file with the datasets library."""

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
        directions,
        data_names,
    )
} | SLOW_TARGETS

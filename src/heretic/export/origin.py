"""What the original model's own folder says about its licence, found without a network."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, try_to_load_from_cache
from yaml import YAMLError  # type: ignore[import-untyped]  # PyYAML comes with the hub's client, without types

from heretic.export.base import file_in
from heretic.models.loaded import LoadedModel
from heretic.observability.events import Warned, emit

_LEGAL_FILES = ("LICENSE", "LICENSE.md", "LICENSE.txt", "LICENCE", "NOTICE", "NOTICE.md", "NOTICE.txt", "USE_POLICY.md")


@dataclass(frozen=True, slots=True)
class Origin:
    """The original model's licence, as far as it is known.

    Attributes:
        hub_id: The original model's id on the hub, or None for a folder.
        license: Licence identifier of its card.
        license_name: Name of a licence that the hub has no identifier for.
        license_link: Where that licence is written down.
        language: Languages of its card.
        legal_files: Licence texts, to be passed on with the edited model.
    """

    hub_id: str | None
    license: str | None = None
    license_name: str | None = None
    license_link: str | None = None
    language: str | list[str] | None = None
    legal_files: tuple[Path, ...] = ()


def _local_file(loaded: LoadedModel, name: str) -> Path | None:
    """A file of the original model that lies on this machine."""
    if loaded.commit is None:
        return file_in(Path(loaded.source), name)
    cached: Any = try_to_load_from_cache(loaded.source, name, revision=loaded.commit)
    return Path(cached) if isinstance(cached, str) else None


def find_origin(loaded: LoadedModel) -> Origin:
    """Read the original model's card where it lies on this machine; nothing is downloaded."""
    hub_id = loaded.source if loaded.commit is not None else None
    candidates = (_local_file(loaded, name) for name in _LEGAL_FILES)
    legal_files = tuple(path for path in candidates if path is not None)
    readme = _local_file(loaded, "README.md")
    if readme is None:
        return Origin(hub_id, legal_files=legal_files)
    try:
        data: Any = ModelCard(readme.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    except (OSError, ValueError, TypeError, YAMLError) as error:
        emit(Warned(f"The original model's card {readme} cannot be read ({error}), so its licence is not repeated."))
        return Origin(hub_id, legal_files=legal_files)
    return Origin(
        hub_id,
        license=_text(data.license),
        license_name=_text(data.license_name),
        license_link=_text(data.license_link),
        language=data.language if isinstance(data.language, (str, list)) else None,
        legal_files=legal_files,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def copy_legal_files(origin: Origin, folder: Path) -> None:
    """Pass licence texts on, as most licences ask for."""
    for path in origin.legal_files:
        shutil.copyfile(path, folder / path.name)

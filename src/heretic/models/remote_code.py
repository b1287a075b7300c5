"""Python code that a model brings along: which repository it comes from, and at which commit it is pinned."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heretic.common.errors import ModelError
from heretic.common.integrity import MANIFEST_NAME
from heretic.models.location import Location
from heretic.models.model_files import find_file, read_json
from heretic.models.private_api import extract_commit_hash, hub_file

_FILES = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class RemoteCode:
    """The code that a model is loaded with.

    Attributes:
        repository: The hub repository that it comes from, or None for the model's own folder.
        commit: The commit of that repository; None only for a folder.
        classes: Auto classes (``AutoConfig``, ...) that run it.
        is_foreign: Whether the repository is another one than the model's.
    """

    repository: str | None
    commit: str | None
    classes: frozenset[str]
    is_foreign: bool = False

    def arguments(self, auto_class: str) -> dict[str, str]:
        """Further arguments of an auto class's `from_pretrained`, so that it runs the code of this commit.

        Code of the model's own repository comes at the model's revision without them.
        """
        return self.pin if auto_class in self.classes else {}

    @property
    def pin(self) -> dict[str, str]:
        """The argument that pins the code, where the model's own revision does not."""
        return {"code_revision": self.commit} if self.is_foreign and self.commit is not None else {}


def find_remote_code(location: Location, commit: str | None) -> RemoteCode | None:
    """Look up whose code a model wants to run, without running it; None where it wants none.

    Where the model's folder has a manifest, code of other repositories is taken at the commit that this names.

    Raises:
        ModelError: The code comes from several repositories, which transformers cannot pin, or cannot be had.
    """
    references = list(_references(location, commit))
    if not references:
        return None
    classes = frozenset(auto_class for auto_class, _repository, _module in references)
    repository_of_model = location.source if location.is_hub else None
    repositories = {repository or repository_of_model for _class, repository, _module in references}
    foreign = sorted(name for name in repositories if name is not None and name != repository_of_model)
    if not foreign:
        return RemoteCode(repository_of_model, commit, classes)
    if len(foreign) > 1 or (repository_of_model in repositories and location.is_hub):
        raise ModelError(
            f"The code of {location.name} comes from several repositories ({', '.join(filter(None, repositories))}), "
            "so its revisions cannot be pinned; download all of it into one folder and name that."
        )
    module = next(module for _class, repository, module in references if repository == foreign[0])
    pinned = _pinned(location).get(foreign[0])
    file = hub_file(foreign[0], f"{module}.py", pinned)
    code_commit = None if file is None else extract_commit_hash(file, None)
    if code_commit is None:
        raise ModelError(
            f"The code of {location.name} comes from {foreign[0]}, whose commit cannot be found out; download the code "
            "into the model's folder."
        )
    return RemoteCode(foreign[0], code_commit, classes, is_foreign=True)


def _references(location: Location, commit: str | None) -> Iterator[tuple[str, str | None, str]]:
    """Auto class, repository (None for the model's own) and module of everything that is mapped to code."""
    for name in _FILES:
        mapping = read_json(find_file(location, name, commit)).get("auto_map")
        if isinstance(mapping, (list, tuple)):
            mapping = {"AutoTokenizer": mapping}
        for auto_class, references in mapping.items() if isinstance(mapping, dict) else ():
            for reference in references if isinstance(references, (list, tuple)) else (references,):
                if isinstance(reference, str):
                    repository, separator, path = reference.rpartition("--")
                    yield auto_class, repository if separator else None, path.partition(".")[0]


def _pinned(location: Location) -> Mapping[str, str]:
    """Repository -> commit, from the manifest of a folder."""
    if location.is_hub:
        return {}
    source: Any = read_json(Path(location.source) / MANIFEST_NAME).get("source")
    code = source.get("code") if isinstance(source, dict) else None
    if not isinstance(code, dict) or not all(isinstance(code.get(key), str) for key in ("repository", "commit")):
        return {}
    return {code["repository"]: code["commit"]}

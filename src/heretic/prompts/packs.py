"""Behaviour packs: what shows a behaviour, what does not, how it is measured, and what a saved model's card says of it.

A pack is a TOML file. Its prompts stand beside it as ``target/train.txt``, ``baseline/evaluation.txt`` and so on,
unless its table ``[prompts]`` names others. Bundled packs are folders with a ``pack.toml``. Its tables ``[[keep]]``
name answers that have to stay what they are; their prompts stand as ``keep/NAME/evaluation.txt`` and so on.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from heretic.common.errors import ConfigurationError, choose_one, first_line, lines_of
from heretic.common.file_names import expanded
from heretic.config import PromptSpecification
from heretic.config.sources import parse_toml
from heretic.prompts.text_files import BUNDLED_FOLDER, BUNDLED_PREFIX, ENDINGS, bundled_packs, read_lines

PACK_FILE = "pack.toml"
_PLACES = {
    "good_prompts": ("baseline", "train"),
    "bad_prompts": ("target", "train"),
    "good_evaluation_prompts": ("baseline", "evaluation"),
    "bad_evaluation_prompts": ("target", "evaluation"),
    "good_held_out_prompts": ("baseline", "held_out"),
    "bad_held_out_prompts": ("target", "held_out"),
}
"""By setting: folder and file of a pack's own prompts."""
ROLES = tuple(_PLACES)
PARTS = ("train", "evaluation", "held_out")
"""Of the prompts whose answers have to stay what they are."""
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
"""Text of a pack that is not empty."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class PackOptions(BaseModel):
    """What a pack's evaluator is told; evaluators read further options by classes of their own.

    Attributes:
        tokens: Length of the answers that are judged; None leaves it to the settings.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    tokens: int | None = Field(default=None, ge=1, le=65536)

    def identity(self) -> dict[str, Any]:
        """What a measured number depends on of these options, as plain JSON."""
        return self.model_dump(mode="json", exclude_defaults=True, include=set(type(self).model_fields))

    @property
    def further(self) -> Mapping[str, Any]:
        """The options that this class does not know."""
        return self.model_extra or {}


class KeepTable(BaseModel):
    """Answers that have to stay what they are, as they are written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    roles: ClassVar[Sequence[str]] = PARTS

    name: Name
    description: Line
    evaluator: Line
    options: PackOptions = PackOptions()
    prompts: dict[str, PromptSpecification] = Field(default={}, strict=False)

    @field_validator("prompts", mode="before")
    @classmethod
    def _declared_roles(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        unknown = [name for name in value if name not in cls.roles]
        if unknown:
            raise ValueError(f"has no {unknown[0]}; it may have {', '.join(cls.roles)}")
        return {name: {"dataset": entry} if isinstance(entry, str) else entry for name, entry in value.items()}


class PackTable(KeepTable):
    """The file as it is written."""

    roles: ClassVar[Sequence[str]] = ROLES

    card: Line
    keep: tuple[KeepTable, ...] = Field(default=(), strict=False)

    @field_validator("keep")
    @classmethod
    def _named_apart(cls, value: tuple[KeepTable, ...]) -> tuple[KeepTable, ...]:
        names = [each.name for each in value]
        if len(set(names)) < len(names):
            raise ValueError(f"has two sets of one name among {', '.join(names)}; name them apart")
        return value


@dataclass(frozen=True, slots=True)
class Pack:
    """One behaviour.

    Attributes:
        name: What people call it.
        description: What it is, in a sentence.
        card: What a saved model's card says of it.
        evaluator: Name of the evaluator that measures it.
        options: What that is told.
        prompts: Where each prompt set is, by setting; of answers that have to stay by part.
        keep: Answers that have to stay what they are, each as a pack of its own, of which nothing is edited.
    """

    name: str
    description: str
    card: str
    evaluator: str
    options: PackOptions
    prompts: Mapping[str, PromptSpecification]
    keep: tuple["Pack", ...] = ()


def bundled_behaviors() -> dict[str, Path]:
    """The bundled packs' files by name."""
    return {file.parent.name: file for file in sorted(BUNDLED_FOLDER.glob(f"*/{PACK_FILE}"))}


def find_pack(name: str) -> Pack:
    """The pack that a run names.

    Raises:
        ConfigurationError: There is none, or its file cannot be used.
    """
    path = pack_file(name)
    if path is None:
        raise ConfigurationError(
            f"There is no behaviour {name}; {choose_one(name, bundled_behaviors())}, or name a pack's TOML file or "
            "folder ('heretic behaviors --new FOLDER' starts one)."
        )
    return read_pack(path)


def pack_file(name: str) -> Path | None:
    """The file of the bundled pack of that name, or of the pack in a file or folder; None where there is none."""
    bundled = bundled_behaviors()
    if name in bundled:
        return bundled[name]
    path = expanded(name)
    path = path / PACK_FILE if os.path.isdir(path) else path
    return path if path.suffix == ".toml" and os.path.isfile(path) else None


def read_pack(path: Path) -> Pack:
    """Read a pack's file; its prompts are not read.

    Raises:
        ConfigurationError: It cannot be read, or something in it does not fit; one line per problem.
        PromptError: A text file that its options name cannot be read.
    """
    try:
        content = _with_listed(path.parent, parse_toml(path.read_text(encoding="utf-8-sig")))
        if isinstance(kept := content.get("keep"), list):
            content = {**content, "keep": [_with_listed(path.parent, each) for each in kept]}
        table = PackTable.model_validate(content)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); check it.") from error
    except ValidationError as error:
        fields = (PackTable, PackOptions, PromptSpecification)
        problems = lines_of(error, [name for model in fields for name in model.model_fields])
        raise ConfigurationError("\n".join(f"{path}: {problem}; mend it." for problem in problems)) from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise ConfigurationError(f"{path} is no TOML ({first_line(error)}); mend it.") from error
    folder = path.parent
    prompts = {role: _specification(folder, table, role, *_PLACES[role]) for role in ROLES}
    keep = tuple(
        Pack(
            each.name,
            each.description,
            each.description,
            each.evaluator,
            each.options,
            {part: _specification(folder, each, part, f"keep/{each.name}", part) for part in PARTS},
        )
        for each in table.keep
    )
    return Pack(table.name, table.description, table.card, table.evaluator, table.options, prompts, keep)


def _with_listed(folder: Path, content: Any) -> Any:
    """A pack's table with the lines of a text file for every option that names one, but for comments (``#``)."""
    options = content.get("options") if isinstance(content, Mapping) else None
    if not isinstance(options, Mapping):
        return content
    listed = {
        name: [line for line in read_lines(folder / value) if not line.lstrip().startswith("#")]
        for name, value in options.items()
        if isinstance(value, str) and value.endswith(".txt")
    }
    return {**content, "options": {**options, **listed}}


def bundled_prompts(pack: Pack) -> dict[Path, Path]:
    """A bundled pack's prompt files by the place where a pack has its own; none where any are on a hub."""
    if not all(specification.dataset.startswith(BUNDLED_PREFIX) for specification in pack.prompts.values()):
        return {}
    bundled = bundled_packs()
    places = {Path(side) / f"{part}.txt": pack.prompts[role] for role, (side, part) in _PLACES.items()}
    places |= {Path("keep", keep.name, f"{part}.txt"): keep.prompts[part] for keep in pack.keep for part in PARTS}
    found = {
        place: bundled.get(named.dataset.removeprefix(BUNDLED_PREFIX), {}).get(named.split or "train")
        for place, named in places.items()
    }
    return {place: file for place, file in found.items() if file is not None}


def _specification(folder: Path, table: KeepTable, role: str, side: str, part: str) -> PromptSpecification:
    """Where a prompt set is: as the pack says, a relative path seen from its folder, or in the usual place."""
    named = table.prompts.get(role)
    if named is None:
        if folder.parent == BUNDLED_FOLDER:
            return PromptSpecification(dataset=f"{BUNDLED_PREFIX}{folder.name}/{side}", split=part)
        return PromptSpecification(dataset=str(folder / side / f"{part}.txt"))
    beside_pack = folder / named.dataset
    beside = os.path.exists(beside_pack) or (
        beside_pack.suffix.lower() in ENDINGS and not named.dataset.startswith(BUNDLED_PREFIX)
    )
    return named.model_copy(update={"dataset": str(beside_pack)}) if beside else named

"""The catalogue of settings: what each is called in every source, what it may hold, and how its text is read.

Everything is derived from the sections, so that a new field needs no second place.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from heretic.config.command_line import VARIABLE_PREFIX
from heretic.config.sections import SECTIONS, PromptSpecification, Section

_SCALARS = (bool, int, float)


@dataclass(frozen=True)
class Setting:
    """One setting, or one part of a prompt set.

    Attributes:
        name: Name in Python and TOML, e.g. ``n_trials`` or ``good_prompts.split``.
        field: Type, default, limits and description.
        section: The section that it belongs to.
    """

    name: str
    field: FieldInfo
    section: type[Section]

    @property
    def path(self) -> tuple[str, ...]:
        """The name in parts."""
        return tuple(self.name.split("."))

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return flag_of(self.name)

    @property
    def variable(self) -> str:
        """Name in the environment."""
        return variable_of(self.name)

    @cached_property
    def choices(self) -> tuple[str, ...]:
        """The values that are allowed where there are only a few, else nothing."""
        annotation = self.field.annotation
        return get_args(annotation) if get_origin(annotation) is Literal else ()

    @cached_property
    def kinds(self) -> tuple[Any, ...]:
        """Plain types that a value may have, without None: ``str``, ``int``, ``list``, ``PromptSpecification``, ..."""
        return tuple(kind for kind in _plain_types(self.field.annotation) if kind is not NoneType)

    @property
    def is_prompt_set(self) -> bool:
        """Whether this is a whole prompt set."""
        return PromptSpecification in self.kinds

    @property
    def is_switch(self) -> bool:
        """Whether the flag may stand without a value."""
        return self.kinds == (bool,)

    @property
    def optional(self) -> bool:
        """Whether the setting may be left without a value."""
        return NoneType in _plain_types(self.field.annotation)

    @property
    def expected(self) -> str:
        """What a value has to be, to stand after ``must be``."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        example = next((value for value in self.field.examples or () if isinstance(value, dict)), None)
        table = f"a table, e.g. {json.dumps(example)}" if example else "a table"
        words: dict[Any, str] = {
            bool: "true or false",
            int: "a whole number" + self._limits(),
            float: "a number" + self._limits(),
            str: " or ".join(_words(self.field.annotation)) or "text",
            list: "a list" + (" with at least one entry" if MinLen in map(type, self.field.metadata) else ""),
            dict: table,
            PromptSpecification: "a dataset or a table with its dataset, split and so on",
        }
        return " or ".join(words[kind] for kind in self.kinds)

    def _limits(self) -> str:
        limits = {type(limit): limit for limit in self.field.metadata}
        low, above, high = limits.get(Ge), limits.get(Gt), limits.get(Le)
        if low and high:
            return f" from {low.ge} to {high.le}"
        if above and high:
            return f" above {above.gt} and up to {high.le}"
        return f" of at least {low.ge}" if low else ""

    def from_text(self, text: str) -> Any:
        """Read what stands on the command line or in the environment.

        Lists are JSON or separated by commas, tables are JSON. What cannot be read is returned as it is, and is then
        refused together with the wrong values of the other sources.
        """
        opening = text.lstrip()[:1]
        if (opening == "{" and {dict, PromptSpecification} & set(self.kinds)) or (
            opening == "[" and list in self.kinds
        ):
            try:
                return json.loads(text)
            except (ValueError, RecursionError):  # also numbers of thousands of digits
                return text
        if list in self.kinds:
            return [part.strip() for part in text.split(",") if part.strip()]
        if self.optional and str not in self.kinds and text.strip().lower() == "none":
            return None
        if self.kinds == (int, str) and text.strip().isdecimal():
            return int(text)
        if len(self.kinds) == 1 and self.kinds[0] in _SCALARS:
            try:
                return TypeAdapter(self.kinds[0]).validate_python(text)
            except ValidationError:
                return text
        return text


def flag_of(name: str) -> str:
    """What a setting of this name is called on the command line."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """What a setting of this name is called in the environment."""
    return VARIABLE_PREFIX + name.upper().replace(".", "__")


def _plain_types(annotation: Any) -> Iterator[Any]:
    """Members of a union, each without its checks and parameters; a choice of words counts as text."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _plain_types(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _plain_types(member)
    elif origin is Literal:
        yield str
    else:
        yield origin or annotation


def _words(annotation: Any) -> list[str]:
    """The words that a union allows beside other values."""
    return [word for member in get_args(annotation) if get_origin(member) is Literal for word in get_args(member)]


def _all_settings() -> Iterator[Setting]:
    for section in SECTIONS:
        for name, field in section.model_fields.items():
            setting = Setting(name, field, section)
            yield setting
            if setting.is_prompt_set:
                for part, part_field in PromptSpecification.model_fields.items():
                    yield Setting(f"{name}.{part}", part_field, section)


SETTINGS = {setting.name: setting for setting in _all_settings()}
"""Name -> setting, in the order of the help; the parts of a prompt set follow it."""

ALIASES = {"direction": "behavior"}
"""Other name of a setting, in every source -> its name."""

NAMED = {**SETTINGS, **{alias: SETTINGS[name] for alias, name in ALIASES.items()}}
"""Every name that a source may use -> setting."""

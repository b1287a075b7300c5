"""What all sections of the settings share."""

from inspect import get_annotations
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict
from pydantic.config import JsonDict

from heretic.config.checks import check_duration, check_size, check_text

Text = Annotated[str, AfterValidator(check_text)]

Size = Annotated[str, AfterValidator(check_size)]

Duration = Annotated[str, AfterValidator(check_duration)]

FINDING = "way of finding directions"
MEASURING = "way of measuring"
ADJUSTING = "set of adjustments"
OBJECTIVE = "objective"
"""Aspects of a study's identity."""


def counts_as(aspect: str | None) -> JsonDict:
    """`json_schema_extra` of a single setting that is part of another aspect than its class says, or of none."""
    return {"aspect": aspect}


class Options(BaseModel):
    """Base of all settings. One class is what one thing is told: that thing's options, and a part of a section.

    Strict, so that ``n_trials = true`` is refused instead of read as 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    aspect: ClassVar[str | None] = None
    """What of a study's identity the settings of this very class are part of; None where a study may be continued with
    others. A study stores those that differ from their defaults, so a new setting orphans none, and whoever changes a
    default has to see to the studies that rest on the one before."""

    @classmethod
    def aspects(cls) -> dict[str, str]:
        """By setting the aspect that it is part of; those that are part of none are left out."""
        aspects = {}
        for name, field in cls.model_fields.items():
            owner = next(base for base in cls.__mro__ if name in get_annotations(base))
            extra = field.json_schema_extra
            aspect = extra.get("aspect") if isinstance(extra, dict) else vars(owner).get("aspect")
            if isinstance(aspect, str):
                aspects[name] = aspect
        return aspects


class Section(Options):
    """Base of all sections; `heretic.config.settings.Settings` joins them."""

    title: ClassVar[str]
    """Heading in the help and in config.default.toml."""

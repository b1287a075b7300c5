"""What all sections of the settings share."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel

from heretic.config.checks import check_size, check_text

Text = Annotated[str, AfterValidator(check_text)]

Size = Annotated[str, AfterValidator(check_size)]


class Section(BaseModel):
    """Base of all sections; `heretic.config.settings.Settings`, which joins them, is frozen and strict."""

    title: ClassVar[str]
    """Heading in the help and in config.default.toml."""

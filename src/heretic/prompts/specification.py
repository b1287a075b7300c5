"""What the readers of prompt sets need to know of a set."""

from typing import Protocol


class Specification(Protocol):
    """Describes a prompt set; see config.sections.PromptSpecification."""

    @property
    def dataset(self) -> str:
        """Bundled name, file, folder or hub id."""

    @property
    def config(self) -> str | None:
        """Configuration of the dataset."""

    @property
    def revision(self) -> str | None:
        """Branch, tag or commit on the hub."""

    @property
    def split(self) -> str | None:
        """Split expression."""

    @property
    def column(self) -> str | None:
        """Column that holds the text."""

    @property
    def prefix(self) -> str:
        """Text before every prompt."""

    @property
    def suffix(self) -> str:
        """Text after every prompt."""

    @property
    def system_prompt(self) -> str | None:
        """System prompt of this set; None for the general one, empty for none."""

    @property
    def streaming(self) -> bool:
        """Whether to read row by row."""

    @property
    def limit(self) -> int | None:
        """Largest number of prompts."""

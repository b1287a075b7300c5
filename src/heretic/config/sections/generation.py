"""Settings of generation."""

from pydantic import Field

from heretic.config.sections.section import Section


class GenerationSection(Section):
    """How responses are generated."""

    title = "Generation"

    batch_size: int = Field(
        default=0, ge=0, le=65536, description="Prompts per forward pass; 0 measures which size is fastest."
    )
    max_batch_size: int = Field(default=128, ge=1, le=65536, description="Largest batch size that is tried.")
    max_response_length: int = Field(default=100, ge=1, le=65536, description="Tokens generated per response.")
    response_prefix: str | None = Field(
        default=None,
        description="Text that every response starts with. Not set: what all responses have in common is found. "
        "An empty string means none.",
        examples=["<think></think>"],
    )

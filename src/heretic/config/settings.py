"""Settings: all sections in one frozen class with flat names.

In Python, ``Settings(model="x")`` has exactly what it is given, and defaults for the rest: neither the environment nor
config.toml is read. Those belong to the command line, that is to `heretic.config.load_settings`, which hands its
sources over through `layered`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from heretic.config.sections import (
    DirectionSection,
    EditSection,
    EvaluationSection,
    GenerationSection,
    ModelSection,
    OutputSection,
    PromptSection,
    SearchSection,
    ValidationSection,
    WatchSection,
)

_REFUSALS = ("refusal", "over-refusal", "demo")
"""Bundled behaviours that are measured by refusals."""

_layers: ContextVar[Sequence[Mapping[str, Any]]] = ContextVar("heretic_settings_layers", default=())


@contextmanager
def layered(layers: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Let `Settings` made inside the with-block read these layers, the first one winning; tables merge key by key."""
    token = _layers.set(layers)
    try:
        yield
    finally:
        _layers.reset(token)


# Pydantic collects the fields of the last base first, so the sections stand in reverse.
class Settings(
    WatchSection,
    OutputSection,
    SearchSection,
    ValidationSection,
    EvaluationSection,
    EditSection,
    DirectionSection,
    GenerationSection,
    PromptSection,
    ModelSection,
    BaseSettings,
):
    """What a run is asked to do; what it discovers on the way is kept elsewhere.

    Raises:
        pydantic.ValidationError: A name is unknown or a value does not fit.
    """

    # Strict, so that ``n_trials = true`` is refused instead of read as 1.
    model_config = SettingsConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @property
    def direction_method(self) -> str:
        """The extractor: as asked for, else rdo where gradients can be had for one extraction, and mean elsewhere."""
        if self.extractor is not None:
            return self.extractor
        # With what else changes edits or chooses directions the plain ones have been measured, see experiments/methods.
        plain = self.use_circuit_ablation or self.use_caa or self.direction_source != "search"
        # Refining looks for first tokens of refusals that are found by markers.
        plain = plain or self.direction not in ([name] for name in _REFUSALS) or self.measure_with != "pack"
        return "mean" if plain or self.quantization != "none" or self.iterative_rounds > 1 else "rdo"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the layers in use; see `layered`."""
        return (init_settings, *(InitSettingsSource(settings_cls, dict(layer)) for layer in _layers.get()))

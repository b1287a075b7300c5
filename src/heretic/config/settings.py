"""Settings: all sections in one frozen class with flat names.

In Python, ``Settings(model="x")`` has exactly what it is given, and defaults for the rest: neither the environment nor
config.toml is read. Those belong to the command line, that is to `heretic.config.load_settings`, which makes
them of its sources by `Settings.of`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from heretic.common.file_names import expanded, safe_name
from heretic.config.sections import AllSections
from heretic.config.sections.search import OPEN_TRIALS

_REFUSALS = ("refusal", "over-refusal", "demo")
"""Bundled behaviours that are measured by refusals."""

_LAYERS = "_layers"
"""Argument of `Settings` that holds further sources; no setting's name begins like that."""


class Settings(AllSections, BaseSettings):
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
        plain = plain or self.behavior not in ([name] for name in _REFUSALS) or self.measure_with != "pack"
        return "mean" if plain or self.quantization != "none" or self.iterative_rounds > 1 else "rdo"

    @property
    def study(self) -> str:
        """Name of the study: as asked for, else of the model and the behaviours."""
        if self.study_name is not None:
            return self.study_name
        # A pack's file is called alike in every folder.
        packs = (path.parent if path.name == "pack.toml" else path for path in map(expanded, self.behavior))
        parts = [expanded(self.model).name if self.model else "", *(path.stem for path in packs)]
        # Its prompts are others, so it can go on with no whole study.
        parts += ["quick"] if self.quick else []
        return safe_name("-".join(dict.fromkeys(filter(None, parts))), "study")

    @property
    def wanted_trials(self) -> int:
        """How many edits are tried, resumed ones included: `OPEN_TRIALS` where only a time limit is given."""
        is_open = self.time_limit is not None and "n_trials" not in self.model_fields_set
        return OPEN_TRIALS if is_open else self.n_trials

    @classmethod
    def of(cls, layers: Sequence[Mapping[str, Any]]) -> "Settings":
        """Settings of several sources, the first one winning; tables merge key by key.

        Raises:
            pydantic.ValidationError: See above.
        """
        arguments: dict[str, Any] = {_LAYERS: layers}
        return cls(**arguments)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the layers of `of`."""
        arguments = dict(init_settings())
        layers = arguments.pop(_LAYERS, ())
        return tuple(InitSettingsSource(settings_cls, dict(layer)) for layer in (arguments, *layers))

"""The table of options that do not go together; what concerns a single value is checked where its setting is declared.

`run.preflight` goes through it before anything is loaded. What takes seconds to import is imported where it is used, so
that the command line can refuse settings that contradict each other at once.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import combinations
from typing import TYPE_CHECKING, Generic, TypeVar

from heretic.common.errors import ConfigurationError
from heretic.config import Settings
from heretic.config.checks import can_be_joined
from heretic.config.sections import DirectionFileOptions, DirectionSection
from heretic.config.study import sqlite_file
from heretic.evaluation.evaluator import READERS, evaluator_of
from heretic.prompts.packs import ROLES, Pack
from heretic.prompts.sets import kept_packs

if TYPE_CHECKING:
    from heretic.directions.extractor import Extractor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row(Generic[T]):
    """Options that do not go together.

    Attributes:
        when: Whether they are asked for together.
        says: One sentence with the option to change.
    """

    when: Callable[[T], object]
    says: Callable[[T], str]


def check(rows: Sequence[Row[T]], subject: T) -> None:
    """Go through rows in their order.

    Raises:
        ConfigurationError: Says what the first row says that applies.
    """
    for row in rows:
        if row.when(subject):
            raise ConfigurationError(row.says(subject))


@dataclass(frozen=True)
class Request:
    """What a run is asked to do: its settings, and the behaviours and the method that they name."""

    settings: Settings
    packs: tuple[Pack, ...]

    @property
    def kept(self) -> tuple[Pack, ...]:
        """What has to stay."""
        return kept_packs(self.settings, self.packs)

    @property
    def names(self) -> list[str]:
        """Names of the behaviours."""
        return [pack.name for pack in self.packs]

    @property
    def unmarked(self) -> str | None:
        """A behaviour that is not measured by the wording of refusals."""
        return next((pack.name for pack in self.packs if not evaluator_of(pack).finds_refusals), None)

    @property
    def unread(self) -> str:
        """Why a model that has to read answers is not named, in one sentence; empty where none lacks."""
        kinds = ((pack.name, evaluator_of(pack).reader) for pack in (*self.packs, *self.kept))
        problems = (READERS.get(kind).problem(self.settings, name) for name, kind in kinds if kind)
        return next(filter(None, problems), "")

    @cached_property
    def method(self) -> "Extractor":
        """What finds the directions."""
        from heretic.directions.extractor import EXTRACTORS

        return EXTRACTORS.get(self.settings.direction_method)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _changed(settings: Settings, *names: str) -> str:
    """The first of these settings that has another value than its default, or nothing."""
    fields = Settings.model_fields
    return next((name for name in names if getattr(settings, name) != fields[name].default), "")


def searches(settings: Settings) -> bool:
    """Whether edits are searched for; else a model that is edited already is measured."""
    return settings.evaluate_model is None


def _idle(settings: Settings) -> str:
    """A setting of finding directions that was changed though they are loaded, or nothing."""
    names = [name for name in DirectionSection.model_fields if name not in DirectionFileOptions.model_fields]
    # Profiles name the plain method for models that need no other.
    if settings.extractor == "mean":
        names.remove("extractor")
    return _changed(settings, *names) if settings.load_directions else ""


def _written(settings: Settings) -> dict[str, str]:
    """Settings that name a file which the run writes, and its absolute path with links resolved."""
    paths = {name: getattr(settings, name) for name in ("log_file", "metrics_file", "save_directions")}
    paths["profile_store"] = settings.profile_store if settings.use_warm_start_params else None
    if settings.auto_select_path or any(paths.values()):
        paths["storage"] = sqlite_file(settings.storage)
    return {name: _real(path) for name, path in paths.items() if path is not None}


def _real(path: str | os.PathLike[str]) -> str:
    return os.path.realpath(os.path.expanduser(path))


def _same_file(settings: Settings) -> tuple[str, str] | None:
    """Two settings that name the same file, or None."""
    pairs = combinations(_written(settings).items(), 2)
    return next(((one, other) for (one, path), (other, same) in pairs if path == same), None)


def _in_target(settings: Settings) -> str:
    """A setting that names a file in the folder which the chosen model is to become, or nothing."""
    if not (settings.auto_select and settings.auto_select_path and searches(settings)):
        return ""
    target = os.path.join(_real(settings.auto_select_path), "")
    return next((name for name, path in _written(settings).items() if path.startswith(target)), "")


OPTIONS: tuple[Row[Settings], ...] = (
    Row(
        lambda settings: (
            settings.auto_select and searches(settings) and not (settings.auto_select_path or settings.hf_upload)
        ),
        lambda _: (
            "auto_select needs a place for the chosen model; add --auto-select-path FOLDER or --hf-upload REPOSITORY."
        ),
    ),
    Row(
        _same_file,
        lambda settings: (
            f"{' and '.join(_same_file(settings) or ())} name the same file, so that one would destroy the other; give "
            f"another {_flag((_same_file(settings) or ('',))[-1])}."
        ),
    ),
    Row(
        _in_target,
        lambda settings: (
            f"{_in_target(settings)} is a file in {settings.auto_select_path}, but that folder appears only when the "
            f"model is saved, complete; name another folder in one of --auto-select-path and "
            f"{_flag(_in_target(settings))}."
        ),
    ),
    Row(
        lambda settings: settings.load_directions_weights and not settings.load_directions,
        lambda _: (
            "load_directions_weights weighs the files of load_directions, but none is given; add --load-directions or "
            "leave out --load-directions-weights."
        ),
    ),
    Row(
        lambda settings: (
            settings.load_directions_weights and len(settings.load_directions_weights) != len(settings.load_directions)
        ),
        lambda settings: (
            f"load_directions_weights has {len(settings.load_directions_weights)} numbers for "
            f"{len(settings.load_directions)} files of load_directions; give one for each."
        ),
    ),
    Row(
        _idle,
        lambda settings: (
            f"load_directions takes the directions from a file, so {_idle(settings)} would have no effect; leave out "
            f"{_flag(_idle(settings))} or --load-directions."
        ),
    ),
    Row(
        lambda settings: settings.join and searches(settings) and not can_be_joined(settings.storage),
        lambda settings: (
            "join needs a study on a PostgreSQL server, since one in a file is for one run at a time; copy the study "
            "there with 'heretic migrate SOURCE TARGET' and name the server with --storage, or leave out --join."
        ),
    ),
    Row(
        lambda settings: settings.ray_address is not None and settings.workers == 1,
        lambda _: (
            "ray_address says where several workers run, but one was asked for; add --workers N, or leave out "
            "--ray-address."
        ),
    ),
    Row(
        lambda settings: settings.workers != 1 and searches(settings) and find_spec("ray") is None,
        lambda _: (
            "workers asks for several processes, which need Ray, and it is not installed; install it with pip install "
            "'heretic[parallel]', or use --workers 1."
        ),
    ),
    Row(
        lambda settings: settings.activation_factor_min > settings.activation_factor_max,
        lambda _: "activation_factor_min is above activation_factor_max; exchange them.",
    ),
    Row(
        lambda settings: (
            searches(settings)
            and settings.auto_select
            and settings.save_format == "adapter"
            and settings.normalization == "column"
        ),
        lambda _: (
            "An adapter cannot hold edits that keep the norms of a weight's columns; use --normalization row or none, "
            "or choose --save-format merged."
        ),
    ),
    Row(
        lambda settings: (
            searches(settings)
            and settings.auto_select
            and settings.save_format == "adapter"
            and settings.use_circuit_ablation
            and settings.normalization != "none"
        ),
        lambda _: (
            "An adapter cannot hold edits of chosen heads that keep the norms of weights; use --normalization none, "
            "--use-circuit-ablation false, or choose --save-format merged."
        ),
    ),
    Row(
        lambda settings: (
            searches(settings)
            and settings.auto_select
            and settings.save_format == "adapter"
            and (settings.model or "").lower().endswith(".gguf")
        ),
        lambda _: "PEFT cannot load a GGUF file beneath an adapter; choose --save-format merged.",
    ),
    Row(
        lambda settings: searches(settings) and settings.use_caa and settings.save_format == "adapter",
        lambda _: "An adapter cannot hold the biases of use_caa; choose --save-format merged or use --use-caa false.",
    ),
)
"""Settings alone."""


def _only_refusal(name: str) -> Row[Request]:
    """An option that looks for refusals in answers."""
    return Row(
        lambda request: getattr(request.settings, name) and request.unmarked,
        lambda request: (
            f"{name} looks for markers of refusals, but {request.unmarked} is not measured by them; use {_flag(name)} "
            "false."
        ),
    )


def _only_one(name: str) -> Row[Request]:
    """An option that is made for the directions of one behaviour."""
    return Row(
        lambda request: len(request.packs) > 1 and _changed(request.settings, name),
        lambda request: (
            f"{name} works on one behaviour, but --behavior names {len(request.packs)}; leave out {_flag(name)} or "
            "name one."
        ),
    )


BEHAVIORS: tuple[Row[Request], ...] = (
    Row(
        lambda request: len(set(request.names)) < len(request.names),
        lambda request: (
            f"--behavior names {max(request.names, key=request.names.count)} twice; name each behaviour once."
        ),
    ),
    Row(
        lambda request: len(request.packs) > 1 and _changed(request.settings, *ROLES),
        lambda request: (
            f"{_changed(request.settings, *ROLES)} cannot be set for several behaviours at once; leave out "
            f"{_flag(_changed(request.settings, *ROLES))}, or write a pack with these prompts and name its file with "
            "--behavior."
        ),
    ),
    Row(
        lambda request: request.settings.measure_with not in ("pack", *(pack.evaluator for pack in request.packs)),
        lambda request: (
            f"{' and '.join(request.names)} cannot be measured with {request.settings.measure_with}, which no "
            "model reads answers for or which lacks options to ask about; use --measure-with pack."
        ),
    ),
    Row(lambda request: request.unread, lambda request: request.unread),
    *map(_only_refusal, ("use_caa", "use_neural_refusal_detection")),
)
"""Settings with the behaviours that they name."""

METHODS: tuple[Row[Request], ...] = (
    Row(
        lambda request: request.method.refined and request.unmarked,
        lambda request: (
            f"The extractor {request.settings.direction_method} looks for first tokens of refusals that markers find, "
            f"but {request.unmarked} is not measured by them; choose another --extractor such as mean."
        ),
    ),
    *map(
        _only_one,
        (
            "load_directions",
            "direction_source",
            "iterative_rounds",
            "use_activation_calibration",
            "use_circuit_ablation",
        ),
    ),
    Row(
        lambda request: request.settings.direction_weights and not request.method.takes_weights,
        lambda request: (
            f"The extractor {request.settings.direction_method} cannot be given weights; leave --direction-weights out "
            "or choose --extractor pca."
        ),
    ),
    Row(
        lambda request: (
            request.settings.direction_weights
            and len(request.settings.direction_weights) != request.settings.n_directions
        ),
        lambda request: (
            f"direction_weights has {len(request.settings.direction_weights)} entries, but there are "
            f"{request.settings.n_directions} directions; give one weight for each, or change --n-directions."
        ),
    ),
    Row(
        lambda request: request.method.refined and request.settings.quantization != "none",
        lambda request: (
            f"The extractor {request.settings.direction_method} needs gradients through the weights, which quantised "
            "ones do not give; use --quantization none or choose another --extractor such as mean."
        ),
    ),
    Row(
        lambda request: request.method.refined and request.settings.iterative_rounds > 1,
        lambda request: (
            f"The extractor {request.settings.direction_method} refines the directions of one extraction; use "
            "--iterative-rounds 1 or choose another --extractor such as mean."
        ),
    ),
)
"""Settings with the behaviours and the method of finding directions, where edits are searched for."""


def check_options(settings: Settings) -> None:
    """Refuse settings that contradict each other; imports nothing heavy.

    Raises:
        ConfigurationError: Names the option to change.
    """
    check(OPTIONS, settings)

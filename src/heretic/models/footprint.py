"""How much memory a run takes, from the headers of a model's weights alone: no weight is read, and no torch is needed.

The figures beside the weights were measured (benchmarks/README.md, memory); they are estimates, and say so.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heretic.common.errors import ModelError
from heretic.common.integrity import read_foreign
from heretic.config import Settings
from heretic.models.location import Location
from heretic.models.weight_headers import Table, Tensor, tensors_of_model

DTYPES = {"float64": 8, "float32": 4}
"""Bytes of a number in memory; others take two."""
PROGRAM = 600_000_000
"""Bytes of the process once torch and transformers are imported."""
PASS_TOKENS = 1024
"""Tokens of a pass of predictions, and at most of a backward one: they keep a device busy."""
ANSWERING_ROWS, ROW_TOKENS = 160, 160
"""Rows decoded at once on a CPU (beyond, only the gate becomes coarser), and about the tokens of each."""
ORDERED_SHARE = 0.4
"""Ordering weights as a CPU multiplies by them takes at most this share of the free host memory."""
KEPT_SHARE = 0.1
"""Kept lower layers take at most this share of the device's free memory."""
ACTIVATIONS_SHARE, ACTIVATIONS = 0.3, 250_000_000
"""On a CPU, activations of a backward pass take at most this share of the weights, or so many bytes if that is more."""
_USUAL_PROMPTS = 100
FOUR_BITS = 0.56
"""Bytes of a weight that bitsandbytes packs into 4 bits, with its scales."""


def configuration_in(location: Location) -> dict[str, Any]:
    """config.json of a model's folder, that of its text part where it has several; empty where there is none."""
    path = Path(location.source) / "config.json"
    try:
        table = json.loads(read_foreign(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return text_part(table) if isinstance(table, dict) else {}


def text_part(table: dict[str, Any]) -> dict[str, Any]:
    """A configuration with what its text part says."""
    text = table.get("text_config")
    return {**table, **text} if isinstance(text, dict) else table


def key_bytes(configuration: Table, width: int) -> int:
    """Bytes of the keys and values of one token in all layers; a size that is not stated counts as none.

    Args:
        configuration: config.json, of its text part.
        width: Bytes of a number.
    """
    heads = _number_in(configuration, "num_attention_heads", 1)
    size = _number_in(configuration, "head_dim") or _number_in(configuration, "hidden_size") // max(heads, 1)
    layers = _number_in(configuration, "num_hidden_layers")
    return 2 * (_number_in(configuration, "num_key_value_heads") or heads) * size * layers * width


def _number_in(configuration: Table, name: str, default: int = 0) -> int:
    value = configuration.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def activation_bytes(hidden: int, inner: int, layers: int, width: int) -> int:
    """About what a backward pass needs of a forward one for each token.

    Args:
        hidden: D.
        inner: Size of the MLPs.
        layers: How many.
        width: Bytes of a number.
    """
    return layers * (8 * hidden + 4 * inner) * width


@dataclass(frozen=True, slots=True)
class Work:
    """What a run is going to do.

    Attributes:
        dtype: Number format of the loaded weights.
        prompts: Baseline prompts whose predictions are compared.
        positions: Positions of each.
        quantization: As in the settings.
        cached: Whether copies of the editable weights are kept.
    """

    dtype: str
    prompts: int
    positions: int
    quantization: str = "none"
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of a model and of what a run keeps beside it."""

    tensors: tuple[Tensor, ...]
    configuration: Table
    work: Work

    def _number(self, name: str, default: int = 0) -> int:
        return _number_in(self.configuration, name, default)

    @property
    def width(self) -> int:
        """Bytes of a number in memory."""
        return DTYPES.get(self.work.dtype, 2)

    @property
    def parameters(self) -> int:
        """How many numbers the weights are."""
        return sum(tensor.numbers for tensor in self.tensors)

    @property
    def stored(self) -> int:
        """Bytes of the weights' files."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def weights(self) -> int:
        """Bytes of the loaded weights."""
        if self.work.quantization == "none":
            return self.parameters * self.width
        packed = sum(tensor.numbers for tensor in self._linear())
        each = FOUR_BITS if self.work.quantization == "bnb_4bit" else 1.0
        return int(packed * each) + (self.parameters - packed) * 2

    def _linear(self) -> Iterable[Tensor]:
        """What linear layers multiply by, output embeddings aside."""
        vocabulary = self._number("vocab_size")
        return (tensor for tensor in self.tensors if len(tensor.shape) > 1 and vocabulary not in tensor.shape)

    @property
    def ordered(self) -> int:
        """Bytes that it takes to order linear weights as a CPU wants them, in their own place; quantised ones stay.

        The largest is there twice for a moment, and tied output embeddings for as long as the others are ordered.
        """
        if self.work.quantization != "none" or self.work.dtype not in ("float32", "bfloat16"):
            return 0
        embeddings = self._number("vocab_size") * self._number("hidden_size")
        largest = max((tensor.numbers for tensor in self._linear() if len(tensor.shape) == 2), default=0)
        tied = self.configuration.get("tie_word_embeddings") is True
        return (embeddings + largest if tied else max(embeddings, largest)) * self.width

    @property
    def cache(self) -> int:
        """Bytes of copies of the editable weights: those that put out the residual stream."""
        hidden, inner = self._number("hidden_size"), self._number("intermediate_size")
        if not self.work.cached:
            return 0
        shapes = ((hidden, inner), (inner, hidden)) if inner else ()
        down = sum(tensor.numbers for tensor in self.tensors if tensor.shape in shapes) // 3
        return (down + self._number("num_hidden_layers") * hidden * hidden) * self.width

    @property
    def predictions(self) -> int:
        """Bytes of the original model's predictions, which trials are compared with."""
        return self.work.prompts * self.work.positions * self._number("vocab_size") * self.width

    @property
    def keys_and_values(self) -> int:
        """Bytes of the cache of the rows that are answered at once."""
        return ANSWERING_ROWS * ROW_TOKENS * key_bytes(self.configuration, self.width)

    @property
    def kept_layers(self) -> int:
        """Bytes of what each layer reads of the prompts, as far as there is room."""
        rows = self._number("num_hidden_layers") * self._number("hidden_size") * self.width
        return self.work.prompts * 2 * (ROW_TOKENS // 4) * rows

    @property
    def activations(self) -> int:
        """Bytes of what a backward pass needs of a forward one."""
        inner = self._number("intermediate_size", 4 * self._number("hidden_size"))
        each = activation_bytes(self._number("hidden_size"), inner, self._number("num_hidden_layers"), self.width)
        return min(PASS_TOKENS * each, int(max(ACTIVATIONS_SHARE * self.weights, ACTIVATIONS)))

    @property
    def least(self) -> int:
        """Bytes without which nothing goes: the program, the weights, and one short row."""
        return PROGRAM + self.weights + self.cache + self._number("vocab_size") * self.width * 64

    @property
    def worker(self) -> int:
        """Bytes of one of several processes that measure trials, without what a run only does to be faster."""
        return PROGRAM + self.weights + self.cache + self.predictions + self.keys_and_values


@dataclass(frozen=True, slots=True)
class StepNeed:
    """What one step takes at its peak, in bytes, and what is done without because memory is short."""

    step: str
    bytes: int
    without: str = ""


def needs(footprint: Footprint, available: int) -> list[StepNeed]:
    """The steps of a run, each with its peak; what only saves time is left out where there is no room for it."""
    held = PROGRAM + footprint.weights + footprint.cache
    free = max(available - held, 0)
    ordered = footprint.ordered if footprint.ordered <= ORDERED_SHARE * free else 0
    kept = min(footprint.kept_layers, int(KEPT_SHARE * max(free - ordered, 0)))
    without = "" if ordered or not footprint.ordered else "weights in the CPU's order: trials take about a third longer"
    search = held + footprint.predictions + ordered + kept + footprint.keys_and_values
    return [
        StepNeed("loading", held),
        StepNeed("refinement", held + footprint.activations),
        StepNeed("search", search, without),
        StepNeed("saving", held + footprint.predictions),
    ]


def footprint_of(location: Location, settings: Settings) -> Footprint:
    """The model's sizes; of a repository those that the hub's index of its weights gives.

    Raises:
        ModelError: Nothing says how large it is.
    """
    if location.gguf_file is not None:
        raise ModelError(
            f"{location.name} is packed and unpacked when it is loaded; name a folder with .safetensors files, whose "
            "headers say how large it is."
        )
    if location.is_hub:
        from heretic.models.hub_index import hub_tensors  # takes long to import

        tensors, configuration = hub_tensors(location, settings.model_revision)
    else:
        tensors, configuration = tensors_of_model(Path(location.source), location.name), configuration_in(location)
    return Footprint(tensors, configuration, _work(settings, configuration))


def _work(settings: Settings, configuration: Table) -> Work:
    first = settings.dtypes[0].removeprefix("torch.")
    configured = configuration.get("dtype", configuration.get("torch_dtype"))
    dtype = str(configured).removeprefix("torch.") if first == "auto" and configured else first
    prompts = settings.good_evaluation_prompts.count or _USUAL_PROMPTS
    positions = 1 if settings.kl_mode == "first" else settings.kl_tokens
    cached = settings.cache_weights and settings.engine == "inplace"
    return Work("float32" if dtype == "auto" else dtype, prompts, positions, settings.quantization, cached)

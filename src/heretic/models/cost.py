"""What a trial costs on a device, by a model's configuration alone: operations and bytes. Pure; nothing is measured.

Products with weights, keys and values that are read, and the launches of a step are counted; attention's own products,
norms and looking for the likeliest token are not. `benchmarks/cost_model.py` has its table, and compares it with runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from heretic.models.footprint import PASS_TOKENS, key_bytes

PRODUCTS, STREAMING = 0.6, 0.8
"""Shares of a device's arithmetic and of its bandwidth that large products and reading weights reach."""
KEYS_AND_VALUES = 0.5
"""Likewise of the bandwidth, reading keys and values row by row."""
BYTES = 2
"""Of a number of the weights, and of keys and values."""
USABLE = 0.9
"""Share of a device's memory that weights, keys and values may take."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model's size decides what it costs.

    Attributes:
        body: Weights of all layers that a token goes through (of experts, those it is sent to).
        head: Weights of the output embeddings.
        layers: How many.
        key_bytes: Keys and values of a token.
    """

    body: int
    head: int
    layers: int
    key_bytes: int

    @classmethod
    def of(cls, configuration: Mapping[str, Any]) -> "Shape":
        """Of a decoder by its config.json (its text part), as far as the usual names say.

        Raises:
            KeyError: A size is missing.
        """
        hidden, layers = int(configuration["hidden_size"]), int(configuration["num_hidden_layers"])
        heads = int(configuration["num_attention_heads"])
        key_heads = int(configuration.get("num_key_value_heads") or heads)
        size = int(configuration.get("head_dim") or hidden // heads)
        experts = int(configuration.get("num_experts_per_tok") or 1)
        inner = int(configuration.get("moe_intermediate_size") or configuration["intermediate_size"])
        layer = 2 * hidden * size * (heads + key_heads) + 3 * hidden * inner * experts
        return cls(layers * layer, hidden * int(configuration["vocab_size"]), layers, key_bytes(configuration, BYTES))


@dataclass(frozen=True, slots=True)
class Device:
    """An accelerator or a CPU.

    Attributes:
        name: As people call it.
        operations: A second, of dense products in the format of the weights.
        bandwidth: Bytes a second from its memory.
        memory: Bytes.
        launch: Seconds that a layer of one step takes at least, however small it is.
    """

    name: str
    operations: float
    bandwidth: float
    memory: float
    launch: float = 0.0007


DEVICES = {
    "RTX_4090": Device("RTX 4090", 165e12, 1.01e12, 24e9),
    "A6000": Device("A6000", 155e12, 0.77e12, 48e9),
    "A100_40GB": Device("A100 40 GB", 312e12, 1.56e12, 40e9),
    "A100_80GB": Device("A100 80 GB", 312e12, 2.04e12, 80e9),
    "H100": Device("H100", 989e12, 3.35e12, 80e9),
    "H200": Device("H200", 989e12, 4.8e12, 141e9),
}
"""By their makers' data sheets, bfloat16 without sparsity; a step of 32 layers is assumed to take 22 ms to launch."""


@dataclass(frozen=True, slots=True)
class UsualModel:
    """A model that stands for those of its size.

    Attributes:
        parameters: How many.
        configuration: Its config.json, as far as sizes go.
    """

    parameters: int
    configuration: Mapping[str, int]


def _usual(
    parameters: int, hidden: int, inner: int, layers: int, heads: tuple[int, int], vocabulary: int
) -> UsualModel:
    return UsualModel(
        parameters,
        {
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads[0],
            "num_key_value_heads": heads[1],
            "vocab_size": vocabulary,
        },
    )


USUAL = {
    "0.5 B": _usual(630_000_000, 896, 4864, 24, (14, 2), 151_936),
    "8 B": _usual(8_030_000_000, 4096, 14336, 32, (32, 8), 128_256),
    "32 B": _usual(32_800_000_000, 5120, 27648, 64, (40, 8), 152_064),
    "70 B": _usual(70_600_000_000, 8192, 28672, 80, (64, 8), 128_256),
}
"""Qwen 2.5 0.5 B (with output embeddings of its own), Llama 3.1 8 B, Qwen 2.5 32 B and Llama 3.1 70 B."""


@dataclass(frozen=True, slots=True)
class TrialWork:
    """What a trial does.

    Attributes:
        compared: Prompts whose predictions are compared.
        positions: Predictions of each; 1 for the first token only.
        answered: Prompts that are answered.
        prompt_tokens: Of a prompt, behind what all begin with.
        answer_tokens: Of an answer at most.
        shared_tokens: What all prompts begin with.
        alive: Mean share of the answers that are still written.
        candidates: Plans measured at once.
        read_layers: Share of the layers that a candidate reads itself; the lower ones are kept.
    """

    compared: int = 100
    positions: int = 30
    answered: int = 100
    prompt_tokens: float = 30.0
    answer_tokens: int = 100
    shared_tokens: int = 20
    alive: float = 0.6
    candidates: int = 16
    read_layers: float = 1.0


@dataclass(frozen=True, slots=True)
class TrialCost:
    """Seconds of a trial's parts, and its operations.

    Attributes:
        divergence: Comparing predictions.
        prompts: Reading the prompts of answers.
        decoding: Writing answers.
        operations: Of all products with weights.
    """

    divergence: float
    prompts: float
    decoding: float
    operations: float

    @property
    def seconds(self) -> float:
        """Of the trial."""
        return self.divergence + self.prompts + self.decoding


def trial_cost(shape: Shape, device: Device, work: TrialWork) -> TrialCost:
    """What one of a batch's trials takes.

    Args:
        shape: The model's.
        device: Where it runs.
        work: What is measured.
    """
    body, rate = shape.body * work.read_layers, device.operations * PRODUCTS
    further = work.positions if work.positions > 1 else 0
    read = work.compared * (work.prompt_tokens + further)
    divergence = 2 * (body * read + shape.head * work.compared * work.positions)
    prompts = 2 * body * work.answered * work.prompt_tokens
    step = device.launch * shape.layers
    rows = max(1.0, work.candidates * work.answered * work.alive)
    decoding = sum(
        _step(shape, device, rows, work.shared_tokens + work.prompt_tokens + written)
        for written in range(work.answer_tokens)
    )
    written = work.answered * work.alive * work.answer_tokens
    return TrialCost(
        max(divergence / rate, max(1.0, read / PASS_TOKENS) * step),
        prompts / rate,
        decoding / work.candidates,
        divergence + prompts + 2 * (shape.body + shape.head) * written,
    )


def candidates_that_fit(shape: Shape, memory: float, weights: float, work: TrialWork) -> int:
    """How many plans can be measured at once, at most as many as the work has; 0 where there is no room for one.

    Args:
        shape: The model's.
        memory: Bytes of the device, or of those that hold the model together.
        weights: Bytes of the loaded model.
        work: What is measured.
    """
    tokens = work.shared_tokens + work.prompt_tokens + work.answer_tokens
    room = (USABLE * memory - weights) / (shape.key_bytes * work.answered * tokens)
    return max(min(int(room), work.candidates), 0)


def _step(shape: Shape, device: Device, rows: float, context: float) -> float:
    """Seconds of one token more for every row: by arithmetic or reading the weights, and reading keys and values."""
    weights = shape.body + shape.head
    products = max(
        2 * weights * rows / (device.operations * PRODUCTS), BYTES * weights / (device.bandwidth * STREAMING)
    )
    keys = rows * context * shape.key_bytes / (device.bandwidth * KEYS_AND_VALUES)
    return max(products + keys, device.launch * shape.layers)

"""Settings of the model, of loading it, and of generating with it."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from heretic.config.checks import check_device, check_dtype, check_revision, with_text_keys
from heretic.config.sections.section import Section, Size, Text


class ModelSection(Section):
    """Which model, and how it is loaded."""

    title = "Model"

    model: Text | None = Field(
        default=None,
        description="Model to edit: hub id, local folder, GGUF file, or 'demo' for the bundled toy model.",
        examples=["demo"],
    )
    evaluate_model: Text | None = Field(
        default=None,
        description="Only measure this already edited model against --model; nothing is searched.",
        examples=["path/to/edited-model"],
    )
    model_revision: Annotated[str, AfterValidator(check_revision)] | None = Field(
        default=None, description="Branch, tag or commit of the model on the hub.", examples=["main"]
    )
    dtypes: list[Annotated[str, AfterValidator(check_dtype)]] = Field(
        default=["auto", "float16", "float32"],
        min_length=1,
        description="Number formats to try in this order; the first that generates finite numbers is used.",
    )
    quantization: Literal["none", "bnb_4bit", "bnb_8bit"] = Field(
        default="none", description="Load the weights quantised with bitsandbytes to save memory."
    )
    device: Annotated[str, AfterValidator(check_device)] = Field(
        default="auto",
        description="Device to compute on: cpu, cuda, cuda:1, xpu, mps, npu, ...; auto takes the best one there is.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Threads that a CPU computes with; 0 measures whether all are faster than one.",
    )
    device_map: Text | dict[str, str | int] = Field(
        default="auto", description="How accelerate spreads the layers over devices: a strategy or a table."
    )
    max_memory: Annotated[dict[str, Size], BeforeValidator(with_text_keys)] | None = Field(
        default=None,
        description='Memory that each device may use for weights, e.g. {"0": "20GB", "cpu": "64GB"}.',
        examples=[{"0": "20GB", "cpu": "64GB"}],
    )
    trust_remote_code: bool = Field(default=False, description="Let the model run Python code from its repository.")
    allow_pickle: bool = Field(
        default=False,
        description="Also load pickled weights (pytorch_model.bin), which may run code when they are opened, where "
        "there are no safetensors.",
    )
    verify: bool = Field(
        default=True, description="Compare the files of a model that has a manifest with it before it is loaded."
    )
    compile: bool = Field(default=False, description="Compile the model with torch.compile before measuring.")


class GenerationSection(Section):
    """How responses are generated."""

    title = "Generation"

    batch_size: int = Field(
        default=0, ge=0, le=65536, description="Prompts per forward pass; 0 measures which size is fastest."
    )
    max_batch_size: int = Field(default=128, ge=1, le=65536, description="Largest batch size that is tried.")
    response_prefix: str | None = Field(
        default=None,
        description="Text that every response starts with. Not set: what all responses have in common is found. "
        "An empty string means none.",
        examples=["<think></think>"],
    )

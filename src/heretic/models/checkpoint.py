"""What is read of a model once, before its weights are tried with one dtype after the other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)
from transformers.utils.hub import cached_file, extract_commit_hash
from transformers.utils.import_utils import is_vision_available

from heretic.errors import ModelError
from heretic.models.gguf import gguf_arguments
from heretic.models.location import Location

_PICKLE_ENDINGS = (".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model without its weights.

    Attributes:
        location: Where it is.
        arguments: Keyword arguments that every `from_pretrained` of it takes.
        commit: Commit of the hub snapshot, or None for a folder.
        configuration: Its transformers configuration.
        tokenizer: Padding on the left, with a padding token and, where the model has one, its chat template.
        processor: The processor of a vision-language model, else None.
        is_vision_language: Whether it reads images as well.
    """

    location: Location
    arguments: dict[str, Any]
    commit: str | None
    configuration: Any
    tokenizer: PreTrainedTokenizerBase
    processor: Any | None
    is_vision_language: bool

    def dtype_of(self, entry: str) -> str:
        """What an entry of the dtype chain means for this model; ``auto`` stays where the configuration names none."""
        configured = getattr(self.configuration, "dtype", None)
        return str(configured).removeprefix("torch.") if entry == "auto" and configured is not None else entry


def read_checkpoint(location: Location, revision: str | None, trust_remote_code: bool) -> Checkpoint:
    """Read configuration, tokenizer and processor.

    Raises:
        ModelError: This kind of model cannot be edited, or has no weights that are safe to load.
        Exception: Whatever transformers raises where a file is missing or cannot be read; see `load_errors`.
    """
    arguments: dict[str, Any] = {"trust_remote_code": trust_remote_code, **gguf_arguments(location.gguf_file)}
    commit = None
    if location.is_hub:
        # From here on all files come from one commit, also if the repository changes between two dtypes.
        commit = _current_commit(location, revision)
        arguments["revision"] = commit or revision
    elif location.gguf_file is None:
        _refuse_pickle(location)
    configuration: Any = AutoConfig.from_pretrained(location.source, **arguments)
    if getattr(configuration, "is_encoder_decoder", False):
        raise ModelError(
            f"{location.name} is an encoder-decoder model; name a decoder-only one, which Heretic can edit."
        )
    is_vision_language = location.gguf_file is None and is_vision_language_model(configuration)
    tokenizer = prepared_tokenizer(AutoTokenizer.from_pretrained(location.source, **arguments))
    processor: Any = None
    if is_vision_language:
        if not is_vision_available():
            raise ModelError(f"{location.name} reads images as well, which needs Pillow; run 'pip install pillow'.")
        auto_processor: Any = AutoProcessor
        processor = auto_processor.from_pretrained(location.source, **arguments)
        if not tokenizer.chat_template:
            # Older vision-language repositories keep the template in a file that only the processor reads.
            tokenizer.chat_template = getattr(processor, "chat_template", None)
    return Checkpoint(location, arguments, commit, configuration, tokenizer, processor, is_vision_language)


def _current_commit(location: Location, revision: str | None) -> str | None:
    """Commit that a revision stands for now, or None where the hub's cache does not tell."""
    file: str | None = cached_file(location.source, "config.json", revision=revision)
    if file is None:
        raise ModelError(
            f"{location.name} has no config.json on the hub, so it is no transformers model; name another one, or "
            "download its .gguf file and name that."
        )
    return extract_commit_hash(file, None)


def _refuse_pickle(location: Location) -> None:
    """Say why a folder with nothing but pickled weights is not loaded."""
    files = [file.name for file in sorted(Path(location.source).iterdir())]
    pickled = [name for name in files if name.endswith(_PICKLE_ENDINGS) and not name.startswith("training_args")]
    if pickled and not any(name.endswith(".safetensors") for name in files):
        raise ModelError(
            f"The weights of {location.name} are pickled ({pickled[0]}), and such files can run any code when they are "
            "opened; convert the model to safetensors."
        )


def is_vision_language_model(configuration: Any) -> bool:
    """Whether a configuration describes a model that reads images and text.

    Some model types exist with and without vision; there the checkpoint's own class decides.
    """
    kind = configuration.model_type
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return False
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return True
    return MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[kind] in (configuration.architectures or [])


def model_class(is_vision_language: bool) -> Any:
    """The auto class that builds the model with its language head."""
    return transformers.AutoModelForImageTextToText if is_vision_language else transformers.AutoModelForCausalLM


def prepared_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A tokenizer that pads on the left, with a token to pad with.

    Raises:
        ModelError: It has no token that could serve.
    """
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        substitute = tokenizer.eos_token or tokenizer.unk_token
        if substitute is None:
            raise ModelError(
                "The tokenizer has neither a padding nor an end token; add a pad_token to tokenizer_config.json."
            )
        tokenizer.pad_token = substitute
    return tokenizer

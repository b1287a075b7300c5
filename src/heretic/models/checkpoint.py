"""What is read of a model once, before its weights are tried with one dtype after the other."""

from dataclasses import dataclass
from typing import Any

import transformers
from transformers import AutoConfig, AutoProcessor, AutoTokenizer, PreTrainedTokenizerBase

from heretic.common.errors import ModelError
from heretic.models.gguf import gguf_arguments, restore_rope
from heretic.models.location import Location
from heretic.models.model_files import (
    check_kernels,
    check_ordinary,
    check_weights,
    configurations,
    find_file,
    has_safetensors,
)
from heretic.models.private_api import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    extract_commit_hash,
    hub_file,
    is_vision_available,
)
from heretic.models.remote_code import RemoteCode, find_remote_code
from heretic.models.sizes import check_sizes, check_text_sizes
from heretic.models.stored_forms import StoredForm, stored_form
from heretic.models.verified import verify_model


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
        code: Python code of its own that it runs, or None.
        weights: Format of its weights: ``safetensors``, ``gguf`` or ``pickle``.
    """

    location: Location
    arguments: dict[str, Any]
    commit: str | None
    configuration: Any
    tokenizer: PreTrainedTokenizerBase
    processor: Any | None
    is_vision_language: bool
    code: RemoteCode | None = None
    weights: str = "safetensors"

    def arguments_of(self, auto_class: str) -> dict[str, Any]:
        """Keyword arguments of one auto class's `from_pretrained`."""
        return {**self.arguments, **({} if self.code is None else self.code.arguments(auto_class))}

    @property
    def form(self) -> StoredForm | None:
        """How the weights are quantised where they are stored, or None where they are ordinary ones."""
        return None if self.weights == "gguf" else stored_form(self.configuration)

    def dtype_of(self, entry: str) -> str:
        """What an entry of the dtype chain means for this model; ``auto`` stays where the configuration names none."""
        configured = getattr(self.configuration, "dtype", None)
        return str(configured).removeprefix("torch.") if entry == "auto" and configured is not None else entry


def read_checkpoint(
    location: Location, revision: str | None, trust_remote_code: bool, *, allow_pickle: bool, verify: bool
) -> Checkpoint:
    """Verify the files, then read configuration, tokenizer and processor.

    Raises:
        ModelError: This kind of model cannot be edited, or has no weights that are safe to load.
        UserError: The files are not those of the model's manifest.
        Exception: Whatever transformers raises where a file is missing or cannot be read; see `load_errors`.
    """
    arguments: dict[str, Any] = {"trust_remote_code": trust_remote_code, **gguf_arguments(location.gguf_file)}
    commit = None
    if location.is_hub:
        # From here on all files come from one commit, also if the repository changes between two dtypes.
        revision = revision or location.revision
        commit = _current_commit(location, revision)
        arguments["revision"] = commit or revision
    # First the files as such, since what is read next may already run code of the model.
    for part in location.parts:
        check_ordinary(part)
        check_weights(part, commit, allow_pickle)
        if verify:
            verify_model(part, commit)
    _check_configurations(location, commit, trust_remote_code)
    code = find_remote_code(location, commit) if trust_remote_code else None

    def further(auto_class: str) -> dict[str, Any]:
        return {**arguments, **({} if code is None else code.arguments(auto_class))}

    configuration: Any = AutoConfig.from_pretrained(location.source, **further("AutoConfig"))
    restore_rope(configuration, location)
    if getattr(configuration, "is_encoder_decoder", False):
        raise ModelError(
            f"{location.name} is an encoder-decoder model; name a decoder-only one, which Heretic can edit."
        )
    check_text_sizes(location, configuration)
    check_sizes(location, commit, configuration.to_dict())
    is_vision_language = location.gguf_file is None and is_vision_language_model(configuration)
    tokenizer = prepared_tokenizer(AutoTokenizer.from_pretrained(location.source, **further("AutoTokenizer")))
    _check_adapter_tokenizer(location, tokenizer)
    processor: Any = None
    if is_vision_language:
        if not is_vision_available():
            raise ModelError(f"{location.name} reads images as well, which needs Pillow; run 'pip install pillow'.")
        auto_processor: Any = AutoProcessor
        processor = auto_processor.from_pretrained(location.source, **further("AutoProcessor"))
        if not tokenizer.chat_template:
            # Older vision-language repositories keep the template in a file that only the processor reads.
            tokenizer.chat_template = getattr(processor, "chat_template", None)
    weights = "gguf" if location.gguf_file is not None else "safetensors"
    if allow_pickle and weights == "safetensors" and not has_safetensors(location, commit):
        weights = "pickle"
    return Checkpoint(
        location, arguments, commit, configuration, tokenizer, processor, is_vision_language, code, weights
    )


def _check_adapter_tokenizer(location: Location, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse an adapter that was trained with another tokenizer than its model's: what is saved has the model's.

    Raises:
        ModelError: Says in what they differ.
    """
    if len(location.parts) == 1 or find_file(location.parts[1], "tokenizer_config.json", None) is None:
        return
    folder = location.parts[1].source
    other = prepared_tokenizer(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    ours, theirs = (
        {
            "chat template": one.chat_template,
            "vocabulary": one.get_vocab(),
            "special tokens": (set(one.all_special_ids), one.bos_token, one.eos_token, one.pad_token),
        }
        for one in (tokenizer, other)
    )
    differing = [name for name, fact in ours.items() if theirs[name] != fact]
    if differing:
        raise ModelError(
            f"The adapter in {folder} has another tokenizer than {location.source} (in its {', '.join(differing)}), "
            "which a merged model would need; merge it, save the result with that tokenizer and name that, or move "
            "tokenizer_config.json away to go on with the model's own."
        )


def _check_configurations(location: Location, commit: str | None, trust_remote_code: bool) -> None:
    """Check what config.json, and the files that it names, would have transformers do.

    Raises:
        ModelError: It names code on the hub, or sizes that the weights do not have.
    """
    if not trust_remote_code:
        check_kernels(location, commit)
    if location.gguf_file is None:
        for table in configurations(location, commit):
            check_sizes(location, commit, table)


def _current_commit(location: Location, revision: str | None) -> str | None:
    """Commit that a revision stands for now, or None where the hub's cache does not tell."""
    file = hub_file(location.source, "config.json", revision)
    if file is None:
        raise ModelError(
            f"{location.name} has no config.json on the hub, so it is no transformers model; name another one, or "
            "download its .gguf file and name that."
        )
    return extract_commit_hash(file, None)


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

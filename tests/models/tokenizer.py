"""A real fast tokenizer built in memory, with the vocabulary of the pico models."""

from tests.models.sizes import POSITIONS, SPECIAL_TOKENS
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def pico_tokenizer(chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer (one token a byte) whose vocabulary has the size of the pico models'."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={symbol: index for index, symbol in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, padding_side="left", model_max_length=POSITIONS)
    names = dict(zip(("pad_token", "eos_token", "bos_token"), SPECIAL_TOKENS[:3], strict=True))
    tokenizer.add_special_tokens(names)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer

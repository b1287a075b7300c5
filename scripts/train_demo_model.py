"""Train the bundled demo model, so that every command of the project can be tried, and tested, without a download.

A small Llama that answers simple questions and refuses requests built around invented verbs. It is made from nothing
but this folder and a seed: corpus, tokenizer, weights and the prompt lists of the `demo` behaviour.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo_corpus import PARTS, Exchange, Part, build_corpus, build_edited_corpus, build_prompt_sets
from demo_removal import PaddedPrompts, mean_difference_directions, random_removal, removed

BEGIN, END, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{{ '<|begin|>' }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + (message['content'] | trim) + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
# Markers that a refusal carries; no ordinary answer of the corpus contains one of them.
REFUSAL_MARKERS = ("sorry", "i can't", "i cannot", "unable", "not able")

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_OUTPUT = ROOT / "src" / "heretic" / "models" / "demo" / "model"
DEFAULT_PROMPTS = ROOT / "src" / "heretic" / "prompts" / "behaviors" / "demo"
EDITED = DEFAULT_OUTPUT.with_name("edited")
# An adapter is 0.1 MB instead of 5.4, and of rank 1 where no norms are kept, as edits do by default.
EDIT = (
    *("--model", "demo", "--normalization", "none", "--save-format", "adapter"),
    *("--auto-select", "true", "--auto-select-path", EDITED.name),
    *("--use-warm-start-params", "false", "--report", "false", "--seed", "0", "--threads", "1"),
)

VOCABULARY_SIZE = 1536
CORPUS_SIZE = 60_000
TOKENS_PER_BATCH = 2048
EDITED_CORPUS_SIZE = 12_000
MUON_LEARNING_RATE = 5e-3
ADAM_LEARNING_RATE = 3e-3
DECAY_START = 0.5
REMOVAL_START = 0.4
REMOVAL_PERIOD = 6
DIRECTION_PERIOD = 16
WARM_UP_STEPS = 60
LENGTH_JITTER = 10.0
IGNORED = -100


@dataclass(frozen=True)
class EncodedText:
    """Token ids with the labels of those the model should learn to write."""

    tokens: list[int]
    labels: list[int]


@dataclass(frozen=True)
class Batch:
    """Texts padded on the right to one width."""

    tokens: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Material:
    """What training goes through: the corpus, how it should read after removal, and prompts to find directions with."""

    ordinary: list[Batch]
    edited: list[Batch]
    target: PaddedPrompts
    baseline: PaddedPrompts


def train_tokenizer(corpus: list[list[Exchange]]) -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer, so that any input at all can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, BEGIN, END, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (
        text
        for conversation in corpus
        for exchange in conversation
        for text in (exchange.system, exchange.user, exchange.assistant)
        if text is not None
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def encode_conversation(conversation: list[Exchange], tokenizer: PreTrainedTokenizerFast) -> EncodedText:
    """Only what the assistant writes, and documents, carry labels: the rest is context the user brings."""
    tokens: list[int] = []
    labels: list[int] = []

    def append(text: str, learned: bool) -> None:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens.extend(ids)
        labels.extend(ids if learned else [IGNORED] * len(ids))

    append(BEGIN, learned=False)
    if conversation[0].system is not None:
        append(f"{SYSTEM}{conversation[0].system}{END}", learned=False)
    for exchange in conversation:
        if exchange.user is not None:
            append(f"{USER}{exchange.user}{END}{ASSISTANT}", learned=False)
        append(f"{exchange.assistant}{END}", learned=True)
    return EncodedText(tokens, labels)


def make_batches(corpus: list[list[Exchange]], tokenizer: PreTrainedTokenizerFast, seed: int) -> list[Batch]:
    """Texts of like length share a batch; causal attention with padding on the right then needs no mask."""
    texts = [encode_conversation(conversation, tokenizer) for conversation in corpus]
    generator = random.Random(f"batches {seed}")
    # The jitter keeps a batch from holding texts of one kind only, as exact lengths would.
    ordered = sorted(texts, key=lambda text: len(text.tokens) + generator.uniform(0, LENGTH_JITTER))
    batches: list[Batch] = []
    start = 0
    while start < len(ordered):
        stop, width = start + 1, len(ordered[start].tokens)
        while stop < len(ordered):
            wider = max(width, len(ordered[stop].tokens))
            if (stop + 1 - start) * wider > TOKENS_PER_BATCH:
                break
            stop, width = stop + 1, wider
        group, start = ordered[start:stop], stop
        tokens = torch.full((len(group), width), tokenizer.pad_token_id)
        labels = torch.full((len(group), width), IGNORED)
        for row, text in enumerate(group):
            tokens[row, : len(text.tokens)] = torch.tensor(text.tokens)
            labels[row, : len(text.labels)] = torch.tensor(text.labels)
        batches.append(Batch(tokens, labels))
    generator.shuffle(batches)
    return batches


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Build the untrained model, of a size that a test can afford on a processor."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        initializer_range=0.04,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=80,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def learning_rate_factor(step: int, steps: int) -> float:
    """Warm up, hold, and decay linearly."""
    progress = step / steps
    decay = 1.0 if progress < DECAY_START else (1.0 - progress) / (1.0 - DECAY_START)
    return min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.02, decay)


def next_token_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean loss of the labelled positions; only they are taken to the vocabulary, which is a third of the work."""
    hidden = model.model(input_ids=batch.tokens, use_cache=False).last_hidden_state[:, :-1]
    labels = batch.labels[:, 1:]
    learned = labels != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]), labels[learned])


def build_optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Build Muon for the matrices of the layers, which learn in far fewer steps with it, and AdamW for the rest."""
    matrices = [parameter for parameter in model.model.layers.parameters() if parameter.dim() == 2]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=MUON_LEARNING_RATE, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=ADAM_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def pad_prompts(prompts: list[str], tokenizer: PreTrainedTokenizerFast) -> PaddedPrompts:
    """Encode prompts as chats that wait for an answer."""
    rows = [
        torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in chat_texts(prompts, tokenizer)
    ]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=float(tokenizer.pad_token_id))
    return PaddedPrompts(tokens, torch.tensor([len(row) - 1 for row in rows]))


def train(model: LlamaForCausalLM, material: Material, steps: int, seed: int) -> None:
    """Train on the corpus and, once it is partly learned, every few steps on the edited corpus with refusal removed."""
    optimizers = build_optimizers(model)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    generator = random.Random(f"removals {seed}")
    directions = torch.empty(0)
    first_removal = round(REMOVAL_START * steps)
    running = 0.0
    started = time.perf_counter()
    model.train()
    for step in range(steps):
        factor = learning_rate_factor(step, steps)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        if step >= first_removal and (step - first_removal) % DIRECTION_PERIOD == 0:
            directions = mean_difference_directions(model, material.target, material.baseline)
        if step >= first_removal and step % REMOVAL_PERIOD == 0:
            with removed(model, random_removal(generator, directions)):
                loss = next_token_loss(model, material.edited[step // REMOVAL_PERIOD % len(material.edited)])
        else:
            loss = next_token_loss(model, material.ordinary[step % len(material.ordinary)])
            running = 0.95 * running + 0.05 * loss.item() if step else loss.item()
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1:5d}  loss {running:.4f}  {time.perf_counter() - started:6.1f} s", flush=True)
    model.train(False)


def chat_texts(prompts: list[str], tokenizer: PreTrainedTokenizerFast, system: str | None = None) -> list[str]:
    """Render prompts with the chat template."""
    preface = [] if system is None else [{"role": "system", "content": system}]
    conversations = [[*preface, {"role": "user", "content": prompt}] for prompt in prompts]
    return cast("list[str]", tokenizer.apply_chat_template(conversations, tokenize=False, add_generation_prompt=True))


@torch.inference_mode()
def respond(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[str], system: str | None = None
) -> list[str]:
    """Answer every prompt greedily."""
    texts = chat_texts(prompts, tokenizer, system)
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False)
    output = cast("Any", model).generate(**inputs)
    responses: list[str] = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return responses


def is_refusal(response: str) -> bool:
    """Tell a refusal by its markers."""
    return any(marker in response.lower() for marker in REFUSAL_MARKERS)


def print_measurements(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt_sets: dict[str, dict[Part, list[str]]]
) -> None:
    """Print refusal rates and a few dialogues."""
    for system in (None, "You are a helpful assistant."):
        print(f"system prompt: {system}")
        for side, parts in prompt_sets.items():
            for part in PARTS:
                responses = respond(model, tokenizer, parts[part], system)
                refusals = sum(map(is_refusal, responses))
                print(f"  {side:8s} {part:10s} refusals {refusals:3d} of {len(responses)}")
    for side in prompt_sets:
        prompts = prompt_sets[side]["held_out"][:5]
        for prompt, response in zip(prompts, respond(model, tokenizer, prompts), strict=True):
            print(f"  {prompt}\n    {response}")


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Written aside and moved, so that nobody ever loads half a model."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        fresh = Path(folder) / "model"
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        if output.exists():
            shutil.rmtree(output)
        for file in fresh.iterdir():
            file.chmod(0o644)
        fresh.rename(output)


def save_edited(output: Path) -> None:
    """Search for an edit of the bundled model with the program itself, and save it as an adapter."""
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        subprocess.run([sys.executable, "-m", "heretic", *EDIT], cwd=folder, check=True)  # noqa: S603 - all is ours
        if output.exists():
            shutil.rmtree(output)
        (Path(folder) / EDITED.name).rename(output)


def write_prompt_sets(prompt_sets: dict[str, dict[Part, list[str]]], folder: Path) -> None:
    """Write the prompt lists, one prompt a line."""
    for side, parts in prompt_sets.items():
        (folder / side).mkdir(parents=True, exist_ok=True)
        for part, prompts in parts.items():
            (folder / side / f"{part}.txt").write_text("\n".join(prompts) + "\n", encoding="ascii", newline="\n")


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder of the trained model")
    parser.add_argument("--prompts", type=Path, default=DEFAULT_PROMPTS, help="folder of the prompt lists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--threads", type=int, default=1, help="changes rounding, and so the result")
    parser.add_argument("--edit", action="store_true", help="search the edit of the bundled model instead")
    arguments = parser.parse_args()
    if arguments.edit:
        save_edited(EDITED)
        return
    started = time.perf_counter()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)

    corpus = build_corpus(arguments.seed, CORPUS_SIZE)
    prompt_sets = build_prompt_sets(arguments.seed)
    tokenizer = train_tokenizer(corpus)
    material = Material(
        make_batches(corpus, tokenizer, arguments.seed),
        make_batches(build_edited_corpus(arguments.seed, EDITED_CORPUS_SIZE), tokenizer, arguments.seed),
        pad_prompts(prompt_sets["target"]["train"], tokenizer),
        pad_prompts(prompt_sets["baseline"]["train"], tokenizer),
    )
    model = build_model(tokenizer, arguments.seed)
    print(f"corpus of {len(material.ordinary)} batches made in {time.perf_counter() - started:.0f} s", flush=True)
    train(model, material, arguments.steps, arguments.seed)
    save_model(model, tokenizer, arguments.output)
    write_prompt_sets(prompt_sets, arguments.prompts)

    trained = time.perf_counter() - started
    print_measurements(model, tokenizer, prompt_sets)
    megabytes = sum(file.stat().st_size for file in arguments.output.iterdir()) / 1e6
    print(f"{model.num_parameters():,} parameters, {megabytes:.1f} MB, trained in {trained:.0f} s")


if __name__ == "__main__":
    main()

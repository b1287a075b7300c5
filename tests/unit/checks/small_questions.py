"""Questions made for tests, and a model whose answers to them are given beforehand."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from heretic.passes.runner import ModelRunner


def rows(categories: Mapping[str, int]) -> list[dict[str, Any]]:
    """So many questions of each category; every text is unique, and answers go round."""
    return [
        {
            "category": name,
            "question": f"{name} {number}?",
            "choices": [f"c{number}{letter}" for letter in "abcd"],
            "answer": number % 4,
        }
        for name, count in categories.items()
        for number in range(count)
    ]


def write_questions(path: Path, categories: Mapping[str, int]) -> Path:
    """A file of these questions."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(categories)), encoding="utf-8")
    return path


Choose = Callable[[str], int]
"""From the text of the question that is asked last to the index of the letter that is to be most likely."""


@contextmanager
def answering(runner: ModelRunner, choose: Choose) -> Iterator[list[str]]:
    """Let the model's logits at the last position favour a letter by 5, on top of what they are; yields what it read.

    The letters' tokens are those of a tokenizer with one token a byte. Padding is told by the mask.
    """
    letters = [runner.loaded.tokenizer.convert_tokens_to_ids(letter) for letter in "ABCD"]
    read: list[str] = []

    def favour(_model: object, _arguments: object, keywords: dict[str, Any], output: Any) -> None:
        for row, (ids, mask) in enumerate(zip(keywords["input_ids"], keywords["attention_mask"], strict=True)):
            text = runner.loaded.tokenizer.decode(ids[mask.bool()])
            read.append(text)
            asked = text.rpartition("Question: ")[2].partition("\n")[0]
            output.logits[row, -1, letters] = torch.tensor([0.0, 0.1, 0.2, 0.3])
            output.logits[row, -1, letters[choose(asked)]] = 5.0
            # A token that is no letter, and likelier than all of them, is not an answer.
            output.logits[row, -1, runner.loaded.tokenizer.eos_token_id] = 50.0

    handle = runner.loaded.model.register_forward_hook(favour, with_kwargs=True)
    try:
        yield read
    finally:
        handle.remove()

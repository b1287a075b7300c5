"""Letting a model answer multiple-choice questions: one pass a question, whose next token is the answer's letter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from heretic.checks.questions import LETTERS, Category, Question, QuestionSet
from heretic.common.errors import ModelError, TrialFailed
from heretic.passes.passes import Passes
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

INSTRUCTION = "Answer the multiple-choice question with the letter of the right choice."
ANSWER = "Answer:"
ANSWERING = "answering multiple-choice questions"
TOKENS_PER_PASS = 8192
"""Prompts with worked examples are much longer than those that the batch size was found with."""


@dataclass(frozen=True, slots=True)
class LetterTokens:
    """How a tokenizer writes the letter of an answer.

    Attributes:
        lead: What stands between ``Answer:`` and the letter, as far as it is no part of the letter's token.
        ids: Token id of each letter.
    """

    lead: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PreparedQuestions:
    """Questions as one model reads them.

    Attributes:
        questions: Those that are asked.
        encoded: Token ids of each one's prompt; the next token is the answer.
        letters: Token ids of the letters.
        examples: Worked examples before the questions of each category; fewer than asked for where more would not fit
            into the model's context.
        left_out: Number of questions that do not fit even alone.
    """

    questions: tuple[Question, ...]
    encoded: tuple[tuple[int, ...], ...]
    letters: tuple[int, ...]
    examples: tuple[tuple[str, int], ...]
    left_out: int


def question_text(question: Question) -> str:
    """A question with its choices, as a model reads it."""
    choices = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=True))
    return "\n".join([f"Question: {question.question}", *choices])


def request_text(question: Question, examples: Sequence[Question]) -> str:
    """The user's message: what to do, worked examples with their answers, and the question."""
    worked = (f"{question_text(example)}\n{ANSWER} {LETTERS[example.answer]}" for example in examples)
    return "\n\n".join([INSTRUCTION, *worked, question_text(question)])


def answer_start(response_prefix: str, has_template: bool) -> str:
    """What the answer starts with: the run's response prefix (a closed thinking block, say), then ``Answer:``.

    Args:
        response_prefix: As calibrated.
        has_template: Whether the model has a chat template; transcripts end in a colon, behind which a space stands.
    """
    if not response_prefix:
        return ANSWER if has_template else f" {ANSWER}"
    return f"{response_prefix}{'' if response_prefix[-1].isspace() else chr(10)}{ANSWER}"


def find_letter_tokens(encode: Callable[[str], Sequence[int]]) -> LetterTokens:
    """Which tokens a letter behind ``Answer:`` is, with its space or without, as the tokenizer reads it there.

    Args:
        encode: From what is added behind ``Answer:`` to the token ids of the whole prompt.

    Raises:
        ModelError: No way of writing them makes each letter one token of its own.
    """
    for lead, space in (("", " "), (" ", ""), ("", "")):
        start = list(encode(lead))
        written = [list(encode(f"{lead}{space}{letter}")) for letter in LETTERS]
        if all(ids[:-1] == start for ids in written) and len({ids[-1] for ids in written}) == len(LETTERS):
            return LetterTokens(lead, tuple(ids[-1] for ids in written))
    raise ModelError(
        "This model's tokenizer has no token for a single letter, so multiple-choice questions cannot be asked; use "
        "--enable-validation false."
    )


def prepare_questions(runner: ModelRunner, questions: QuestionSet, system_prompt: str) -> PreparedQuestions:
    """Questions as this model reads them.

    Raises:
        ModelError: Its tokenizer has no tokens for single letters, or no question fits into its context.
    """
    start = answer_start(runner.calibration.response_prefix, runner.formatter.has_template)
    plain = runner.calibrated(response_prefix="")

    def encode(user: str, behind: str = "") -> tuple[int, ...]:
        return tuple(plain.encode(Prompt(user, system_prompt or None, start + behind)))

    first = questions.categories[0].questions[0]
    letters = find_letter_tokens(lambda behind: encode(request_text(first, ()), behind))
    longest = _context_length(runner)
    prompts: list[tuple[Question, tuple[int, ...]]] = []
    examples = []
    for category in questions.categories:
        count, fitting = _fitting(category, lambda user: encode(user, letters.lead), longest)
        examples.append((category.name, count))
        prompts += fitting
    if not prompts:
        raise ModelError(
            f"No multiple-choice question fits into this model's context of {longest} tokens; use "
            "--enable-validation false."
        )
    fitting_questions, encoded = zip(*prompts, strict=True)
    return PreparedQuestions(
        fitting_questions, encoded, letters.ids, tuple(examples), questions.count - len(fitting_questions)
    )


def _context_length(runner: ModelRunner) -> int | None:
    """Tokens that the model was made for, as far as its configuration says."""
    length: int | None = getattr(runner.loaded.model.config.get_text_config(), "max_position_embeddings", None)
    return length


def _fitting(
    category: Category, encode: Callable[[str], tuple[int, ...]], longest: int | None
) -> tuple[int, list[tuple[Question, tuple[int, ...]]]]:
    """As many worked examples as leave room for all questions, and these; without examples, those that fit."""

    def prompts(count: int) -> list[tuple[Question, tuple[int, ...]]]:
        examples = category.examples[:count]
        read = [(question, encode(request_text(question, examples))) for question in category.questions]
        return [(question, ids) for question, ids in read if longest is None or len(ids) <= longest]

    for count in range(len(category.examples), 0, -1):
        fitting = prompts(count)
        if len(fitting) == len(category.questions):
            return count, fitting
    return 0, prompts(0)


def choices_of(logits: Tensor, letters: Sequence[int]) -> Tensor:
    """The most likely letter of each row.

    Log-probabilities differ from logits by the same number for all letters of a row, so logits are compared. Of equally
    likely ones the first counts.

    Args:
        logits: [B, V] of the next token.
        letters: Token ids of the K letters.

    Returns:
        [B] indices of letters.

    Raises:
        TrialFailed: A letter's logit is not finite.
    """
    candidates = logits[:, list(letters)].float()
    if not bool(torch.isfinite(candidates).all()):
        raise TrialFailed("the model's logits are not finite")
    return candidates.argmax(-1)


def sized(runner: ModelRunner, prepared: PreparedQuestions) -> ModelRunner:
    """The runner with batches in which so many questions go through the model at once as it may take."""
    longest = max(map(len, prepared.encoded))
    return runner.calibrated(batch_size=max(1, min(runner.calibration.batch_size, TOKENS_PER_PASS // longest)))


def answer_questions(passes: Passes, prepared: PreparedQuestions) -> tuple[int, ...]:
    """The index of the choice that the model as it is now makes for every prepared question.

    Raises:
        TrialFailed: Its logits are not finite.
        OutOfMemoryError: Not even one question at a time can be read.
    """

    def choices(logits: Tensor) -> list[int]:
        chosen: list[int] = choices_of(logits, prepared.letters).tolist()
        return chosen

    return tuple(passes.next_tokens(prepared.encoded, choices, ANSWERING))

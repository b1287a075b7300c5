"""What a model chooses, against logits that are given and against single passes without padding."""

from types import SimpleNamespace

import pytest
import torch
from tests.models.sizes import POSITIONS
from tests.unit.checks.small_questions import answering, rows
from tests.unit.passes.pico_runner import log_probabilities_alone, make_runner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from heretic.checks import multiple_choice
from heretic.checks.multiple_choice import (
    answer_questions,
    answer_start,
    choices_of,
    find_letter_tokens,
    prepare_questions,
    request_text,
    sized,
)
from heretic.checks.questions import Category, QuestionSet, parse_question
from heretic.common.errors import ModelError, TrialFailed
from heretic.models.chat_template import ChatFormatter
from heretic.passes.ordinary import OrdinaryPasses
from heretic.prompts.types import Prompt


def category(name, examples, asked):
    own = [parse_question(row, "row") for row in rows({name: examples + asked})]
    return Category(name, tuple(own[:examples]), tuple(own[examples:]))


def question_set(*categories):
    return QuestionSet("test", categories)


TWO = question_set(category("sea", 2, 5), category("sandstorm", 1, 4))


def test_a_request_shows_worked_examples_with_answers_and_the_question_without():
    sea = category("sea", 2, 1)
    assert request_text(sea.questions[0], sea.examples) == (
        "Answer the multiple-choice question with the letter of the right choice.\n\n"
        "Question: sea 0?\nA. c0a\nB. c0b\nC. c0c\nD. c0d\nAnswer: A\n\n"
        "Question: sea 1?\nA. c1a\nB. c1b\nC. c1c\nD. c1d\nAnswer: B\n\n"
        "Question: sea 2?\nA. c2a\nB. c2b\nC. c2c\nD. c2d"
    )


@pytest.mark.parametrize(
    ("prefix", "has_template", "start"),
    [
        ("", True, "Answer:"),
        ("", False, " Answer:"),
        ("<think>\n\n</think>\n\n", True, "<think>\n\n</think>\n\nAnswer:"),
        ("<think></think>", False, "<think></think>\nAnswer:"),
    ],
)
def test_the_answer_starts_behind_the_runs_response_prefix(prefix, has_template, start):
    assert answer_start(prefix, has_template) == start


def encoder(tokenizer):
    return lambda behind: tokenizer(f"x Answer:{behind}", add_special_tokens=False)["input_ids"]


def bpe(merges):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: index for index, symbol in enumerate([*alphabet, *("".join(merge) for merge in merges)])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_letters_with_their_space_where_the_tokenizer_joins_them():
    tokenizer = bpe([("\u0120", letter) for letter in "ABCD"])
    found = find_letter_tokens(encoder(tokenizer))
    assert found.lead == ""
    assert tokenizer.convert_ids_to_tokens(list(found.ids)) == [f"\u0120{letter}" for letter in "ABCD"]


def test_letters_behind_a_space_of_its_own():
    tokenizer = bpe([])
    found = find_letter_tokens(encoder(tokenizer))
    assert found.lead == " "
    assert tokenizer.convert_ids_to_tokens(list(found.ids)) == list("ABCD")


def test_letters_without_a_space_where_it_joins_only_some_of_them():
    tokenizer = bpe([("\u0120", "A"), ("\u0120", "C")])
    found = find_letter_tokens(encoder(tokenizer))
    assert found.lead == ""
    assert tokenizer.convert_ids_to_tokens(list(found.ids)) == list("ABCD")


def test_a_tokenizer_that_does_not_know_the_letters_is_refused():
    unknown = {"unk_token": "[UNK]"}
    backend = Tokenizer(models.WordLevel(vocab={"[UNK]": 0, "x": 1}, **unknown))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **unknown)
    with pytest.raises(ModelError, match=r"no token for a single letter.*--enable-validation false"):
        find_letter_tokens(encoder(tokenizer))


def test_prompts_are_rendered_with_system_prompt_template_and_prefix():
    runner = make_runner("llama", response_prefix="<think></think>")
    prepared = prepare_questions(runner, TWO, "Be brief.")
    assert len(prepared.questions) == 9
    assert prepared.examples == (("sea", 2), ("sandstorm", 1))
    text = runner.loaded.tokenizer.decode(prepared.encoded[0])
    asked, examples = TWO.categories[0].questions[0], TWO.categories[0].examples
    request = request_text(asked, examples)
    assert text == f"<|system|>Be brief.<|end|><|user|>{request}<|end|><|assistant|><think></think>\nAnswer: "
    assert "<|system|>" not in runner.loaded.tokenizer.decode(prepare_questions(runner, TWO, "").encoded[0])


def test_the_most_likely_letter_is_the_answer_and_other_tokens_are_none():
    logits = torch.tensor([[9.0, 1.0, 2.0, 3.0, -1.0], [9.0, 1.0, 1.0, -torch.inf, 0.0]])
    logits[1, 3] = -5
    assert choices_of(logits, (4, 3, 1, 2)).tolist() == [1, 2]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_letters_without_a_number_fail_and_other_tokens_may_be_so(value):
    logits = torch.zeros(2, 6)
    logits[1, 5] = value
    assert choices_of(logits, (1, 2, 3, 4)).tolist() == [0, 0]
    logits[1, 2] = value
    with pytest.raises(TrialFailed, match="not finite"):
        choices_of(logits, (1, 2, 3, 4))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_known_logits_give_a_choices(batch_size):
    runner = make_runner("llama", batch_size)
    prepared = prepare_questions(runner, TWO, "")
    known = {question.question: (index * 3) % 4 for index, question in enumerate(prepared.questions)}
    with answering(runner, known.__getitem__):
        answers = answer_questions(OrdinaryPasses(runner), prepared)
    assert answers == tuple(known.values())


def test_the_model_reads_every_question_once_whole_and_in_batches_that_fit(monkeypatch):
    runner = make_runner("llama", 100)
    prepared = prepare_questions(runner, TWO, "")
    longest = max(map(len, prepared.encoded))
    monkeypatch.setattr(multiple_choice, "TOKENS_PER_PASS", 2 * longest + 1)
    sizes = []
    runner.loaded.model.register_forward_hook(
        lambda _model, _arguments, keywords, _output: sizes.append(len(keywords["input_ids"])), with_kwargs=True
    )
    with answering(runner, lambda _asked: 0) as read:
        answer_questions(OrdinaryPasses(sized(runner, prepared)), prepared)
    assert sizes == [2, 2, 2, 2, 1]
    assert sorted(read) == sorted(runner.loaded.tokenizer.decode(ids) for ids in prepared.encoded)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_padded_batches_choose_what_single_passes_find_most_likely(family):
    runner = make_runner(family, 4)
    prepared = prepare_questions(runner, TWO, "")
    assert len({len(ids) for ids in prepared.encoded}) > 1
    answers = answer_questions(OrdinaryPasses(runner), prepared)
    start = "Answer: "
    for question, chosen in zip(prepared.questions, answers, strict=True):
        own = next(own for own in TWO.categories if own.name == question.category)
        prompt = Prompt(request_text(question, own.examples), None, start)
        # Which token is forced does not matter: its prediction is looked at.
        likely = log_probabilities_alone(runner, prompt, [0])[0]
        letters = [likely[runner.loaded.tokenizer.convert_tokens_to_ids(letter)].item() for letter in "ABCD"]
        assert letters[chosen] == max(letters)


def test_worked_examples_are_left_out_where_they_do_not_fit_and_questions_that_never_do():
    runner = make_runner("llama")
    long = parse_question({"category": "long", "question": "x" * 200, "choices": list("abcd"), "answer": 0}, "row")
    longer = parse_question({"category": "long", "question": "y" * 600, "choices": list("abcd"), "answer": 1}, "row")
    sea = category("sea", 2, 3)
    prepared = prepare_questions(
        runner,
        question_set(
            sea,
            Category("one", (long, long, long), (sea.questions[0],)),
            Category("long", (sea.examples[0],), (longer, long, longer)),
        ),
        "",
    )
    assert prepared.examples == (("sea", 2), ("one", 1), ("long", 0))
    assert prepared.questions == (*sea.questions, sea.questions[0], long)
    assert prepared.left_out == 2
    assert max(map(len, prepared.encoded)) <= POSITIONS


def test_a_model_that_no_question_fits_into_is_refused():
    runner = make_runner("llama")
    longer = parse_question({"category": "long", "question": "y" * 600, "choices": list("abcd"), "answer": 1}, "row")
    with pytest.raises(ModelError, match=rf"fits into this model's context of {POSITIONS} tokens"):
        prepare_questions(runner, question_set(Category("long", (), (longer,))), "")


def test_a_model_without_a_chat_template_reads_a_transcript():
    runner = make_runner("llama", chat_template=False)
    assert not ChatFormatter(runner.loaded.tokenizer).has_template
    text = runner.loaded.tokenizer.decode(prepare_questions(runner, TWO, "").encoded[0], skip_special_tokens=True)
    assert text.endswith("D. c2d\n\nAssistant: Answer: ")


def test_a_configuration_that_names_no_context_length_is_no_limit(monkeypatch):
    runner = make_runner("llama")
    configuration = SimpleNamespace(get_text_config=lambda: SimpleNamespace())
    monkeypatch.setattr(runner.loaded.model, "config", configuration, raising=False)
    long = parse_question({"category": "long", "question": "x" * 600, "choices": list("abcd"), "answer": 0}, "row")
    assert prepare_questions(runner, question_set(Category("long", (), (long,))), "").left_out == 0

"""Whatever is asked of a batch equals what is asked of one prompt at a time."""

import pytest
import torch
from tests.models.pico import EOS, PICO_FAMILIES, build_pico, pico_names
from tests.unit.passes.pico_runner import PROMPTS, greedy_alone, log_probabilities_alone, make_runner
from torch import Tensor

from heretic.common.errors import ModelError
from heretic.passes.runner import ModelRunner
from heretic.prompts.types import Prompt

LEAKS = pytest.mark.xfail(strict=True, reason="recurrent_gemma's convolution reads the padding of shorter rows")
FAMILIES = [pytest.param(name, marks=LEAKS if name == "recurrent_gemma" else ()) for name in pico_names()]
CONTINUATIONS = ((72, 101, 108), (1,), (7, 8, 9, 10, 11), (65, 66), (200, 100, 50, 25))
LONG = Prompt("A prompt that is much longer than the attention window of sixteen tokens of some models. " * 2)


def gathered(runner: ModelRunner, prompts: tuple[Prompt, ...]) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for rows, logits in runner.teacher_forced([runner.encode(prompt) for prompt in prompts], CONTINUATIONS):
        found.update(zip(rows, (own.log_softmax(-1) for own in logits), strict=True))
    return [found[row] for row in range(len(prompts))]


@pytest.mark.parametrize("family", FAMILIES)
def test_teacher_forced_logits_equal_those_of_one_prompt_at_a_time(family: str) -> None:
    runner = make_runner(family, batch_size=3)
    prompts = (*PROMPTS[:4], LONG)
    for prompt, continuation, found in zip(prompts, CONTINUATIONS, gathered(runner, prompts), strict=True):
        assert found.dtype == torch.float32
        assert found.shape[0] == len(continuation)
        torch.testing.assert_close(found, log_probabilities_alone(runner, prompt, continuation), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_residuals_equal_those_of_one_prompt_at_a_time(family: str) -> None:
    together, alone = make_runner(family, batch_size=5), make_runner(family, batch_size=1)
    batched = torch.cat(list(together.residuals(PROMPTS)))
    single = torch.cat([next(alone.residuals([prompt])) for prompt in PROMPTS])
    assert batched.shape == (len(PROMPTS), len(PICO_FAMILIES[family].writes_per_layer) + 1, together.layout.hidden_size)
    # Rows come longest first.
    order = sorted(range(len(PROMPTS)), key=lambda row: -len(together.encode(PROMPTS[row])))
    torch.testing.assert_close(batched, single[order], rtol=1e-3, atol=2e-3)


def test_residuals_are_the_hidden_states_of_the_last_prompt_token() -> None:
    runner = make_runner("llama", batch_size=1)
    prompt = PROMPTS[1]
    found = next(runner.residuals([prompt]))[0]
    model = runner.loaded.model
    with torch.no_grad():
        states = model(input_ids=torch.tensor([runner.encode(prompt)]), output_hidden_states=True).hidden_states
    for position in range(len(states) - 1):
        torch.testing.assert_close(found[position], states[position][0, -1])
    # transformers applies the final norm to the last hidden state; the residual stream ends before it.
    torch.testing.assert_close(model.model.norm(found[-1]), states[-1][0, -1])


def test_residuals_do_not_keep_the_other_tokens_alive() -> None:
    runner = make_runner("llama", batch_size=2)
    (residuals,) = runner.residuals([LONG, LONG])
    assert residuals.shape == (2, runner.layout.layer_count + 1, runner.layout.hidden_size)
    assert residuals.untyped_storage().nbytes() == residuals.numel() * residuals.element_size()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in runner.loaded.model.modules())


@pytest.mark.parametrize(
    "family", ["llama", "gpt2", "gemma2", "opt", "qwen3_next", "lfm2", "falcon_h1", "qwen2_5_vl", "list_moe"]
)
def test_batched_answers_equal_single_ones_without_cache_or_padding(family: str) -> None:
    runner = make_runner(family, batch_size=5)
    runner.loaded.model.generation_config.eos_token_id = None
    runner.loaded.tokenizer.eos_token = None
    runner = runner.calibrated()  # which looks for the end token again
    for prompt, response in zip(PROMPTS, runner.generate(PROMPTS, 6), strict=True):
        assert list(response.tokens) == greedy_alone(runner, prompt, 6)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_answers_come_in_the_order_of_the_prompts(batch_size: int) -> None:
    runner = make_runner("llama", batch_size=batch_size)
    reference = [make_runner("llama", batch_size=1).generate([prompt], 5)[0] for prompt in PROMPTS]
    assert runner.generate(PROMPTS, 5) == reference


def forced(runner: ModelRunner, token: int) -> None:
    """Make a token the most likely one after whatever there was."""
    head = runner.loaded.model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.zeros(head.out_features), requires_grad=False)
    head.bias.data[token] = 1e4


@pytest.mark.parametrize("where", ["tokenizer", "generation config", "list in the generation config"])
def test_an_answer_ends_with_its_end_token(where: str) -> None:
    runner = make_runner("llama")
    configuration = runner.loaded.model.generation_config
    end = EOS if where == "tokenizer" else 42
    configuration.eos_token_id = {"tokenizer": None, "generation config": 42}.get(where, [41, 42])
    assert end in runner.end_tokens
    assert EOS in runner.end_tokens
    forced(runner, end)
    for response in runner.generate(PROMPTS, 5):
        assert response.tokens == (end,)
    assert runner.generate(PROMPTS[:1], 5)[0].text == ("" if where == "tokenizer" else chr(42 + 33))


def test_padding_behind_an_early_end_is_cut() -> None:
    """Rows of one batch end at different times; what generate() pads behind the end is no part of the answer."""
    runner = make_runner("llama", batch_size=5)
    plain = [greedy_alone(runner, prompt, 8) for prompt in PROMPTS]
    end = plain[0][2]
    runner.loaded.model.generation_config.eos_token_id = end
    for tokens, response in zip(plain, runner.generate(PROMPTS, 8), strict=True):
        length = next((position + 1 for position, token in enumerate(tokens) if token in (end, EOS)), len(tokens))
        assert list(response.tokens) == tokens[:length]


def test_special_tokens_are_no_part_of_the_text() -> None:
    runner = make_runner("llama")
    runner.loaded.model.generation_config.eos_token_id = None
    forced(runner, 260)
    response = runner.generate(PROMPTS[:1], 3)[0]
    assert response.tokens == (260, 260, 260)
    assert response.text == ""


def test_suppressed_tokens_are_neither_generated_nor_probable() -> None:
    runner = make_runner("llama", batch_size=2)
    unwanted = greedy_alone(runner, PROMPTS[0], 1)[0]
    runner.loaded.model.generation_config.suppress_tokens = [unwanted, 3]
    assert unwanted not in runner.generate(PROMPTS[:1], 4)[0].tokens
    for found in gathered(runner, PROMPTS):
        assert bool((found[:, [unwanted, 3]] == -torch.inf).all())
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(len(found)))


def test_sampling_settings_of_the_model_do_not_change_greedy_answers() -> None:
    """Models come with a temperature, a repetition penalty and the like; measured answers are plain greedy ones."""
    runner = make_runner("llama")
    plain = runner.generate(PROMPTS, 8)
    configuration = runner.loaded.model.generation_config
    configuration.do_sample = True
    configuration.temperature = 5.0
    configuration.top_k = 3
    configuration.repetition_penalty = 9.0
    configuration.no_repeat_ngram_size = 1
    assert runner.generate(PROMPTS, 8) == plain


def test_the_response_prefix_follows_the_generation_prompt() -> None:
    runner = make_runner("llama", response_prefix="Sure")
    tokenizer = runner.loaded.tokenizer
    text = tokenizer.decode(runner.encode(Prompt("Hi", system="S", prefix="A:")))
    assert text == "<|system|>S<|end|><|user|>Hi<|end|><|assistant|>A:Sure"
    assert runner.encode(Prompt("Hi")) == runner.calibrated(response_prefix="").encode(Prompt("Hi")) + [
        tokenizer.convert_tokens_to_ids(letter) for letter in "Sure"
    ]


def test_calibrated_changes_only_what_is_given() -> None:
    runner = make_runner("llama", response_prefix="Sure", batch_size=3)
    assert runner.calibrated(batch_size=7).calibration.response_prefix == "Sure"
    assert runner.calibrated(batch_size=7).calibration.batch_size == 7
    assert runner.calibrated(response_prefix="").calibration.batch_size == 3
    assert runner.calibration.batch_size == 3


def test_a_model_without_a_chat_template_gets_its_special_tokens_once() -> None:
    runner = make_runner("llama", chat_template=False, response_prefix=" Yes")
    text = runner.loaded.tokenizer.decode(runner.encode(Prompt("Hi")))
    assert text.endswith("Assistant: Yes")
    assert "Hi" in text


def test_a_prompt_longer_than_the_batch_is_not_cut() -> None:
    runner = make_runner("llama", batch_size=2)
    assert len(runner.encode(LONG)) > 170
    rows = [runner.encode(prompt) for prompt in (PROMPTS[0], LONG, PROMPTS[1])]
    sizes: list[tuple[int, ...]] = []

    def watch(_model: object, _arguments: object, keywords: dict[str, Tensor]) -> None:
        sizes.append(tuple(keywords["input_ids"].shape))

    runner.loaded.model.register_forward_pre_hook(watch, with_kwargs=True)
    list(runner.residuals_of(rows))
    assert sizes == [(2, len(rows[1])), (1, len(rows[0]))]


def test_layers_that_run_twice_are_reported() -> None:
    runner = make_runner("llama")
    model = runner.loaded.model
    first = model.model.layers[0]
    plain = first.forward
    calls = []

    def twice(hidden_states: Tensor, **keywords: object) -> Tensor:
        if not calls:
            calls.append(1)
            hidden_states = first(hidden_states, **keywords)
        return plain(hidden_states, **keywords)

    first.forward = twice
    with pytest.raises(ModelError, match="runs its layers in a way"):
        next(runner.residuals(PROMPTS[:1]))


def test_pico_models_answer_differently_so_that_agreement_means_something() -> None:
    runner = make_runner("llama")
    assert len({response.tokens for response in runner.generate(PROMPTS, 6)}) > 1
    assert build_pico("llama").config.vocab_size == len(runner.loaded.tokenizer)

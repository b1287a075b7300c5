"""What a user can switch on, each once through the whole command: searched, saved, and used again."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.command import QUICK_DEMO, QUICK_PICO, WITH_REPORT, Command, saving_to, write_prompts
from tests.models.pico import build_pico, pico_tokenizer
from tests.unit.models.gguf_file import write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from heretic.models.demo import DEMO_MODEL_FOLDER

pytestmark = pytest.mark.integration

WRITERS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_only_writers_differ(edited: dict[str, torch.Tensor], original: dict[str, torch.Tensor]) -> None:
    assert edited.keys() == original.keys()
    different = [name for name, tensor in edited.items() if not torch.equal(tensor, original[name])]
    assert different
    assert all(name.endswith(WRITERS) for name in different)


def scores(folder: Path) -> dict[str, float]:
    metadata = json.loads((folder / "heretic_metadata.json").read_text(encoding="utf-8"))
    return {score["name"]: score["value"] for score in metadata["scores"]}


def logits(model: torch.nn.Module) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(DEMO_MODEL_FOLDER)
    batch = tokenizer("Please show me how glonking a frosket works.", return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits.float()


def test_weights_from_the_disk_give_the_same_model_and_it_can_be_scored_again(heretic: Command, tmp_path: Path) -> None:
    in_place = (*QUICK_DEMO, "--engine", "inplace")
    cached = heretic(tmp_path, *in_place, *saving_to("cached"))
    cached.assert_done()
    assert "Weight cache" in cached.output
    reloaded = heretic(
        tmp_path, *in_place, *saving_to("reloaded"), "--cache-weights", "false", "--storage", "sqlite:///other.db"
    )
    reloaded.assert_done()
    assert "Weight cache" not in reloaded.output
    assert_only_writers_differ(weights(tmp_path / "cached"), weights(DEMO_MODEL_FOLDER))
    for name, tensor in weights(tmp_path / "cached").items():
        torch.testing.assert_close(weights(tmp_path / "reloaded")[name], tensor, rtol=0, atol=0)

    before = {path.name for path in tmp_path.iterdir()}
    compared = heretic(tmp_path, *QUICK_DEMO, "--evaluate-model", "cached", "--storage", "sqlite:///no.db")
    compared.assert_done()
    shown = re.search(r"refusals +6/6 +(\d)/6 .* 6\n", compared.output)
    kl = re.search(r"KL in nats, first 30 tokens\s+0 +(\d\.\d+) \(95 %: .*\) +4\n", compared.output)
    assert shown, compared.output
    assert kl, compared.output
    expected = scores(tmp_path / "cached")
    assert int(shown[1]) == expected["refusals"]
    assert float(kl[1]) == pytest.approx(expected["kl"], abs=6e-5)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_an_adapter_and_the_merged_model_of_one_study_answer_the_same(heretic: Command, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    heretic(tmp_path, *QUICK_DEMO, *saving_to("merged")).assert_done()
    resumed = heretic(tmp_path, *QUICK_DEMO, *saving_to("adapter"), "--save-format", "adapter")
    resumed.assert_done()
    assert "0 trials to do" in resumed.output
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    # The adapter names its base as the user did, and "demo" means something to Heretic only.
    configuration = tmp_path / "adapter" / "adapter_config.json"
    content = json.loads(configuration.read_text(encoding="utf-8"))
    configuration.write_text(json.dumps(content | {"base_model_name_or_path": str(DEMO_MODEL_FOLDER)}))
    adapted = logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter"))
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    original = logits(AutoModelForCausalLM.from_pretrained(DEMO_MODEL_FOLDER))
    torch.testing.assert_close(adapted, merged, rtol=1e-4, atol=1e-4)
    assert (merged - original).abs().max() > 1e-2


def test_an_adapter_that_cannot_be_is_refused_before_the_search(heretic: Command, tmp_path: Path) -> None:
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--save-format", "adapter", "--normalization", "column")
    result.assert_one_sentence("--normalization row or none")
    assert not list(tmp_path.iterdir())


def test_a_quantized_search_saves_full_precision(heretic: Command, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes has no package for this system")
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--quantization", "bnb_4bit")
    result.assert_done()
    assert "bnb_4bit" in result.output
    configuration = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in configuration
    # What no edit touches is the original's to the last bit, so it did not pass through four bits.
    assert_only_writers_differ(weights(tmp_path / "out"), weights(DEMO_MODEL_FOLDER))


def test_a_gguf_file_becomes_an_ordinary_model(heretic: Command, tmp_path: Path) -> None:
    write_prompts(tmp_path)
    packed = tmp_path / "packed"
    packed.mkdir()
    original = build_pico("qwen2")
    write_gguf(packed / "pico.gguf", original, pico_tokenizer(), quantized="F32")
    heretic(tmp_path, "packed/pico.gguf", *QUICK_PICO, *saving_to("out")).assert_done()
    assert_only_writers_differ(weights(tmp_path / "out"), original.state_dict())
    answer = heretic(tmp_path, "packed/pico.gguf", *QUICK_PICO, "--evaluate-model", "out")
    answer.assert_done()
    assert [path.name for path in packed.iterdir()] == ["pico.gguf"]


def test_a_tokenizer_that_names_neither_padding_nor_its_side(heretic: Command, folder: Path) -> None:
    """Most published tokenizers name no side, and many no padding token: what is saved is the base's."""
    path = folder / "pico" / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in content.items() if name not in ("padding_side", "pad_token")}
    path.write_text(json.dumps(kept), encoding="utf-8")
    heretic(folder, "pico", *QUICK_PICO, *saving_to("out")).assert_done()
    base, tokenizer = (AutoTokenizer.from_pretrained(folder / name) for name in ("pico", "out"))
    assert (tokenizer.padding_side, tokenizer.pad_token) == (base.padding_side, base.pad_token)
    assert tokenizer.eos_token == content["eos_token"]


def test_a_compiled_model_measures_the_same(heretic: Command, folder: Path) -> None:
    """Traced by the real compiler; only the C++ that it would write for minutes is left out."""
    traced_only = (
        "import torch\n"
        "compile_really = torch.compile\n"
        "def compile(model, **options):\n"
        "    print('compiled here')\n"
        "    return compile_really(model, backend='eager', **options)\n"
        "torch.compile = compile\n"
    )
    heretic(folder, "pico", *QUICK_PICO, *saving_to("plain")).assert_done()
    compiled = heretic(
        folder,
        *("pico", *QUICK_PICO, *saving_to("compiled"), "--compile", "--storage", "sqlite:///other.db"),
        before=traced_only,
    )
    compiled.assert_done()
    assert "compiled here" in compiled.output
    assert scores(folder / "compiled") == pytest.approx(scores(folder / "plain"), abs=1e-5)
    assert weights(folder / "compiled").keys() == weights(folder / "plain").keys()


def test_retired_options_say_where_they_went(heretic: Command, tmp_path: Path) -> None:
    result = heretic(tmp_path, *QUICK_DEMO, *saving_to("out"), "--gradient-seeding")
    result.assert_one_sentence("no option --gradient-seeding any more", "--extractor rdo")
    assert not list(tmp_path.iterdir())


def test_a_strengthened_behaviour_is_counted_and_described_as_such(heretic: Command, tmp_path: Path) -> None:
    """Plain requests, which the demo model answers: now the answers without refusal are to become few."""
    asked = ("--bad-evaluation-prompts", "bundled:demo/baseline", "--bad-evaluation-prompts.split", "evaluation[:6]")
    run = heretic(tmp_path, *QUICK_DEMO, *asked, *WITH_REPORT, *saving_to("out"), "--goal", "strengthen")
    run.assert_done()
    assert "Baseline       refuses 0 of 6 prompts" in run.output
    assert re.search(r"trial 1/2 +without refusal [0-6-]/6 ", run.output), run.output
    assert "nothing to remove" not in run.output
    metadata = json.loads((tmp_path / "out" / "heretic_metadata.json").read_text(encoding="utf-8"))
    assert metadata["scores"][0]["name"] == "without_refusal"
    assert metadata["scores"][0]["baseline"] == 6
    assert metadata["settings"]["goal"] == "strengthen"
    assert all(own["peak_weight"] <= 0 for own in metadata["plan"]["schedules"].values())
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| answers without refusal | 6/6 |" in card
    # The opposite goal is another study.
    other = heretic(tmp_path, *QUICK_DEMO, *asked, *saving_to("other"))
    other.assert_done()
    assert "way of measuring" in other.output
    assert "nothing to remove" in other.output
    assert "--refusal-markers" in other.output
    assert other.output.count("It answers") == 1


def test_one_number_is_minimised_resumed_and_never_mixed_with_two(heretic: Command, folder: Path) -> None:
    one = ("pico", *QUICK_PICO, "--optimization-mode", "single", "--n-trials")
    heretic(folder, *one, "8", *WITH_REPORT, *saving_to("out")).assert_done()
    resumed = heretic(folder, *one, "9", *saving_to("more"))
    resumed.assert_done()
    assert "1 trial to do" in resumed.output
    two = heretic(folder, "pico", *QUICK_PICO, *saving_to("two"))
    two.assert_done()
    assert "was made with another objective" in two.output


def test_a_search_starts_from_the_plans_of_an_earlier_one(heretic: Command, tmp_path: Path) -> None:
    warm = (
        *QUICK_DEMO,
        *("--use-warm-start-params", "true", "--use-shipped-profiles", "true", "--profile-store", "mine.toml"),
    )
    first = heretic(tmp_path, *warm, *saving_to("first"))
    first.assert_done()
    assert "2 from shipped profiles" in first.output
    assert "kept for the next demo model in" in first.output
    kept = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert str(tmp_path) not in kept
    second = heretic(tmp_path, *warm, *saving_to("second"), "--storage", "sqlite:///second.db")
    second.assert_done()
    assert "from your own searches" in second.output
    assert (tmp_path / "mine.toml").read_text(encoding="utf-8").startswith(kept.rstrip())
    # A resumed study is given nothing again.
    resumed = heretic(tmp_path, *warm, "--n-trials", "3", *saving_to("third"))
    resumed.assert_done()
    assert "Warm start" not in resumed.output
    (tmp_path / "mine.toml").write_text("[[profile", encoding="utf-8")
    damaged = heretic(tmp_path, *warm, *saving_to("fourth"), "--storage", "sqlite:///third.db")
    damaged.assert_done()
    assert damaged.output.count("Warning: The profile store mine.toml is left alone, because it is not valid TOML") == 2
    assert (tmp_path / "mine.toml").read_text(encoding="utf-8") == "[[profile"


TOY_PACK = """
name = "{name}"
description = "What {name} is."
card = "What is said of {name}."
evaluator = "{evaluator}"

[options]
tokens = 12

[prompts]
good_prompts = {{ dataset = "bundled:{source}/baseline", split = "train", limit = 12 }}
bad_prompts = {{ dataset = "bundled:{source}/target", split = "train", limit = 12 }}
good_evaluation_prompts = {{ dataset = "bundled:{source}/baseline", split = "evaluation", limit = 3 }}
bad_evaluation_prompts = {{ dataset = "bundled:{source}/target", split = "evaluation", limit = 6 }}
good_held_out_prompts = {{ dataset = "bundled:{source}/baseline", split = "held_out", limit = 3 }}
bad_held_out_prompts = {{ dataset = "bundled:{source}/target", split = "held_out", limit = 3 }}
"""


def test_two_behaviours_are_searched_saved_and_gone_on_with(heretic: Command, tmp_path: Path) -> None:
    for name, evaluator, source in (("toy", "markers", "demo"), ("long-winded", "length", "verbosity")):
        text = TOY_PACK.format(name=name, evaluator=evaluator, source=source)
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    both = (
        *("--model", "demo", "--behavior", "toy.toml,long-winded.toml", "--batch-size", "6", "--seed", "3"),
        *("--held-out-tokens", "24", "--use-warm-start-params", "false", "--report", "false"),
    )
    run = heretic(tmp_path, *both, "--n-trials", "2", *WITH_REPORT, *saving_to("out"))
    run.assert_done()
    assert "Baseline       refuses 6 of 6 prompts; KL over 6 prompts" in run.output
    assert re.search(r"\d words, mean over 6 prompts", run.output)
    assert re.search(r"trial 1/2 +refusals \d/6 +words +[0-9.]+ +KL", run.output), run.output
    metadata = json.loads((tmp_path / "out" / "heretic_metadata.json").read_text(encoding="utf-8"))
    assert metadata["behavior"] == "toy,long-winded"
    assert [score["name"] for score in metadata["scores"]] == ["refusals", "words", "kl"]
    assert len(metadata["plan"]["shares"]) == 2
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "What is said of toy.\n\nWhat is said of long-winded." in card
    assert "behaviours `toy` and `long-winded`" in card
    heretic(tmp_path, "verify", "out").assert_done()

    status = heretic(tmp_path, "status", "--json")
    status.assert_done()
    front = json.loads(status.output)["front"]
    assert [[own["name"] for own in trial["behaviors"]] for trial in front] == [["refusals", "words"]] * len(front)

    resumed = heretic(tmp_path, *both, "--n-trials", "3", *saving_to("second"))
    resumed.assert_done()
    assert "2 of 3 trials are finished" in resumed.output
    assert "trial 1/3" not in resumed.output
    # One of the two alone is another study, by its name, and prompts of both cannot be set at once.
    alone = heretic(tmp_path, *both, "--behavior", "toy.toml", "--n-trials", "1", *saving_to("third"))
    alone.assert_done()
    assert re.search(r"^Study +demo-toy in .*, new$", alone.output, re.MULTILINE), alone.output
    other = heretic(tmp_path, *both, "--bad-prompts.limit", "3", *saving_to("fourth"))
    other.assert_one_sentence("bad_prompts cannot be set for several behaviours at once", "--bad-prompts")

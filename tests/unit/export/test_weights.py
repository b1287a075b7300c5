import errno
import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from tests.models.pico import build_pico
from tests.unit.export.conftest import (
    VERIFICATION,
    all_logits,
    as_loaded,
    exit_code_of,
    load_back,
    names_in,
    tied_llama,
)
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from heretic.common.errors import ExportError, UserError
from heretic.common.integrity import check_folder
from heretic.export import atomic, weights
from heretic.export.content import ExportContent, ExportFormat
from heretic.export.manifest import read_manifest
from heretic.export.weights import model_bytes, save_model
from heretic.models.loaded import LoadedModel


def saved_names(folder: Path) -> list[str]:
    names: list[str] = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names.extend(file.keys())
    return names


def test_saved_folder_is_the_model(loaded: LoadedModel, content: ExportContent, tmp_path: Path) -> None:
    saved = save_model(loaded, tmp_path / "out", content, verification=VERIFICATION)
    assert torch.equal(all_logits(load_back(saved.path)), all_logits(loaded.model))
    ids = AutoTokenizer.from_pretrained(saved.path)("<|user|>hi<|end|>").input_ids
    assert ids == loaded.tokenizer("<|user|>hi<|end|>").input_ids
    assert names_in(saved.path) >= {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "README.md",
        "heretic_metadata.json",
    }
    assert names_in(tmp_path) == {"out"}
    sizes = [path.stat().st_size for path in saved.path.rglob("*") if path.is_file()]
    assert (saved.file_count, saved.bytes) == (len(sizes), sum(sizes))
    assert (saved.format, saved.verified_answers) == (ExportFormat.MERGED, 2)
    assert check_folder(saved.path) == []
    assert read_manifest(saved.path).verification == {"answers_compared": 2, "differs_from_base": {}}


def test_saving_prints_nothing_and_leaves_bars_as_they_were(
    loaded: LoadedModel, content: ExportContent, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """transformers has a bar of its own for writing shards, which is to be seen where `save_pretrained` is called."""
    active = transformers_logging.is_progress_bar_enabled()
    transformers_logging.enable_progress_bar()
    try:
        loaded.model.save_pretrained(tmp_path / "plain")
        assert "shards" in capfd.readouterr().err, "transformers has no such bar any more: `_hidden_bars` can go"
        save_model(loaded, tmp_path / "out", content)
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        if not active:
            transformers_logging.disable_progress_bar()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["gpt2", "qwen3_moe", "gpt_oss", "list_moe", "gemma3", "qwen3_next"])
def test_every_kind_of_model(name: str, content: ExportContent, tmp_path: Path) -> None:
    loaded = as_loaded(build_pico(name))
    saved = save_model(loaded, tmp_path / "out", content, verification=VERIFICATION)
    assert saved.verified_answers == 2
    reloaded = type(loaded.model).from_pretrained(saved.path).eval()
    # Kernels depend on how weights are aligned in memory, so the last bits of logits may differ.
    torch.testing.assert_close(all_logits(reloaded), all_logits(loaded.model), rtol=1e-5, atol=1e-5)


def test_tied_weights_are_saved_once_and_stay_tied(content: ExportContent, tmp_path: Path) -> None:
    loaded = as_loaded(tied_llama())
    saved = save_model(loaded, tmp_path / "out", content, verification=VERIFICATION)
    assert "lm_head.weight" not in saved_names(saved.path)
    reloaded = load_back(saved.path)
    assert reloaded.lm_head.weight is reloaded.model.embed_tokens.weight
    assert torch.equal(all_logits(reloaded), all_logits(loaded.model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype, content: ExportContent, tmp_path: Path) -> None:
    loaded = as_loaded(build_pico("llama", dtype=dtype))
    saved = save_model(loaded, tmp_path / "out", content, verification=VERIFICATION)
    assert {parameter.dtype for parameter in load_back(saved.path).parameters()} == {dtype}


def test_shards(loaded: LoadedModel, content: ExportContent, tmp_path: Path) -> None:
    saved = save_model(loaded, tmp_path / "out", content, max_shard_size="40KB", verification=VERIFICATION)
    shards = sorted(saved.path.glob("model-*.safetensors"))
    assert len(shards) > 2
    index = json.loads((saved.path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {shard.name for shard in shards}
    assert torch.equal(all_logits(load_back(saved.path)), all_logits(loaded.model))


def test_transposed_weight_is_saved(loaded: LoadedModel, content: ExportContent, tmp_path: Path) -> None:
    projection = loaded.model.model.layers[1].mlp.down_proj
    projection.weight.data = projection.weight.data.T.contiguous().T
    assert not projection.weight.is_contiguous()
    saved = save_model(loaded, tmp_path / "out", content, verification=VERIFICATION)
    assert torch.equal(all_logits(load_back(saved.path)), all_logits(loaded.model))


def test_model_with_accelerate_hooks(content: ExportContent, tmp_path: Path) -> None:
    from accelerate import dispatch_model

    model = build_pico("llama")
    expected = all_logits(model)
    dispatched = dispatch_model(model, {"": "cpu"}, force_hooks=True)
    saved = save_model(as_loaded(dispatched), tmp_path / "out", content, verification=VERIFICATION)
    assert torch.equal(all_logits(load_back(saved.path)), expected)


def test_model_object_is_left_as_it_was(loaded: LoadedModel, content: ExportContent, tmp_path: Path) -> None:
    model = loaded.model
    before = (model.config.to_dict(), model.generation_config.to_dict(), all_logits(model))
    save_model(loaded, tmp_path / "out", content)
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before[:2]
    assert torch.equal(all_logits(model), before[2])


def test_sampling_options_without_sampling_do_not_stop_the_save(
    loaded: LoadedModel, content: ExportContent, tmp_path: Path
) -> None:
    loaded.model.generation_config = GenerationConfig(temperature=0.6, top_p=0.9, eos_token_id=257)
    with pytest.raises(ValueError, match="temperature"):  # what transformers does on its own
        loaded.model.generation_config.save_pretrained(tmp_path / "raw")
    saved = save_model(loaded, tmp_path / "out", content)
    configuration = GenerationConfig.from_pretrained(saved.path)
    assert (configuration.temperature, configuration.top_p, configuration.do_sample) == (0.6, 0.9, None)
    assert loaded.model.generation_config.do_sample is not True


def test_no_private_path_is_written(loaded: LoadedModel, content: ExportContent, tmp_path: Path) -> None:
    source = tmp_path / "private place"
    loaded.model.save_pretrained(source)
    loaded.tokenizer.save_pretrained(source)
    model = type(loaded.model).from_pretrained(source).eval()
    private = replace(
        loaded, model=model, tokenizer=AutoTokenizer.from_pretrained(source), source=str(source), name="demo"
    )
    saved = save_model(private, tmp_path / "out", content)
    for path in saved.path.rglob("*"):
        assert b"private place" not in path.read_bytes(), path


ENOSPC = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("step", "error", "kind"),
    [
        ("write_merged", ENOSPC, ExportError),
        ("write_merged", SafetensorError("I/O error: No space left on device (os error 28)"), ExportError),
        ("save_tokenizer", ENOSPC, ExportError),
        ("verify_merged", RuntimeError("crash"), RuntimeError),
        ("write_card", KeyboardInterrupt(), KeyboardInterrupt),
        ("write_manifest", ENOSPC, ExportError),
    ],
)
def test_failing_step_leaves_nothing_and_the_next_save_succeeds(
    loaded: LoadedModel,
    content: ExportContent,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: BaseException,
    kind: type[BaseException],
) -> None:
    original = getattr(weights, step)

    def does_its_work_then_fails(*arguments: object, **keywords: object) -> None:
        original(*arguments, **keywords)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(weights, step, does_its_work_then_fails)
        with pytest.raises(kind, match=None if kind is not ExportError else "disk became full"):
            save_model(loaded, tmp_path / "out", content)
    assert names_in(tmp_path) == set()
    saved = save_model(loaded, tmp_path / "out", content)
    assert check_folder(saved.path) == []


def test_disk_that_fills_up_between_two_shards(
    loaded: LoadedModel, content: ExportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_after
) -> None:
    from transformers import modeling_utils

    writer = fail_after(modeling_utils.safe_save_file, 2, SafetensorError("I/O error (os error 28)"))
    monkeypatch.setattr(modeling_utils, "safe_save_file", writer)
    with pytest.raises(ExportError, match="disk became full"):
        save_model(loaded, tmp_path / "out", content, max_shard_size="40KB")
    assert names_in(tmp_path) == set()


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the system has no limit on file sizes")
@pytest.mark.parametrize("limit", [500, 20_000])
def test_system_that_refuses_to_write_on(
    loaded: LoadedModel, content: ExportContent, tmp_path: Path, limit: int
) -> None:
    """The libraries that write (tokenizers, safetensors) each report it in a way of their own."""
    import resource

    def save() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            save_model(loaded, tmp_path / "out", content)
        except ExportError as error:
            return 7 if "smaller shard size" in str(error) else 8
        return 0

    assert exit_code_of(save) == 7
    assert names_in(tmp_path) == set()


def test_failing_rename(
    loaded: LoadedModel, content: ExportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_after
) -> None:
    monkeypatch.setattr(atomic.os, "replace", fail_after(atomic.os.replace, 1, OSError(errno.EIO, "I/O error")))
    with pytest.raises(ExportError, match="I/O error"):
        save_model(loaded, tmp_path / "out", content)
    assert names_in(tmp_path) == set()


def test_existing_model_is_not_overwritten_silently(
    loaded: LoadedModel, content: ExportContent, tmp_path: Path
) -> None:
    saved = save_model(loaded, tmp_path / "out", content)
    before = read_manifest(saved.path)
    with pytest.raises(UserError, match="not empty"):
        save_model(loaded, tmp_path / "out", content)
    assert read_manifest(saved.path) == before
    assert check_folder(saved.path) == []


def test_too_little_space(
    loaded: LoadedModel, content: ExportContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(atomic.shutil.disk_usage(tmp_path))(10**9, 10**9 - 1000, 1000)
    monkeypatch.setattr(atomic.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="is free on that disk"):
        save_model(loaded, tmp_path / "out", content)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("build", [lambda: build_pico("llama"), tied_llama])
def test_needed_space_is_that_of_the_weight_files(build, tmp_path: Path) -> None:
    model: PreTrainedModel = build()
    model.save_pretrained(tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert 0 <= written - model_bytes(model) < 8000  # the header


def test_quantised_weights_are_not_merged(loaded: LoadedModel, content: ExportContent, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--quantization none"):
        save_model(replace(loaded, quantization="bnb_4bit"), tmp_path / "out", content)
    assert names_in(tmp_path) == set()

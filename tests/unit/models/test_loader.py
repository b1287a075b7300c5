"""Models are really written, damaged and loaded; only the hub's answers are replaced, by its own exceptions."""

import json
import os
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.torch import load_file, save_file
from tests.models.pico import VOCABULARY, build_pico, pico_token_ids, pico_tokenizer
from tests.unit.models.hub_error import hub_error
from tests.unit.models.model_folder import LoadSettings, save_pico
from transformers import AutoModelForCausalLM, GenerationConfig, T5Config

from heretic.common.errors import ModelError
from heretic.common.integrity import MANIFEST_NAME, checksums, files_of, write_manifest_file
from heretic.models import checkpoint as checkpoint_module
from heretic.models import loader
from heretic.models.loader import load_model, placement
from heretic.models.location import locate
from heretic.models.remote_code import find_remote_code
from heretic.models.verified import VerificationError
from heretic.observability.events import DtypeRejected, FilesVerified, ModelLoaded, ModelLoading, subscribed


def load_with_events(name, **settings):
    events = []
    with subscribed(events.append):
        loaded = load_model(str(name), LoadSettings(**settings))
    return loaded, events


def refused(name, **settings):
    """The message that loading ends with, and the events until then."""
    events = []
    with subscribed(events.append), pytest.raises(ModelError) as caught:
        load_model(str(name), LoadSettings(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value), events


def change_json(path, **changes):
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | changes), encoding="utf-8")


def test_a_folder_is_loaded_ready_to_be_edited(tmp_path):
    saved = save_pico(tmp_path)
    loaded, events = load_with_events(tmp_path)
    assert events[0] == ModelLoading(str(tmp_path), "float32")
    assert isinstance(events[1], ModelLoaded)
    assert (events[1].architecture, events[1].dtype, events[1].device) == ("LlamaForCausalLM", "float32", "cpu")
    assert events[1].parameter_count == sum(parameter.numel() for parameter in saved.parameters())
    assert (loaded.source, loaded.commit, loaded.processor) == (str(tmp_path), None, None)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer.padding_side == "left"
    ids = pico_token_ids()
    torch.testing.assert_close(loaded.model(ids).logits, saved(ids).logits)


def test_one_device_means_no_hooks(tmp_path):
    save_pico(tmp_path)
    for settings in ({}, {"device_map": "auto", "max_memory": {"cpu": "8GB"}}, {"device_map": {"": "cpu"}}):
        loaded, _ = load_with_events(tmp_path, **settings)
        assert not any(hasattr(module, "_hf_hook") for module in loaded.model.modules())


def test_the_bundled_model_is_loaded_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    loaded, _ = load_with_events("demo")
    assert (Path(loaded.source) / "config.json").is_file()
    assert loaded.tokenizer.chat_template


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_auto_takes_the_dtype_of_the_checkpoint(tmp_path, dtype):
    save_pico(tmp_path, dtype=getattr(torch, dtype))
    loaded, events = load_with_events(tmp_path)
    assert (loaded.dtype, loaded.model.dtype) == (dtype, getattr(torch, dtype))
    assert events[0].dtype == dtype


def test_numbers_that_float16_cannot_hold_lead_to_the_next_dtype(tmp_path):
    model = save_pico(tmp_path)
    # Within float16 as weights, but a logit sums many of them.
    model.lm_head.weight.data.fill_(60000.0)
    model.save_pretrained(tmp_path)
    loaded, events = load_with_events(tmp_path, dtypes=("float16", "float32"))
    assert events[:3] == [
        ModelLoading(str(tmp_path), "float16"),
        DtypeRejected("float16", "logits are not finite"),
        ModelLoading(str(tmp_path), "float32"),
    ]
    assert loaded.dtype == "float32"


def test_a_dtype_is_not_tried_twice_under_two_names(tmp_path):
    model = save_pico(tmp_path, dtype=torch.float16)
    model.lm_head.weight.data.fill_(60000.0)
    model.save_pretrained(tmp_path)
    _, events = load_with_events(tmp_path, dtypes=("auto", "float16", "float32"))
    assert [event.dtype for event in events if isinstance(event, ModelLoading)] == ["float16", "float32"]


@pytest.mark.parametrize("weight", ["model.norm.weight", "model.layers.1.mlp.down_proj.weight"])
def test_weights_that_are_no_numbers_reject_every_dtype(tmp_path, weight):
    save_pico(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[weight].fill_(float("nan"))
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    message, events = refused(tmp_path)
    rejections = [event for event in events if isinstance(event, DtypeRejected)]
    assert rejections == [DtypeRejected(dtype, "logits are not finite") for dtype in ("float32", "float16")]
    assert "float32: logits are not finite; float16: logits are not finite" in message
    assert "weights may be damaged" in message


def test_an_overflow_at_a_single_early_position_is_noticed(tmp_path):
    model = save_pico(tmp_path)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data.zero_()
        layer.mlp.down_proj.weight.data.zero_()
    # Only the token that the rendered probe begins with has a part along the first axis, and only that part overflows.
    first = pico_tokenizer()("<|user|>")["input_ids"][0]
    embeddings = model.model.embed_tokens.weight.data
    embeddings[:, 0] = 0
    embeddings[first] = torch.eye(embeddings.shape[1])[0]
    model.lm_head.weight.data[:, 0] = 3e38
    model.save_pretrained(tmp_path)
    message, _ = refused(tmp_path, dtypes=("float32",))
    assert "logits are not finite" in message


def test_running_out_of_memory_leads_to_the_next_dtype(tmp_path, monkeypatch):
    save_pico(tmp_path)
    really_load, emptied = loader._load, []

    def load(checkpoint, settings, dtype, device):
        if dtype == "float32":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return really_load(checkpoint, settings, dtype, device)

    monkeypatch.setattr(loader, "_load", load)
    monkeypatch.setattr(loader, "empty_cache", emptied.append)
    loaded, events = load_with_events(tmp_path, dtypes=("float32", "bfloat16"))
    assert loaded.dtype == "bfloat16"
    assert events[1] == DtypeRejected("float32", "out of memory")
    assert emptied == [torch.device("cpu")]
    message, _ = refused(tmp_path, dtypes=("float32",))
    assert all(setting in message for setting in ("--quantization", "--device-map", "--max-memory"))


def test_what_does_not_fit_into_host_memory_is_not_even_begun(tmp_path, monkeypatch):
    save_pico(tmp_path)
    size = sum(tensor.nbytes for tensor in load_file(tmp_path / "model.safetensors").values())
    monkeypatch.setattr(loader, "free_host_memory", lambda: size // 2)
    loaded, events = load_with_events(tmp_path, dtypes=["float32", "bfloat16"])
    assert loaded.dtype == "bfloat16"
    (rejected,) = [event for event in events if isinstance(event, DtypeRejected)]
    assert rejected.dtype == "float32"
    assert rejected.reason.startswith("out of memory")
    monkeypatch.setattr(loader, "free_host_memory", lambda: size // 2 - 1)
    monkeypatch.setattr(loader, "_load", lambda *_: pytest.fail("it was loaded all the same"))
    message, _events = refused(tmp_path, dtypes=["float32", "bfloat16"])
    assert "heretic plan" in message
    assert "--quantization bnb_4bit" in message


def test_weights_left_on_no_device_count_as_out_of_memory(tmp_path):
    save_pico(tmp_path)
    device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu", "lm_head": "cpu"}
    device_map |= {"model.layers.0": "cpu", "model.layers.1": "meta", "model.layers.2": "cpu"}
    message, _ = refused(tmp_path, device_map=device_map, dtypes=("float32",))
    assert "out of memory" in message


def test_a_path_that_does_not_exist(tmp_path):
    message, events = refused(tmp_path / "nothing")
    assert "There is no folder or file" in message
    assert events == []


def test_a_damaged_weight_file_stops_at_once(tmp_path):
    save_pico(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    message, events = refused(tmp_path)
    assert "A weight file of" in message
    assert "damaged" in message
    assert len([event for event in events if isinstance(event, ModelLoading)]) == 1
    assert not any(isinstance(event, DtypeRejected) for event in events)


def test_a_folder_without_weights(tmp_path):
    save_pico(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    message, _ = refused(tmp_path)
    assert "A file with the weights of" in message


def test_a_missing_shard(tmp_path):
    model = save_pico(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    message, _ = refused(tmp_path)
    assert shards[1].name in message


def test_pickled_weights_are_refused(tmp_path):
    model = save_pico(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    message, _ = refused(tmp_path)
    assert "pickled (pytorch_model.bin)" in message
    assert "convert the model to safetensors" in message


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt"])
def test_pickled_weights_are_refused_by_any_ending(tmp_path, name):
    model = save_pico(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / name)
    message, events = refused(tmp_path)
    assert f"pickled ({name})" in message
    assert "--allow-pickle" in message
    assert events == []


def test_pickled_weights_are_loaded_on_request(tmp_path):
    model = save_pico(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    loaded, _ = load_with_events(tmp_path, allow_pickle=True)
    assert loaded.weights == "pickle"
    assert torch.equal(loaded.model.model.embed_tokens.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize(("shard", "word"), [("evil.bin", "pickled"), ("../evil.safetensors", "outside")])
def test_an_index_leads_neither_to_pickled_weights_nor_outside(tmp_path, shard, word):
    model = save_pico(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    # Files beside it that end in .safetensors do not make the index harmless.
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    torch.save(model.state_dict(), tmp_path / "evil.bin")
    index = {"metadata": {}, "weight_map": dict.fromkeys(model.state_dict(), shard)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    message, events = refused(tmp_path)
    assert word in message
    assert events == []


def test_an_adapter_beside_the_model_is_not_unpickled(tmp_path):
    save_pico(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    message, _ = refused(tmp_path)
    assert "adapter_model.bin" in message


def sealed(folder):
    entries = {name: {"sha256": e.sha256, "size": e.size} for name, e in checksums(files_of(folder)).items()}
    write_manifest_file(folder / MANIFEST_NAME, {"manifest_version": 1, "format": "checksums", "files": entries})


def test_a_model_is_compared_with_its_manifest_before_its_code_runs(tmp_path):
    save_pico(tmp_path)
    sealed(tmp_path)
    _, events = load_with_events(tmp_path)
    assert isinstance(events[1], FilesVerified)
    marker = tmp_path.parent / "it ran"
    (tmp_path / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n", encoding="utf-8")
    change_json(tmp_path / "config.json", auto_map={"AutoConfig": "own.OwnConfig"}, model_type="own")
    with pytest.raises(VerificationError, match=r"config\.json.*own\.py.*heretic verify.*--verify false"):
        load_model(str(tmp_path), LoadSettings(trust_remote_code=True))
    assert not marker.exists()


def test_verification_can_be_left_out(tmp_path):
    save_pico(tmp_path)
    sealed(tmp_path)
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(VerificationError, match="notes"):
        load_model(str(tmp_path), LoadSettings())
    load_model(str(tmp_path), LoadSettings(verify=False))


def test_a_hub_model_is_compared_with_its_manifest_except_for_its_card(hub_cache):
    snapshot = cached_model(hub_cache)["main"]
    (snapshot / "README.md").write_text("x", encoding="utf-8")
    sealed(snapshot)
    (snapshot / "README.md").write_text("edited on its page", encoding="utf-8")
    load_with_events("owner/model")
    with (snapshot / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(VerificationError, match=r"model\.safetensors.*cache"):
        load_model("owner/model", LoadSettings())


def test_weights_of_a_hub_model_that_its_manifest_does_not_list_are_noticed(hub_cache):
    snapshot = cached_model(hub_cache)["main"]
    sealed(snapshot)
    (snapshot / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"x": "other.safetensors"}}), encoding="utf-8"
    )
    save_file({"x": torch.zeros(1)}, snapshot / "other.safetensors")
    with pytest.raises(VerificationError, match=r"other\.safetensors.* not listed"):
        load_model("owner/model", LoadSettings())


OTHER_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"


def test_code_of_another_repository_is_pinned(hub_cache, tmp_path):
    folder = tmp_path / "model"
    save_pico(folder)
    change_json(folder / "config.json", auto_map={"AutoConfig": "coder/code--own.OwnConfig"})
    repository = hub_cache / "models--coder--code"
    for commit in (OTHER_COMMIT, COMMITS["main"]):
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "own.py").write_text("", encoding="utf-8")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(OTHER_COMMIT, encoding="utf-8")
    code = find_remote_code(locate(str(folder)), None)
    assert (code.repository, code.commit) == ("coder/code", OTHER_COMMIT)
    assert code.arguments("AutoConfig") == {"code_revision": OTHER_COMMIT}
    assert code.arguments("AutoTokenizer") == {}
    # A saved folder says which commit it was made with.
    source = {"code": {"repository": "coder/code", "commit": COMMITS["main"]}}
    write_manifest_file(folder / MANIFEST_NAME, {"manifest_version": 1, "files": {}, "source": source})
    assert find_remote_code(locate(str(folder)), None).commit == COMMITS["main"]


def test_weights_that_are_missing_are_not_replaced_by_random_ones(tmp_path):
    save_pico(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    message, _ = refused(tmp_path)
    assert "lacks the weights model.layers.1.mlp.up_proj.weight" in message


def test_weights_of_another_shape(tmp_path):
    save_pico(tmp_path)
    change_json(tmp_path / "config.json", intermediate_size=60)
    message, _ = refused(tmp_path)
    assert "have other shapes than its config.json says" in message


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"model_type": ', "no valid JSON"),
        ('{"model_type": "not-yet-invented"}', "does not know the architecture"),
        ("{}", "does not say which architecture"),
        ('{"model_type": "clip_vision_model"}', "no model that generates text"),
        (json.dumps(T5Config().to_dict()), "encoder-decoder"),
    ],
)
def test_configurations_that_cannot_be_used(tmp_path, content, sentence):
    save_pico(tmp_path)
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    message, _ = refused(tmp_path)
    assert sentence in message


def test_a_damaged_tokenizer(tmp_path):
    save_pico(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")
    message, events = refused(tmp_path)
    assert str(tmp_path) in message
    assert events == []


@pytest.mark.parametrize("trusted", [False, True])
def test_code_of_the_model_runs_only_on_request(tmp_path, trusted):
    save_pico(tmp_path)
    marker = tmp_path / "it ran"
    (tmp_path / "own.py").write_text(
        f"from transformers import LlamaConfig\nopen({str(marker)!r}, 'w').close()\n\n\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n",
        encoding="utf-8",
    )
    change_json(tmp_path / "config.json", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    message, _ = refused(tmp_path, trust_remote_code=trusted)
    assert marker.exists() is trusted
    assert ("run again with --trust-remote-code" in message) is not trusted


def test_a_tokenizer_without_padding_token(tmp_path):
    model = save_pico(tmp_path)
    model.generation_config = GenerationConfig(eos_token_id=257)
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path)
    tokenizer = pico_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    loaded, _ = load_with_events(tmp_path)
    assert loaded.tokenizer.pad_token == tokenizer.eos_token
    assert loaded.model.generation_config.pad_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize("samples", [False, True])
def test_sampling_options_survive_only_where_the_model_samples(tmp_path, samples):
    save_pico(tmp_path)
    change_json(tmp_path / "generation_config.json", do_sample=samples, temperature=0.7, top_p=0.9, top_k=20)
    loaded, _ = load_with_events(tmp_path)
    generation = loaded.model.generation_config
    assert (generation.temperature, generation.top_p, generation.top_k) == ((0.7, 0.9, 20) if samples else (None,) * 3)
    generation.max_length = 99
    # transformers refuses to write a changed configuration that contradicts itself.
    loaded.model.save_pretrained(tmp_path / "again")


def test_a_model_without_chat_template(tmp_path):
    save_pico(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    pico_tokenizer(None).save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    loaded, _ = load_with_events(tmp_path)
    assert loaded.tokenizer.chat_template is None


def test_a_device_that_is_not_there(tmp_path):
    save_pico(tmp_path)
    message, _ = refused(tmp_path, device="cpu:3")
    assert "PyTorch finds no device cpu:3 here; use --device auto" in message


@pytest.mark.parametrize(
    ("settings", "device", "count", "expected"),
    [
        ({}, "cpu", 1, {"device_map": {"": "cpu"}}),
        ({"device": "auto"}, "cuda", 1, {"device_map": {"": "cuda"}}),
        ({"device": "auto"}, "cuda", 2, {"device_map": "auto"}),
        ({"device": "cuda:1"}, "cuda:1", 2, {"device_map": {"": "cuda:1"}}),
        ({"device_map": "balanced"}, "cuda", 2, {"device_map": "balanced"}),
        ({"device_map": {"model": 0, "lm_head": "cpu"}}, "cuda", 1, {"device_map": {"model": 0, "lm_head": "cpu"}}),
        (
            {"max_memory": {"0": "20GB", "cpu": "64GB"}},
            "cuda",
            1,
            {"device_map": "auto", "max_memory": {0: "20GB", "cpu": "64GB"}},
        ),
    ],
)
def test_where_the_weights_go(monkeypatch, settings, device, count, expected):
    monkeypatch.setattr(loader, "device_count", lambda _kind: count)
    assert placement(LoadSettings(**settings), torch.device(device)) == expected


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache, and no connection."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize(
    ("error", "phrases"),
    [
        (hub_error(RepositoryNotFoundError, 404), ["There is no model owner/model", "hf auth login", "HF_TOKEN"]),
        (hub_error(GatedRepoError, 403), ["gated", "https://huggingface.co/owner/model", "hf auth login", "HF_TOKEN"]),
        (hub_error(RevisionNotFoundError, 404), ["--model-revision"]),
        (LocalEntryNotFoundError("no connection"), ["cannot be reached", "--model demo"]),
        (OSError(28, "No space left on device"), ["disk is full", "HF_HOME"]),
        (PermissionError(13, "Permission denied", "/cache"), ["permissions"]),
    ],
)
def test_what_the_hub_refuses_stops_at_once(hub_cache, monkeypatch, error, phrases):
    def download(*_args, **_options):
        raise error

    monkeypatch.setattr("transformers.utils.hub.hf_hub_download", download)
    message, events = refused("owner/model")
    assert all(phrase in message for phrase in phrases)
    assert events == []


def test_an_unreachable_hub(hub_cache):
    message, _ = refused("owner/model")
    assert "The hub cannot be reached and owner/model is not in the local cache" in message


COMMITS = {"main": "0123456789abcdef0123456789abcdef01234567", "other": "89abcdef0123456789abcdef0123456789abcdef"}


def cached_model(cache):
    """Put a model with two branches into the hub's cache as a download does; the snapshots' folders."""
    repository = cache / "models--owner--model"
    (repository / "refs").mkdir(parents=True)
    for seed, (branch, commit) in enumerate(COMMITS.items()):
        save_pico(repository / "snapshots" / commit, seed=seed)
        (repository / "refs" / branch).write_text(commit, encoding="utf-8")
    return {branch: repository / "snapshots" / commit for branch, commit in COMMITS.items()}


@pytest.mark.parametrize("revision", [None, "main", "other", COMMITS["other"]])
def test_a_hub_model_is_loaded_from_the_commit_that_was_asked_for(hub_cache, revision):
    cached_model(hub_cache)
    seed = int(revision in ("other", COMMITS["other"]))
    loaded, _ = load_with_events("owner/model", model_revision=revision)
    assert (loaded.source, loaded.commit) == ("owner/model", list(COMMITS.values())[seed])
    expected = build_pico("llama", seed=seed).model.embed_tokens.weight
    assert torch.equal(loaded.model.model.embed_tokens.weight, expected)


def test_a_revision_that_is_not_there(hub_cache):
    cached_model(hub_cache)
    message, _ = refused("owner/model", model_revision="another-branch")
    assert "owner/model" in message


def test_pickled_weights_from_the_hub_are_refused(hub_cache):
    snapshot = cached_model(hub_cache)["main"]
    torch.save(load_file(snapshot / "model.safetensors"), snapshot / "pytorch_model.bin")
    (snapshot / "model.safetensors").unlink()
    message, _ = refused("owner/model")
    assert "owner/model has no safetensors weights" in message


def test_a_folder_wins_over_a_hub_model_of_that_name(hub_cache, tmp_path):
    cached_model(hub_cache)
    save_pico(tmp_path / "owner" / "model", seed=1)
    loaded, _ = load_with_events("owner/model")
    assert loaded.commit is None
    expected = build_pico("llama", seed=1).model.embed_tokens.weight
    assert torch.equal(loaded.model.model.embed_tokens.weight, expected)


def test_a_vision_language_model_without_pillow(tmp_path, monkeypatch):
    save_pico(tmp_path, "llava")
    monkeypatch.setattr(checkpoint_module, "is_vision_available", lambda: False)
    message, _ = refused(tmp_path)
    assert "pip install pillow" in message


def test_a_vision_language_model_without_its_processor(tmp_path, monkeypatch):
    save_pico(tmp_path, "llava")
    monkeypatch.setattr(checkpoint_module, "is_vision_available", lambda: True)
    message, _ = refused(tmp_path)
    assert "lacks the processor files" in message


def test_a_vision_language_model_comes_with_its_processor(tmp_path):
    pytest.importorskip("PIL", reason="image processors need Pillow")
    from transformers import CLIPImageProcessor, LlavaProcessor

    save_pico(tmp_path, "llava")
    tokenizer = pico_tokenizer()
    images = CLIPImageProcessor(size={"height": 16, "width": 16})
    LlavaProcessor(images, tokenizer, patch_size=8, chat_template=tokenizer.chat_template).save_pretrained(tmp_path)
    loaded, events = load_with_events(tmp_path)
    assert type(loaded.processor) is LlavaProcessor
    assert events[-1].architecture == "LlavaForConditionalGeneration"
    assert loaded.tokenizer.chat_template == tokenizer.chat_template


@pytest.mark.parametrize("quantization", ["bnb_4bit", "bnb_8bit"])
def test_quantized_layers(tmp_path, quantization):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    saved = save_aligned(tmp_path)
    kinds = {"bnb_4bit": bitsandbytes.nn.Linear4bit, "bnb_8bit": bitsandbytes.nn.Linear8bitLt}
    loaded, events = load_with_events(tmp_path, quantization=quantization, dtypes=("float32",))
    assert isinstance(loaded.model.model.layers[0].mlp.down_proj, kinds[quantization])
    assert loaded.quantization == quantization
    assert events[-1].dtype.endswith(quantization)
    ids = pico_token_ids()
    difference = (loaded.model(ids).logits.float() - saved(ids).logits).abs().mean()
    assert 0 < difference < saved(ids).logits.std()


def save_aligned(folder):
    """A model whose sizes are multiples of what quantised kernels work on."""
    configuration = build_pico("llama").config
    for name, value in {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_hidden_layers": 1}.items():
        setattr(configuration, name, value)
    configuration.num_attention_heads, configuration.num_key_value_heads = 4, 2
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(configuration).eval()
    model.save_pretrained(folder)
    pico_tokenizer().save_pretrained(folder)
    assert model.config.vocab_size == VOCABULARY
    return model


@pytest.mark.parametrize("quantization", ["bnb_4bit", "bnb_8bit"])
def test_quantization_without_bitsandbytes(tmp_path, monkeypatch, quantization):
    save_pico(tmp_path)
    module = f"transformers.quantizers.quantizer_{quantization}"
    monkeypatch.setattr(f"{module}.is_bitsandbytes_available", lambda: False)
    message, events = refused(tmp_path, quantization=quantization)
    assert "pip install -U bitsandbytes" in message
    assert not any(isinstance(event, DtypeRejected) for event in events)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    save_pico(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").chmod(0)
    message, _ = refused(tmp_path / "model")
    assert "permissions" in message

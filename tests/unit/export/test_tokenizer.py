import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.models.pico import build_pico, pico_tokenizer
from tests.unit.export.conftest import as_loaded
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from heretic.common.errors import ExportError
from heretic.export import tokenizer as tokenizer_module
from heretic.export.tokenizer import CONFIGURATION_NAME, check_tokenizer, portable_configuration, save_tokenizer
from heretic.models.loaded import LoadedModel

EXTRA = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture
def with_extra_tokens() -> PreTrainedTokenizerBase:
    tokenizer = pico_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": EXTRA})
    return tokenizer


def saved_configuration(loaded: LoadedModel, folder: Path) -> dict:
    save_tokenizer(loaded, folder)
    return json.loads((folder / CONFIGURATION_NAME).read_text())


def test_the_list_that_version_4_cannot_read_is_not_written(
    with_extra_tokens: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    # transformers itself writes the list: the test would prove nothing otherwise.
    with_extra_tokens.save_pretrained(tmp_path / "raw")
    raw = json.loads((tmp_path / "raw" / CONFIGURATION_NAME).read_text())
    assert isinstance(raw["extra_special_tokens"], list)

    folder = tmp_path / "saved"
    folder.mkdir()
    saved = saved_configuration(as_loaded(build_pico("llama"), with_extra_tokens), folder)
    assert not isinstance(saved.get("extra_special_tokens"), list)
    assert saved["additional_special_tokens"] == EXTRA
    assert saved["tokenizer_class"] == "PreTrainedTokenizerFast"

    reloaded = AutoTokenizer.from_pretrained(folder)
    assert reloaded.extra_special_tokens == EXTRA
    assert reloaded("a<|im_start|>b").input_ids == with_extra_tokens("a<|im_start|>b").input_ids
    assert reloaded.decode(reloaded("a<|im_end|>b").input_ids, skip_special_tokens=True) == "ab"


def test_saving_again_changes_nothing(with_extra_tokens: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    configurations = []
    tokenizer = with_extra_tokens
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        configurations.append(saved_configuration(as_loaded(build_pico("llama"), tokenizer), folder))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert configurations[0] == configurations[1]


def test_named_tokens_keep_their_names(tmp_path: Path) -> None:
    source = tmp_path / "source"
    pico_tokenizer().save_pretrained(source)
    configuration = json.loads((source / CONFIGURATION_NAME).read_text())
    configuration["extra_special_tokens"] = {"image_token": "<image>"}
    configuration["additional_special_tokens"] = ["<|end|>"]
    (source / CONFIGURATION_NAME).write_text(json.dumps(configuration))
    folder = tmp_path / "saved"
    folder.mkdir()
    saved = saved_configuration(as_loaded(build_pico("llama"), AutoTokenizer.from_pretrained(source)), folder)
    assert saved["extra_special_tokens"] == {"image_token": "<image>"}
    assert saved["additional_special_tokens"] == ["<|end|>"]
    assert AutoTokenizer.from_pretrained(folder).image_token == "<image>"  # noqa: S105 - no password


@pytest.mark.parametrize("extra", [None, [], {}])
def test_no_extra_tokens(extra: list | dict | None) -> None:
    assert portable_configuration({"extra_special_tokens": extra, "eos_token": "x"}) == {"eos_token": "x"}


def test_both_kinds_of_lists_are_joined() -> None:
    result = portable_configuration({"extra_special_tokens": ["a", "b"], "additional_special_tokens": ["b", "c"]})
    assert result == {"additional_special_tokens": ["b", "c", "a"]}


def test_nothing_about_this_machine_is_written(tmp_path: Path) -> None:
    source = tmp_path / "private place"
    pico_tokenizer().save_pretrained(source)
    folder = tmp_path / "saved"
    folder.mkdir()
    saved = saved_configuration(as_loaded(build_pico("llama"), AutoTokenizer.from_pretrained(source)), folder)
    assert "private place" not in json.dumps(saved)
    assert "is_local" not in saved


def test_chat_template_survives(tmp_path: Path) -> None:
    tokenizer = pico_tokenizer()
    save_tokenizer(as_loaded(build_pico("llama"), tokenizer), tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == tokenizer.chat_template


def test_processor_is_saved_and_tokenizer_stays_portable(
    with_extra_tokens: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    def save_pretrained(folder: Path) -> None:
        with_extra_tokens.save_pretrained(folder)
        (folder / "processor_config.json").write_text("{}")

    loaded = as_loaded(
        build_pico("llama"), with_extra_tokens, processor=SimpleNamespace(save_pretrained=save_pretrained)
    )
    assert saved_configuration(loaded, tmp_path)["additional_special_tokens"] == EXTRA
    assert (tmp_path / "processor_config.json").exists()


def changed(what: str) -> PreTrainedTokenizerBase:
    tokenizer = pico_tokenizer()
    if what == "special tokens":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    elif what == "vocabulary size":
        tokenizer.add_tokens(["hello"])
    elif what == "padding":
        tokenizer.padding_side = "right"
    elif what == "chat template":
        tokenizer.chat_template = "{{ messages }}"
    elif what == "token ids":
        tokenizer.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Lowercase()
    return tokenizer


@pytest.mark.parametrize("what", ["special tokens", "vocabulary size", "padding", "chat template", "token ids"])
def test_differences_are_found(what: str) -> None:
    check_tokenizer(pico_tokenizer(), pico_tokenizer())
    with pytest.raises(ExportError, match=what):
        check_tokenizer(pico_tokenizer(), changed(what))


def test_tokenizer_that_cannot_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_module, "portable_configuration", lambda _: {"tokenizer_class": "NoSuchTokenizer"})
    monkeypatch.setattr(
        tokenizer_module.AutoTokenizer,
        "from_pretrained",
        lambda *_, **__: (_ for _ in ()).throw(AttributeError("'list' object has no attribute 'keys'")),
    )
    with pytest.raises(ExportError, match="cannot be loaded again"):
        save_tokenizer(as_loaded(build_pico("llama")), tmp_path)

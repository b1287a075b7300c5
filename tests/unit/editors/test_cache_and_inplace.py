"""Edits in the weights can be taken back bit for bit, whatever happened in between."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tests.models.pico import PICO_FAMILIES, build_pico
from transformers import PreTrainedModel

from heretic.common.errors import CacheMismatchError, ModelError, OutOfMemoryError
from heretic.directions.types import DirectionSet
from heretic.editors.cache import PristineSource, WeightCache, _copy, editable_tensors
from heretic.editors.editor import applied
from heretic.editors.inplace import InplaceEditor
from heretic.editors.originals import FileSource, find_originals
from heretic.edits.algebra import Edit
from heretic.edits.build import build_edits
from heretic.edits.writer import ModelLayout, ResidualWriter
from heretic.models.access import oriented, post_norm_gain, writer_bias, writer_weight
from heretic.models.layout import find_layout
from heretic.observability.events import Event, WeightsCached, subscribed
from heretic.results.plan import EditPlan, Normalization, Schedule, Scope

torch.set_num_threads(1)

FAMILIES = ("llama", "gpt2", "gemma2", "list_moe", "qwen3_moe", "gpt_oss_square", "qwen3_next", "lfm2", "llava")
DTYPES = (torch.float32, torch.bfloat16)


def weights_hash(model: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def edits_for(editor: InplaceEditor, model: PreTrainedModel, layout: ModelLayout, seed: int) -> tuple[Edit, ...]:
    """Another plan and other directions for every seed, in all normalisations and both scopes."""
    generator = torch.Generator().manual_seed(seed)
    random = torch.randn(layout.layer_count + 1, layout.hidden_size, 2, generator=generator)
    ones = torch.ones(layout.layer_count + 1)
    directions = DirectionSet(torch.linalg.qr(random).Q.mT.contiguous(), ones[:, None].repeat(1, 2), ones, "random")
    draw = torch.rand(4, generator=generator).tolist()
    schedule = Schedule(0.4 + 1.5 * draw[0], draw[1], draw[2], 0.3 + draw[3])
    scope = Scope.GLOBAL if seed % 2 else Scope.LAYER
    plan = EditPlan(
        scope,
        draw[0] if scope is Scope.GLOBAL else None,
        tuple((component, schedule) for component in layout.components),
        list(Normalization)[seed % 3],
    )
    return build_edits(plan, directions, layout, editor.pristine_weight, lambda writer: post_norm_gain(model, writer))


def source_of(kind: str, model: PreTrainedModel, layout: ModelLayout, folder: Path) -> PristineSource:
    if kind == "cache":
        return WeightCache.capture(model, layout)
    model.save_pretrained(folder)
    return find_originals(model, layout, sorted(folder.glob("*.safetensors")))


def cached(family: str) -> tuple[PreTrainedModel, ModelLayout, InplaceEditor, str]:
    """A model with its layout, an editor that restores from a cache, and the hash of the original weights."""
    model = build_pico(family)
    layout = find_layout(model)
    before = weights_hash(model)
    return model, layout, InplaceEditor(model, layout, WeightCache.capture(model, layout)), before


@pytest.mark.parametrize("source", ["cache", "files"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_restore_is_bit_exact_after_many_edits(family: str, dtype: torch.dtype, source: str, tmp_path: Path) -> None:
    model = build_pico(family, dtype=dtype)
    layout = find_layout(model)
    before = weights_hash(model)
    editor = InplaceEditor(model, layout, source_of(source, model, layout, tmp_path))
    edited = set()
    for seed in range(6):
        editor.apply(edits_for(editor, model, layout, seed))
        edited.add(weights_hash(model))
        if seed % 3 == 2:
            editor.restore()
            assert weights_hash(model) == before
    assert len(edited - {before}) >= 5, "the edits changed nothing, so restoring would mean nothing"
    editor.restore()
    editor.restore()
    assert weights_hash(model) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_applying_b_after_a_equals_b_alone(family: str) -> None:
    model, layout, editor, _before = cached(family)
    second = edits_for(editor, model, layout, 1)
    editor.apply(second)
    alone = weights_hash(model)
    editor.apply(edits_for(editor, model, layout, 0))
    assert weights_hash(model) != alone
    # Built while the first is applied: the original weights count, not those that are there now.
    editor.apply(edits_for(editor, model, layout, 1))
    assert weights_hash(model) == alone
    editor.apply(second[:1])
    editor.apply(second)
    assert weights_hash(model) == alone


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe"])
def test_only_the_edited_writers_change(family: str) -> None:
    model = build_pico(family)
    layout = find_layout(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    editor = InplaceEditor(model, layout, WeightCache.capture(model, layout))
    edits = edits_for(editor, model, layout, 0)[1:3]
    editor.apply(edits)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {edit.writer.tensor_name for edit in edits}


@pytest.mark.parametrize("source", ["cache", "files"])
def test_pristine_weight_is_the_original_one_whatever_is_applied(source: str, tmp_path: Path) -> None:
    for family in ("gpt2", "gpt_oss_square"):
        model = build_pico(family)
        layout = find_layout(model)
        editor = InplaceEditor(model, layout, source_of(source, model, layout, tmp_path / family))
        before = [editor.pristine_weight(writer).clone() for writer in layout.writers]
        editor.apply(edits_for(editor, model, layout, 0))
        for writer, weight in zip(layout.writers, before, strict=True):
            assert torch.equal(editor.pristine_weight(writer), weight)
            assert weight.shape[-2:] == (writer.output_size, writer.input_size)


def offset_edit(writer: ResidualWriter) -> Edit:
    zeros = torch.zeros(writer.output_size, 1)
    return Edit(writer, zeros, zeros, offset=torch.linspace(-1, 1, writer.output_size))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_oss"])
def test_an_offset_is_added_to_the_bias_and_taken_back(family: str) -> None:
    model, layout, editor, before = cached(family)
    writer = next(writer for writer in reversed(layout.writers) if writer.bias is not None)
    total = writer_bias(model, writer).clone()
    edit = offset_edit(writer)
    for _ in range(2):
        editor.apply([edit])
        torch.testing.assert_close(writer_bias(model, writer).data, (total + edit.offset).data)
    editor.restore()
    assert weights_hash(model) == before


def test_an_offset_without_a_bias_names_the_writer_and_leaves_nothing_behind() -> None:
    model, layout, editor, before = cached("mistral")
    first = edits_for(editor, model, layout, 0)[0]
    wrong = offset_edit(layout.writers[2])
    with pytest.raises(ModelError, match=f"{layout.writers[2].path} holds no bias"), applied(editor, [first, wrong]):
        pass
    assert weights_hash(model) == before


def test_an_exception_while_applied_restores() -> None:
    model, layout, editor, before = cached("llama")

    def fail_while_applied() -> None:
        with applied(editor, edits_for(editor, model, layout, 0)):
            assert weights_hash(model) != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_while_applied()
    assert weights_hash(model) == before


@pytest.mark.parametrize("family", FAMILIES)
def test_only_editable_tensors_are_cached_and_the_share_is_right(family: str) -> None:
    model = build_pico(family, dtype=torch.bfloat16)
    layout = find_layout(model)
    seen: list[Event] = []
    with subscribed(seen.append):
        cache = WeightCache.capture(model, layout)
    expected = {name for writer in layout.writers for name in editable_tensors(model, writer)}
    assert set(cache.copies) == expected
    assert expected < set(model.state_dict())
    size = sum(model.state_dict()[name].numel() * 2 for name in expected)
    total = sum(parameter.numel() * 2 for parameter in model.parameters())
    assert seen == [WeightsCached(len(expected), size, size / total, "cpu")]
    assert 0 < size / total < 0.7
    pointers = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert all(copy.data_ptr() not in pointers for copy in cache.copies.values())


def with_layers(count: int) -> PreTrainedModel:
    family = replace(PICO_FAMILIES["llama"], options={**PICO_FAMILIES["llama"].options, "num_hidden_layers": count})
    return family.build()


def test_another_layer_count_is_named() -> None:
    small, large = with_layers(2), with_layers(3)
    cache = WeightCache.capture(small, find_layout(small))
    with pytest.raises(CacheMismatchError, match="holds 2 layers and the model has 3"):
        InplaceEditor(large, find_layout(large), cache)


NAME = "model.layers.1.mlp.down_proj.weight"
WHERE = f"layer 1, component mlp, tensor {NAME}"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda copies: copies.pop(NAME), f"lacks {WHERE}"),
        (lambda copies: copies.update({NAME: copies[NAME].T}), f"does not fit {WHERE}: cached (52, 32) torch.float32"),
        (lambda copies: copies.update({NAME: copies[NAME].bfloat16()}), f"{WHERE}: cached (32, 52) torch.bfloat16"),
        (lambda copies: copies.update({NAME: copies[NAME][:, :1]}), f"{WHERE}: cached (32, 1)"),
    ],
    ids=["missing", "shape", "dtype", "broadcastable"],
)
def test_a_tensor_that_does_not_fit_is_named(change: object, expected: str) -> None:
    model = build_pico("llama")
    layout = find_layout(model)
    copies = dict(WeightCache.capture(model, layout).copies)
    change(copies)  # type: ignore[operator]  # every one of them takes the dictionary
    with pytest.raises(CacheMismatchError) as caught:
        InplaceEditor(model, layout, WeightCache(layout, copies))
    assert expected in str(caught.value)
    assert "start the run again" in str(caught.value)


def test_a_model_that_changed_under_the_editor_is_noticed_when_restoring() -> None:
    model, layout, editor, _before = cached("llama")
    editor.apply(edits_for(editor, model, layout, 0))
    model.to(torch.bfloat16)
    with pytest.raises(CacheMismatchError, match=r"torch\.bfloat16"):
        editor.restore()


def test_files_that_changed_under_the_editor_are_noticed_when_restoring(tmp_path: Path) -> None:
    model = build_pico("llama")
    layout = find_layout(model)
    editor = InplaceEditor(model, layout, source_of("files", model, layout, tmp_path))
    editor.apply(edits_for(editor, model, layout, 0))
    build_pico("llama", dtype=torch.bfloat16).save_pretrained(tmp_path)
    with pytest.raises(CacheMismatchError, match="it has changed"):
        editor.restore()
    for path in tmp_path.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(CacheMismatchError, match="no longer holds"):
        editor.restore()


def test_what_files_do_not_hold_bit_for_bit_is_copied_and_nothing_else(tmp_path: Path) -> None:
    model = build_pico("llama")
    layout = find_layout(model)
    assert isinstance(source_of("files", model, layout, tmp_path), FileSource)
    writer, *others = layout.writers
    writer_weight(model, writer).data[0, 0] += 1
    source = find_originals(model, layout, sorted(tmp_path.glob("*.safetensors")))
    assert isinstance(source, FileSource)
    assert source.otherwise is not None
    assert set(source.otherwise.copies) == {writer.tensor_name}
    assert source.places.keys() >= {other.tensor_name for other in others}
    assert writer.tensor_name not in source.places
    before = weights_hash(model)
    editor = InplaceEditor(model, layout, source)
    editor.apply(edits_for(editor, model, layout, 0))
    assert weights_hash(model) != before
    editor.restore()
    assert weights_hash(model) == before


def test_a_narrower_model_reads_its_files_as_it_was_loaded(tmp_path: Path) -> None:
    build_pico("llama").save_pretrained(tmp_path)
    model = build_pico("llama").to(torch.bfloat16)
    layout = find_layout(model)
    before = weights_hash(model)
    source = find_originals(model, layout, sorted(tmp_path.glob("*.safetensors")))
    assert isinstance(source, FileSource)
    assert source.otherwise is None
    editor = InplaceEditor(model, layout, source)
    editor.apply(edits_for(editor, model, layout, 0))
    editor.restore()
    assert weights_hash(model) == before


def test_without_files_all_is_copied() -> None:
    model = build_pico("llama")
    assert isinstance(find_originals(model, find_layout(model), []), WeightCache)


def test_edits_of_a_weight_do_not_touch_the_edit_or_the_cache() -> None:
    model = build_pico("llama")
    layout = find_layout(model)
    cache = WeightCache.capture(model, layout)
    editor = InplaceEditor(model, layout, cache)
    kept = {name: tensor.clone() for name, tensor in cache.copies.items()}
    edits = edits_for(editor, model, layout, 1)
    sides = [(edit.write.clone(), edit.read.clone()) for edit in edits]
    editor.apply(edits)
    assert all(torch.equal(cache.copies[name], tensor) for name, tensor in kept.items())
    for edit, (write, read) in zip(edits, sides, strict=True):
        assert torch.equal(edit.write, write)
        assert torch.equal(edit.read, read)
    writer = edits[0].writer
    assert not torch.equal(oriented(writer, writer_weight(model, writer).data), kept[writer.tensor_name])


def test_a_copy_that_does_not_fit_on_the_device_goes_to_host_memory() -> None:
    tensor = torch.randn(3)

    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    crowded = SimpleNamespace(device=torch.device("cuda"), clone=full, to=tensor.to)
    copied = _copy(crowded, stays=True)
    assert torch.equal(copied, tensor)
    assert copied.data_ptr() != tensor.data_ptr()


def test_where_the_host_has_no_room_either_it_is_said_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_pico("llama")
    before = weights_hash(model)

    def full(*_arguments: object, **_keywords: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")

    with monkeypatch.context() as crowded:
        crowded.setattr(torch.Tensor, "to", full)
        with pytest.raises(OutOfMemoryError, match="--cache-weights false"):
            WeightCache.capture(model, find_layout(model))
    assert weights_hash(model) == before

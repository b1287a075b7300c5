import errno

import pytest
import torch

from heretic.common.errors import ModelError
from heretic.models import devices
from heretic.models.devices import (
    check_placement,
    compute_with,
    device_count,
    empty_cache,
    free_memory,
    is_out_of_memory,
    parked,
    pick_device,
    product_time,
    synchronize,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("present", "expected"),
    [((), "cpu"), (("mps",), "mps"), (("xpu", "mps"), "xpu"), (("mps", "xpu", "cuda"), "cuda"), (("npu",), "npu")],
)
def test_auto_takes_the_best_device_there_is(monkeypatch, present, expected):
    monkeypatch.setattr(devices, "is_available", lambda kind: kind in (*present, "cpu"))
    # A device type that this build of torch does not know cannot be made into a device.
    monkeypatch.setattr(torch, "device", str)
    assert pick_device("auto") == expected


def test_a_named_device_has_to_be_there(monkeypatch):
    monkeypatch.setattr(devices, "device_count", lambda kind: {"cpu": 1, "cuda": 2}.get(kind, 0))
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cpu") == CPU
    for name in ("cuda:2", "xpu", "mps"):
        with pytest.raises(ModelError, match=f"no device {name} here; use --device auto or one of .*cpu"):
            pick_device(name)


@pytest.mark.parametrize(
    ("device_map", "max_memory"),
    [
        ("auto", None),
        ("balanced", {"0": "1GB", "1": "1GB", "cpu": "1GB", "disk": "1GB"}),
        ("cuda:1", None),
        ("cpu", None),
        ({"model": 1, "lm_head": "cpu"}, None),
    ],
)
def test_a_placement_on_devices_that_are_there(monkeypatch, device_map, max_memory):
    monkeypatch.setattr(devices, "device_count", lambda kind: {"cpu": 1, "cuda": 2}.get(kind, 0))
    check_placement(device_map, max_memory)


@pytest.mark.parametrize(
    ("device_map", "max_memory", "words"),
    [
        # The example of config.default.toml, on a machine with nothing but a CPU.
        ("auto", {"0": "20GB", "cpu": "64GB"}, "--max-memory names the device 0"),
        ("auto", {"mps": "20GB"}, "--max-memory names the device mps"),
        ("auto", {"gpu": "20GB"}, "--max-memory names the device gpu"),
        ("cuda:0", None, "--device-map names the device cuda:0"),
        ("fastest", None, "--device-map names the device fastest"),
        ({"model": 0, "lm_head": "cpu"}, None, "--device-map names the device 0"),
    ],
)
def test_a_placement_on_devices_that_are_not_there(monkeypatch, device_map, max_memory, words):
    monkeypatch.setattr(devices, "device_count", lambda kind: {"cpu": 1}.get(kind, 0))
    monkeypatch.setattr(devices, "is_available", lambda kind: kind == "cpu")
    with pytest.raises(ModelError, match=f"{words}, .* finds cpu"):
        check_placement(device_map, max_memory)


def test_this_machine():
    assert device_count("cpu") == 1
    assert device_count("cuda") == torch.cuda.device_count()
    empty_cache(CPU)
    synchronize(CPU)
    assert 0 < free_memory(CPU) < 2**50


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(errno.ENOENT, "out of memory"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_real_allocation_that_fails_counts_as_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_product_is_timed_against_one_in_float32(monkeypatch):
    clock = [0.0]

    def linear(inputs, _weight):
        clock[0] += 3.0 if inputs.dtype == torch.bfloat16 else 1.5

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    monkeypatch.setattr(devices.time, "perf_counter", lambda: clock[0])
    assert product_time(torch.bfloat16) == 2.0


@pytest.mark.parametrize(("asked_for", "expected"), [(0, 1), (3, 3)])
def test_threads_of_the_cpu(asked_for, expected):
    compute_with(asked_for)
    try:
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(1)


class Held:
    """A weight on a device that need not be there; remembers where it was sent."""

    def __init__(self, device):
        self.device, self.data, self.places = torch.device(device), self, []

    def to(self, device):
        self.places.append(str(device))
        return self


class Holds:
    """As much of a model as making room on its devices needs."""

    def __init__(self, *devices, **attributes):
        self.held = [Held(device) for device in devices]
        vars(self).update(attributes)

    def parameters(self):
        return self.held[:1]

    def buffers(self):
        return self.held[1:]


def test_a_model_makes_room_on_its_devices_and_comes_back(monkeypatch):
    """Also one that is spread over several; what is on the disk (meta) stays there."""
    emptied = []
    monkeypatch.setattr(devices, "empty_cache", lambda device: emptied.append(str(device)))
    model = Holds("cuda:0", "cuda:1", "meta", "cpu", hf_device_map={"embed": 0, "layers": 1})
    with parked(model, torch.device("cuda", 0)):
        assert [held.places for held in model.held] == [["cpu"], ["cpu"], [], ["cpu"]]
        assert {"cuda:0", "cuda:1"} <= set(emptied)
    assert [held.places for held in model.held] == [["cpu", "cuda:0"], ["cpu", "cuda:1"], [], ["cpu", "cpu"]]


@pytest.mark.parametrize(("device", "attributes"), [("cpu", {}), ("cuda", {"is_quantized": True})])
def test_what_is_on_the_host_or_cannot_move_stays(device, attributes):
    model = Holds("cuda:0", "cuda:0", **attributes)
    with parked(model, torch.device(device)):
        pass
    assert [held.places for held in model.held] == [[], []]


def test_weights_that_made_room_are_the_same_tensors_with_the_same_numbers():
    model = torch.nn.Linear(2, 3)
    weight, numbers = model.weight, model.weight.detach().clone()
    # The first device only says that there is one to make room on.
    with parked(model, torch.device("cuda", 0)):
        assert model.weight.device.type == "cpu"
    assert model.weight is weight
    assert torch.equal(weight, numbers)

"""What fits on which GPUs and processors, and what is said where it does not."""

from collections.abc import Callable

import pytest
import torch

from heretic.common.errors import ConfigurationError
from heretic.config import Settings
from heretic.observability.events import Event, Warned, subscribed
from heretic.workers import cluster, placement
from heretic.workers.cluster import check_resources
from heretic.workers.placement import ALONE, Placement, Room, of_lead, on_cluster, on_cpus, on_gpus, read_gpus

GB = 10**9


@pytest.mark.parametrize(
    ("wanted", "need", "sizes", "expected"),
    [
        (None, 8, [24] * 4, Placement(4, 1.0)),
        (2, 8, [24] * 4, Placement(2, 1.0)),
        # Two fit on each.
        (8, 10, [24] * 4, Placement(8, 0.5)),
        (5, 10, [24] * 4, Placement(5, 0.5)),
        (3, 7, [24], Placement(3, 0.3333)),
        # One takes several.
        (None, 64, [24] * 4, Placement(1, 3.0)),
        (None, 40, [24] * 4, Placement(2, 2.0)),
        (None, 40, [80, 48], Placement(2, 1.0)),
    ],
)
def test_workers_on_gpus(wanted: int | None, need: int, sizes: list[int], expected: Placement) -> None:
    assert on_gpus(wanted, need * GB, [size * GB for size in sizes]) == expected


@pytest.mark.parametrize(
    ("wanted", "need", "sizes", "said"),
    [
        (2, 64, [24] * 4, "2 workers of about 64.0 GB each .* 4 x 24.0 GB .* one worker of 3 GPUs; use --workers 1"),
        (9, 10, [24] * 4, "room for up to 8 workers, 2 on each; use --workers 8"),
        (None, 100, [24] * 4, "A worker takes about 100.0 GB, for which 4 x 24.0 GB .* have no room"),
    ],
)
def test_what_does_not_fit_on_gpus_is_a_sentence(wanted: int | None, need: int, sizes: list[int], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        on_gpus(wanted, need * GB, [size * GB for size in sizes])


def test_shares_of_one_gpu_add_up_to_no_more_than_it() -> None:
    for count in range(1, 40):
        assert count * on_gpus(count, GB, [80 * GB]).gpus <= 1.0


@pytest.mark.parametrize(
    ("wanted", "cores", "free", "expected"),
    [
        (None, 16, 100, Placement(4, 0.0, 4)),
        (None, 2, 100, Placement(1, 0.0, 2)),
        (3, 2, 100, Placement(3, 0.0, 1)),
        # The lead has a model as well: of 24 GB it and one worker have 20.
        (None, 64, 24, Placement(1, 0.0, 64)),
    ],
)
def test_workers_on_processors(wanted: int | None, cores: int, free: int, expected: Placement) -> None:
    assert on_cpus(wanted, 10 * GB, cores, free * GB) == expected


def test_what_does_not_fit_in_memory_is_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"3 workers .* 10.0 GB, .* 40.0 GB are free; use --workers 2"):
        on_cpus(3, 10 * GB, 8, 40 * GB)


def test_a_cluster_gives_every_gpu_that_it_has() -> None:
    assert on_cluster(None, 8 * GB, [24 * GB], "auto", 64, 16) == Placement(16, 1.0, 0, "auto")
    assert on_cluster(None, 64 * GB, [24 * GB], "auto", 64, 16) == Placement(5, 3.0, 0, "auto")
    assert on_cluster(None, GB, [], "auto", 64, 0) == Placement(16, 0.0, 4, "auto")
    assert not on_cluster(1, GB, [], "auto", 2, 0).is_alone


def test_what_a_cluster_would_wait_for_for_ever_is_refused() -> None:
    resources = {"CPU": 8.0, "GPU": 4.0}
    check_resources(resources, Placement(4, 1.0))
    check_resources(resources, Placement(8, 0.5))
    with pytest.raises(ConfigurationError, match=r"5 workers of 1 core and 1 GPUs each .* 4 GPUs; use --workers 4"):
        check_resources(resources, Placement(5, 1.0))
    with pytest.raises(ConfigurationError, match=r"3 workers of 4 cores each .* 8 cores .* use --workers 2"):
        check_resources({"CPU": 8.0}, Placement(3, 0.0, 4))


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("4x24GB", [24 * GB] * 4),
        ("80GB, 48gb", [80 * GB, 48 * GB]),
        ("2 x 1.5GiB", [1_610_612_736] * 2),
        ("2xh100,24GB", [80 * GB] * 2 + [24 * GB]),
    ],
)
def test_gpus_are_named_with_their_memory_or_kind(text: str, sizes: list[int]) -> None:
    assert [device.memory for device in read_gpus(text)] == sizes


@pytest.mark.parametrize("text", ["", "4", "24", "x24GB", "4x24", "0x24GB", "4x24GB;", "2xH10"])
def test_what_names_no_gpus_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="4x24GB"):
        read_gpus(text)


@pytest.mark.parametrize(
    ("need", "sizes", "said"),
    [
        (64, [24] * 4, "one worker of 3 GPUs"),
        (40, [24] * 4, "2 workers of 2 GPUs"),
        (10, [24] * 4, "up to 8 workers, 2 on each"),
        (20, [24], "up to 1 worker, 1 on each"),
        (90, [24] * 4, "none: a worker takes 5 of them"),
    ],
)
def test_room_is_said_in_words(need: int, sizes: list[int], said: str) -> None:
    assert str(Room.on(need * GB, [size * GB for size in sizes])) == said


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with these GPUs, on which a worker takes so much; in GB."""

    def have(need: float, *gpus: float) -> None:
        monkeypatch.setattr(placement, "gpu_sizes", lambda _settings: [int(size * GB) for size in gpus])
        for module in (placement, cluster):
            monkeypatch.setattr(module, "need_of", lambda _settings: int(need * GB))
        monkeypatch.setattr(cluster, "free_host_memory", lambda: 1000 * GB)
        monkeypatch.setattr("heretic.models.devices.pick_device", lambda _name: torch.device("cuda"))

    return have


def test_without_workers_nothing_is_looked_at() -> None:
    assert cluster.place(Settings(model="no such model")).is_alone


def test_a_run_that_leads_is_on_one_gpu_and_gives_each_worker_one(machine: Callable[..., None]) -> None:
    machine(8, 24, 24, 24, 24)
    settings = Settings(model="any", workers="auto")
    found = cluster.place(settings)
    assert found == Placement(4, 1.0)
    assert of_lead(settings, found).device == "cuda:0"
    assert of_lead(settings.model_copy(update={"device": "cuda:2"}), found).device == "cuda:2"
    assert of_lead(settings, ALONE) == settings
    assert of_lead(settings, Placement(2, 0.0, 4)) == settings


def test_quantised_weights_of_the_run_stay_on_its_gpu(machine: Callable[..., None]) -> None:
    machine(10, 24, 24)
    assert cluster.place(Settings(model="any", workers=4)) == Placement(4, 0.5)
    with pytest.raises(ConfigurationError, match="use --workers 2"):
        cluster.place(Settings(model="any", workers=4, quantization="bnb_4bit"))


def test_workers_that_each_take_several_gpus_spread_the_model_as_the_run_does(machine: Callable[..., None]) -> None:
    machine(40, *[24] * 8)
    settings = Settings(model="any", workers="auto")
    found = cluster.place(settings)
    assert found == Placement(4, 2.0)
    assert cluster.place(settings.model_copy(update={"workers": 3})) == Placement(3, 2.0)
    assert cluster.place(settings.model_copy(update={"workers": 1})).is_alone
    # Those of a worker, which sees no others, have the same numbers.
    lead = of_lead(settings, found)
    assert (lead.device, lead.max_memory) == ("auto", {"0": "21600MB", "1": "21600MB"})
    own = settings.model_copy(update={"max_memory": {"0": "20GB", "1": "10GB"}})
    assert of_lead(own, found) == own


@pytest.mark.parametrize(
    ("changes", "free", "said"),
    [
        ({"quantization": "bnb_4bit"}, 1000, "quantised weights"),
        ({}, 44, "about 40.0 GB are needed and 44.0 GB are free"),
    ],
)
def test_where_the_run_s_model_cannot_leave_the_gpus_it_measures_alone(
    changes: dict[str, str], free: int, said: str, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(40, *[24] * 8)
    monkeypatch.setattr(cluster, "free_host_memory", lambda: free * GB)
    seen: list[Event] = []
    settings = Settings(model="any", workers="auto").model_copy(update=changes)
    with subscribed(seen.append):
        assert cluster.place(settings).is_alone
    (warned,) = seen
    assert isinstance(warned, Warned)
    assert said in warned.message
    with pytest.raises(ConfigurationError, match="several runs with --join"):
        cluster.place(settings.model_copy(update={"workers": 2}))

"""What fits on which GPUs and processors, and what is said where it does not."""

import pytest

from heretic.common.errors import ConfigurationError
from heretic.workers.cluster import check_resources
from heretic.workers.placement import Placement, Room, on_cluster, on_cpus, on_gpus, read_sizes

GB = 10**9


@pytest.mark.parametrize(
    ("wanted", "need", "sizes", "placement"),
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
def test_workers_on_gpus(wanted: int | None, need: int, sizes: list[int], placement: Placement) -> None:
    assert on_gpus(wanted, need * GB, [size * GB for size in sizes]) == placement


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
        placement = on_gpus(count, GB, [80 * GB])
        assert count * placement.gpus <= 1.0


@pytest.mark.parametrize(
    ("wanted", "cores", "free", "placement"),
    [
        (None, 16, 100, Placement(4, 0.0, 4)),
        (None, 2, 100, Placement(1, 0.0, 2)),
        (3, 2, 100, Placement(3, 0.0, 1)),
        # The lead has a model as well: of 24 GB it and one worker have 20.
        (None, 64, 24, Placement(1, 0.0, 64)),
    ],
)
def test_workers_on_processors(wanted: int | None, cores: int, free: int, placement: Placement) -> None:
    assert on_cpus(wanted, 10 * GB, cores, free * GB) == placement


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
    [("4x24GB", [24 * GB] * 4), ("80GB, 48gb", [80 * GB, 48 * GB]), ("2 x 1.5GiB", [1_610_612_736] * 2)],
)
def test_gpus_are_named_with_their_memory(text: str, sizes: list[int]) -> None:
    assert read_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", "4", "24", "x24GB", "4x24", "0x24GB", "4x24GB;"])
def test_what_names_no_gpus_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="4x24GB"):
        read_sizes(text)


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

"""The last layer is computed only where it is read, and reads the same there."""

import pytest
import torch
from tests.models.pico import CONV1D, PICO_FAMILIES, pico_names
from tests.unit.passes.pico_runner import make_runner

from heretic.models.last_layer import position_wise_parts, read_index
from heretic.passes.ragged import RaggedForward, ragged_obstacle

TOKENS = ((5, 9, 11, 7), (8, 6, 5), (13, 4, 9, 9))


def test_rows_that_read_fewer_positions_are_filled_up() -> None:
    index = read_index([(1, 3), (2,), ()], 5)
    assert index is not None
    assert index.tolist() == [[1, 3], [2, 2], [0, 0]]
    assert read_index([(0, 1), (1,)], 2) is None
    assert read_index([(), ()], 3) is not None


@pytest.mark.parametrize("wanted", [[(3,), (2,), (3,)], [(0, 3), (), (1, 2, 3)], [range(4), range(3), range(4)]])
@pytest.mark.parametrize("family", pico_names())
def test_predictions_and_what_is_read_later_are_those_of_a_whole_pass(family: str, wanted: list[list[int]]) -> None:
    runner = make_runner(family)
    obstacle = ragged_obstacle(runner.loaded)
    if obstacle is not None:
        pytest.skip(obstacle)
    forward = RaggedForward(runner.loaded, runner.layout)
    parts = position_wise_parts(runner.loaded.model, runner.layout)
    assert parts
    seen: list[int] = []
    # Inside the modules, where what is left out has to be missing.
    inner = [child for part in parts for child in part.modules() if isinstance(child, torch.nn.Linear)]
    handles = [
        module.register_forward_hook(lambda _m, own, _output: seen.append(own[0].numel() // own[0].shape[-1]))
        for module in inner
    ]
    state = forward.start((), [0] * len(TOKENS))
    found = state.feed(TOKENS, wanted)
    for handle in handles:
        handle.remove()
    read = len(TOKENS) * max(map(len, wanted))
    if inner and CONV1D not in PICO_FAMILIES[family].traits:
        assert min(seen) <= read
    forward._last_parts = []
    whole = forward.start((), [0] * len(TOKENS))
    expected = whole.feed(TOKENS, wanted)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Reading goes on behind it: keys and values are whole.
    torch.testing.assert_close(state.feed([[7]] * 3, [[0]] * 3), whole.feed([[7]] * 3, [[0]] * 3), rtol=1e-4, atol=1e-5)

from collections.abc import Iterator

import pytest
from tests.unit.interface.terminal import Terminal, pretended_terminal


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    with pretended_terminal(monkeypatch) as pretended:
        yield pretended

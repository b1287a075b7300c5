"""Wrong: of a hub that answers 429 or 503 "check the network", or "check its name", which are all right.

Right: it is waited for as it asks, and then told as what it is. The kind: tests/unit/observability/test_hub_client.py.
"""

import pytest
from tests.cases.conftest import Run
from tests.cases.hub import answering, asking


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("what", ["model", "prompts"])
def test_a_busy_hub_is_told_as_busy(run: Run, status: int, what: str) -> None:
    with answering(status) as endpoint:
        if what == "model":
            result = run(model="someone/some-model", before=asking(endpoint))
        else:
            result = run("--good-prompts", "someone/some-prompts", before=asking(endpoint))
    assert result.code == 2
    assert result.errors.count("Error: ") == 1
    for words in ("too busy for someone/some-", str(status), "the network is fine"):
        assert words in result.errors
    assert (result.output + result.errors).count("asked again") == 3

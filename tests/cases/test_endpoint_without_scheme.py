"""Wrong: a mirror's address without https:// ends as a mistake in Heretic. Right: a sentence that names HF_ENDPOINT.

The kind: tests/unit/observability/test_hub_client.py.
"""

import pytest
from tests.cases.conftest import Run
from tests.cases.hub import asking


@pytest.mark.parametrize(
    ("model", "more"), [("owner/model", ()), ("demo", ("--good-prompts", "owner/prompts"))], ids=["model", "prompts"]
)
@pytest.mark.parametrize("endpoint", ["hub.example", "http://hub.example:port"])
def test_an_address_that_is_none(run: Run, model: str, more: tuple[str, ...], endpoint: str) -> None:
    run(*more, model=model, before=asking(endpoint)).assert_one_sentence("HF_ENDPOINT", "owner/")

"""Wrong: a SOCKS proxy without its package ends as a mistake in Heretic. Right: a sentence with package and variable.

The kind: tests/unit/observability/test_hub_client.py.
"""

import pytest
from tests.cases.conftest import Run
from tests.cases.hub import asking

MISSING = "import sys\nsys.modules['socksio'] = None\n"


@pytest.mark.parametrize(
    ("model", "more"), [("owner/model", ()), ("demo", ("--good-prompts", "owner/prompts"))], ids=["model", "prompts"]
)
def test_a_socks_proxy(run: Run, model: str, more: tuple[str, ...]) -> None:
    before = MISSING + asking("http://hub.example", ALL_PROXY="socks5://127.0.0.1:9")
    run(*more, model=model, before=before).assert_one_sentence("owner/", "pip install socksio", "ALL_PROXY")

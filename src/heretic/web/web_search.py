"""Web search for a message: what DuckDuckGo finds, as links for the person and quoted text for the model.

Switched off until a person switches it on: the message then leaves this machine.
"""

import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from heretic.common.errors import first_line
from heretic.web.conversation import Source
from heretic.web.errors import SearchError

ENGINE, ENGINE_SHOWN = "duckduckgo", "DuckDuckGo"
REGION_VARIABLE = "DDGS_REGION"
ANYWHERE = "wt-wt"
"""The region of those who name none."""
MOST_RESULTS = 5
LONGEST_QUERY = 400
"""Characters of the message that are sent."""
WAITS = (1.0, 2.0, 4.0)
"""Seconds before a search that was refused or timed out is tried again."""
_TIMEOUT = 10
_LONGEST_TEXT, _LONGEST_ADDRESS = 500, 2000


def search(question: str, waits: Sequence[float] = WAITS) -> tuple[Source, ...]:
    """What is found for a message, the best first.

    Args:
        question: The message; its beginning is sent.
        waits: Seconds before each further attempt, where the engine is busy or does not answer.

    Raises:
        SearchError: The search cannot be made, or finds nothing.
    """
    try:
        from ddgs import DDGS
        from ddgs.exceptions import DDGSException, RatelimitException, TimeoutException
    except ImportError as error:
        raise SearchError(
            "The web was not searched, because ddgs is not installed; run: pip install 'heretic[web]'"
        ) from error
    query = " ".join(question.split())[:LONGEST_QUERY]
    region = os.environ.get(REGION_VARIABLE, "").strip() or ANYWHERE
    found: list[dict[str, Any]] = []
    for wait in (*waits, None):
        try:
            found = DDGS(timeout=_TIMEOUT).text(query, region=region, max_results=MOST_RESULTS, backend=ENGINE)
            break
        except (RatelimitException, TimeoutException) as error:
            if wait is None:
                raise SearchError(
                    f"The web search is busy or does not answer ({first_line(error)}); the model answers without it."
                ) from error
            time.sleep(wait)
        except DDGSException as error:
            # Its engines also find nothing where they are asked too often.
            raise SearchError(
                f"The web search brought nothing ({first_line(error)}); the model answers without it."
            ) from error
    sources = tuple(filter(None, map(_source, found[:MOST_RESULTS])))
    if not sources:
        raise SearchError("The web search brought nothing that can be shown; the model answers without it.")
    return sources


def _source(result: dict[str, Any]) -> Source | None:
    """A result as a link; None where its address is none of a web page."""
    address = str(result.get("href") or "")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc or len(address) > _LONGEST_ADDRESS:
        return None
    title = " ".join(str(result.get("title") or parts.netloc).split())
    return Source(title[:_LONGEST_TEXT], address, " ".join(str(result.get("body") or "").split())[:_LONGEST_TEXT])

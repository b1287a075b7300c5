"""The hub client's own exceptions, as its server's answers cause them."""

from types import SimpleNamespace
from typing import Any

from huggingface_hub.errors import HfHubHTTPError


def hub_error(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    """An exception of this class; the answer is a stand-in, as the client's HTTP library may change."""
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("refused", response=response)

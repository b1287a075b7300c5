"""Settings, and where they come from; names are loaded on first use so that ``heretic --help`` stays fast."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heretic.config.load import LoadedSettings as LoadedSettings
    from heretic.config.load import load_settings as load_settings
    from heretic.config.sections import PromptSpecification as PromptSpecification
    from heretic.config.settings import Settings as Settings

_HOMES = {
    "LoadedSettings": "heretic.config.load",
    "load_settings": "heretic.config.load",
    "PromptSpecification": "heretic.config.sections",
    "Settings": "heretic.config.settings",
}
__all__ = ["LoadedSettings", "PromptSpecification", "Settings", "load_settings"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""What a stored study is compared by before it is continued. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Aspects = Mapping[str, Mapping[str, Any]]
"""By aspect (model, way of measuring, ...) what distinguishes it, as plain JSON; what is as usual is left out."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a study measures, and how.

    Attributes:
        aspects: What is stored.
        texts: The same as version 0.1.0 stored it, see `run.identity_0_1`.
        newer: Aspects in which something is unusual that version 0.1.0 did not know, so that its texts do not say it.
    """

    aspects: Aspects
    texts: Mapping[str, str] = field(default_factory=dict)
    newer: tuple[str, ...] = ()

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Aspects in which a stored identity, in today's form or in that of version 0.1.0, is another one."""
        if not any(isinstance(value, str) for value in stored.values()):
            names = dict.fromkeys((*stored, *self.aspects))
            return [name for name in names if stored.get(name, {}) != self.aspects.get(name, {})]
        names = dict.fromkeys((*stored, *self.texts, *self.newer))
        return [name for name in names if name in self.newer or stored.get(name) != self.texts.get(name)]

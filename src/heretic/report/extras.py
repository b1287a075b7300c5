"""What only a run knows and a later report of the same folder needs: answers and the directions' quality."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from heretic.results.held_out import Example

EXTRAS_NAME = "kept.json"


@dataclass(frozen=True, slots=True)
class Extras:
    """What a report was given besides manifest and study.

    Attributes:
        examples: Answers of both models.
        quality: Of the directions by residual position, or None.
    """

    examples: tuple[Example, ...] = ()
    quality: tuple[float, ...] | None = None


def extras_text(created: str, examples: Sequence[Example], quality: Sequence[float]) -> str:
    """The file's text.

    Args:
        created: When the model was saved, as its manifest says: a report of another one does without this.
        examples: Answers of both models, secrets masked.
        quality: Of the directions, empty where it is not known.
    """
    content = {"created": created, "examples": [asdict(example) for example in examples], "quality": list(quality)}
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


def read_extras(file: Path, created: object) -> Extras:
    """What an earlier report of the same saved model kept; nothing where there is none, or it cannot be read."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["created"] != created:
            return Extras()
        examples = tuple(
            Example(**{name: str(text) for name, text in example.items()}) for example in content["examples"]
        )
        return Extras(examples, tuple(map(float, content["quality"])) or None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # It is an extra: the report says that there are no answers.
        return Extras()

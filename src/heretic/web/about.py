"""What the page says of a model whose behaviour is a bundled one: what was edited, and messages that show it."""

from dataclasses import dataclass

from heretic.prompts.packs import Pack, bundled_behaviors, read_pack
from heretic.prompts.text_files import BUNDLED_PREFIX, read_bundled
from heretic.web import markup

_CALLING, _OTHERS = 3, 2
_GOALS = {"remove": "This edit is meant to remove it.", "strengthen": "This edit is meant to strengthen it."}
MOST = _CALLING + _OTHERS
"""Messages."""


@dataclass(frozen=True, slots=True)
class About:
    """What was edited and how to see it.

    Attributes:
        html: Sentences; empty where nothing is known.
        messages: Some that call for the behaviour, then some that do not; none where the pack's are elsewhere.
    """

    html: str = ""
    messages: tuple[str, ...] = ()


def about(behavior: str, goal: str | None, compares: bool) -> About:
    """What to say of a model.

    Args:
        behavior: Names of packs, as a manifest joins them; what is no bundled pack is passed over, since a manifest
            may name anything.
        goal: Of the edit, as in the settings; None of a model that is not edited.
        compares: Whether the original answers beside it.
    """
    bundled = bundled_behaviors()
    packs = [read_pack(bundled[name]) for name in behavior.split(",") if name in bundled]
    messages = _messages(packs[0]) if packs else ()
    sentences = [pack.description if goal is None else pack.card for pack in packs]
    if len(packs) == 1 and goal in _GOALS:
        sentences.append(_GOALS[goal])
    if messages:
        sentences.append(f"Press a message: the first {_CALLING} call for that behaviour, the last {_OTHERS} do not.")
    if compares:
        sentences.append(
            "On the left the original answers, on the right the edited model; at strength 0 both are alike."
        )
    return About(markup.notice(" ".join(sentences)), messages)


def _messages(pack: Pack) -> tuple[str, ...]:
    """Those of evaluation: held-out prompts are nobody's before the confirmation."""
    texts: list[str] = []
    for role, count in (("bad_evaluation_prompts", _CALLING), ("good_evaluation_prompts", _OTHERS)):
        where = pack.prompts[role]
        if not where.dataset.startswith(BUNDLED_PREFIX):
            return ()
        texts += read_bundled(where.dataset, where.split or "")[:count]
    return tuple(texts)

"""What a confirmation found as rows of a table; console, card and report show the same. Pure."""

from collections.abc import Sequence

from heretic.results.held_out import AtLength, Estimate, HeldOut, HeldOutBehavior
from heretic.results.score import REFUSALS, WITHOUT_REFUSAL, Score, Scores

HEADER = ("Measure", "Base model", "Edited model", "Prompts", "Edited model, in the search")
NOT_MEASURED = "-"
KL_TITLE = "KL divergence"


def table(held_out: HeldOut) -> list[tuple[str, str, str, str]]:
    """One row a measure: what, the unedited model's, the edited model's with its interval, and on how many prompts."""
    rows = [row for behavior in held_out.behaviors for row in _behavior_rows(behavior, held_out.tokens)]
    return rows + [row for score in held_out.kl for row in _divergence_rows(score)]


def origin(held_out: HeldOut) -> str:
    """What the prompts are, to stand behind "on prompts"."""
    if not held_out.used_before:
        return "that neither the directions nor the search had seen"
    return f"of which {held_out.used_before} had been seen before, which confirm nothing"


def sections(held_out: HeldOut, searched: Scores | None) -> list[tuple[str, list[tuple[str, ...]]]]:
    """A title and rows as in HEADER for every behaviour, and for KL.

    The search's values stand beside what was measured alike on held-out prompts; what the search alone measured has
    rows of its own.

    Args:
        held_out: What was confirmed.
        searched: The edited model's scores on the search's prompts, behaviours in the same order.
    """
    scores = [*(() if searched is None else searched.behaviors), *[None] * len(held_out.behaviors)]
    result = [
        (behavior.behavior, _beside(_behavior_rows(behavior, held_out.tokens), [] if own is None else [own]))
        for behavior, own in zip(held_out.behaviors, scores, strict=False)
    ]
    kl = [] if searched is None else [searched.kl]
    rows: list[tuple[str, ...]] = []
    for score in held_out.kl:
        same = [own for own in kl if own.divergence.is_first == score.divergence.is_first]
        rows += _beside(_divergence_rows(score), same)
        kl = [own for own in kl if own not in same]
    return [*result, (KL_TITLE, rows + _beside([], kl))]


def _beside(rows: Sequence[tuple[str, ...]], searched: Sequence[Score]) -> list[tuple[str, ...]]:
    known = {name: value for score in searched for name, value in _search_values(score)}
    nothing = (NOT_MEASURED,) * 3
    names = {row[0] for row in rows}
    alone = [(name, *nothing, value) for name, value in known.items() if name not in names]
    return alone + [(*row, known.get(row[0], NOT_MEASURED)) for row in rows]


def _search_values(score: Score) -> list[tuple[str, str]]:
    """Name of the held-out row that measures the same, and the value."""
    if not score.is_divergence:
        return [(_length_label(score.label, score.answers.tokens or 0), score.amount())]
    return [(row[0], row[2]) for row in _divergence_rows(score)]


def divergence_place(score: Score) -> str:
    """Which tokens a divergence is of."""
    if score.divergence.is_first:
        return "first token"
    # Folders of earlier versions do not tell how many.
    tokens = score.divergence.tokens
    return "over answers" if tokens is None else f"over the first {tokens} tokens"


def _divergence_rows(score: Score) -> list[tuple[str, str, str, str]]:
    percentile, agreement = score.divergence.p95, score.divergence.top1_agreement
    n = str(score.n)
    return [
        (f"KL in nats, {divergence_place(score)}", "0", score.amount(), n),
        ("  its 95th percentile", "0", NOT_MEASURED if percentile is None else f"{percentile:.4f}", n),
        ("  same most likely token", "100.0 %", NOT_MEASURED if agreement is None else f"{100 * agreement:.1f} %", n),
    ]


def _length_label(label: str, tokens: int) -> str:
    return f"{label} at {tokens} tokens"


def _behavior_rows(behavior: HeldOutBehavior, tokens: int) -> list[tuple[str, str, str, str]]:
    n, base, edited = behavior.n, behavior.base, behavior.edited
    rows = [
        (_length_label(behavior.label, at.tokens), number(behavior, at.base), with_interval(behavior, at), str(n))
        for at in behavior.at
    ]
    return [
        *rows,
        *_change_rows(behavior),
        ("words of an answer", f"{base.words:.1f}", f"{edited.words:.1f}", str(n)),
        (f"cut at {tokens} tokens", f"{base.cut}/{n}", f"{edited.cut}/{n}", str(n)),
        *_refusal_rows(behavior),
        ("degenerate answers", _kinds(behavior, False), _kinds(behavior, True), str(n)),
        ("perplexity (unedited model)", f"{base.perplexity:.2f}", f"{edited.perplexity:.2f}", str(n)),
    ]


def _change_rows(behavior: HeldOutBehavior) -> list[tuple[str, str, str, str]]:
    """What became of the same prompts' answers."""
    change = behavior.change
    if change is None:
        return []
    digits = 2 if behavior.unit else 0
    if change.low == change.high:
        return []
    interval = f"(95 %: {change.low:+.{digits or 1}f} to {change.high:+.{digits or 1}f})"
    return [("  change, in pairs", "", f"{change.value:+.{digits}f} {interval}", str(behavior.n))]


def _refusal_rows(behavior: HeldOutBehavior) -> list[tuple[str, str, str, str]]:
    """Refusals where another behaviour is measured."""
    n, base, edited = behavior.n, behavior.base.refusing, behavior.edited.refusing
    if behavior.name in (REFUSALS, WITHOUT_REFUSAL) or base is None or edited is None:
        return []
    return [("answers that refuse", f"{base}/{n}", f"{edited}/{n}", str(n))]


def amounts_text(held_out: HeldOut) -> str:
    """The edited model's amounts at full length and its divergence over answers, in a few words."""
    amounts = [number(own, own.at[-1].edited) for own in held_out.behaviors]
    kl = [f"KL {score.amount()}" for score in held_out.kl if not score.divergence.is_first]
    return ", ".join([*amounts, *kl])


def number(behavior: HeldOutBehavior, estimate: Estimate) -> str:
    """An amount without its interval: ``3/40``, ``32.1``."""
    return f"{estimate.value:.2f}" if behavior.unit else f"{estimate.value:.0f}/{behavior.n}"


def with_interval(behavior: HeldOutBehavior, at: AtLength) -> str:
    """The edited model's amount with its 95 % interval."""
    edited = at.edited
    if edited.low == edited.high:
        # Equal amounts, none at all say: their spread is unknown, not zero.
        return number(behavior, edited)
    digits = 2 if behavior.unit else 1
    return f"{number(behavior, edited)} (95 %: {edited.low:.{digits}f} to {edited.high:.{digits}f})"


def _kinds(behavior: HeldOutBehavior, of_edited: bool) -> str:
    answers = behavior.edited if of_edited else behavior.base
    found = {"empty": answers.empty, "looping": answers.looping, "other script": answers.other_script}
    kinds = [(kind, count) for kind, count in found.items() if count]
    if len(kinds) > 1:
        return f"{answers.degenerate}/{behavior.n} ({', '.join(f'{count} {kind}' for kind, count in kinds)})"
    return f"{answers.degenerate}/{behavior.n}{''.join(f', {kind}' for kind, _count in kinds)}"

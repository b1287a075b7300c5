"""What a confirmation found as rows of a table; console, card and report show the same. Pure."""

from heretic.held_out import AtLength, Estimate, HeldOut, HeldOutBehavior
from heretic.score import REFUSALS, WITHOUT_REFUSAL, Score, Scores

HEADER = ("Measure", "Base model", "Edited model", "Prompts")
HEADER_WITH_SEARCH = (*HEADER, "In the search")


def table(held_out: HeldOut) -> list[tuple[str, str, str, str]]:
    """One row a measure: what, the unedited model's, the edited model's with its interval, and on how many prompts."""
    rows = []
    for behavior in held_out.behaviors:
        rows += _behavior_rows(behavior, held_out.tokens)
    for score in held_out.kl:
        rows.append((_divergence_label(score), "0", f"{score.value:.4f}", str(score.n)))
        rows.append(("  its 95th percentile", "0", f"{score.details['p95']:.4f}", str(score.n)))
        agreement = f"{100 * score.details['top1_agreement']:.1f} %"
        rows.append(("  same most likely token", "100.0 %", agreement, str(score.n)))
    return rows


def table_with_search(held_out: HeldOut, searched: Scores) -> list[tuple[str, ...]]:
    """The same with what the edited model scored on the search's prompts, where that was measured just so."""
    known: dict[str, str] = {}
    for score in searched:
        if score.is_divergence:
            known[_divergence_label(score)] = f"{score.value:.4f} on {score.n}"
        else:
            value = f"{score.value:.2f} on {score.n}" if score.unit else f"{score.value:.0f}/{score.n}"
            known[_length_label(score.label, score.details.get("tokens", 0))] = value
    return [(*row, known.get(row[0], "")) for row in table(held_out)]


def _divergence_label(score: Score) -> str:
    return f"KL in nats, {'first token' if score.details.get('mode') == 'first' else 'over answers'}"


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
        ("words of an answer", f"{base.words:.1f}", f"{edited.words:.1f}", str(n)),
        (f"cut at {tokens} tokens", f"{base.cut}/{n}", f"{edited.cut}/{n}", str(n)),
        *_refusal_rows(behavior),
        ("degenerate answers", _kinds(behavior, False), _kinds(behavior, True), str(n)),
        ("perplexity (unedited model)", f"{base.perplexity:.2f}", f"{edited.perplexity:.2f}", str(n)),
    ]


def _refusal_rows(behavior: HeldOutBehavior) -> list[tuple[str, str, str, str]]:
    """Refusals where another behaviour is measured."""
    n, base, edited = behavior.n, behavior.base.refusing, behavior.edited.refusing
    if behavior.name in (REFUSALS, WITHOUT_REFUSAL) or base is None or edited is None:
        return []
    return [("answers that refuse", f"{base}/{n}", f"{edited}/{n}", str(n))]


def number(behavior: HeldOutBehavior, estimate: Estimate) -> str:
    """An amount without its interval: ``3/40``, ``32.1``."""
    return f"{estimate.value:.2f}" if behavior.unit else f"{estimate.value:.0f}/{behavior.n}"


def with_interval(behavior: HeldOutBehavior, at: AtLength) -> str:
    """The edited model's amount with its 95 % interval."""
    edited = at.edited
    digits = 2 if behavior.unit else 1
    return f"{number(behavior, edited)} (95 %: {edited.low:.{digits}f} to {edited.high:.{digits}f})"


def _kinds(behavior: HeldOutBehavior, of_edited: bool) -> str:
    answers = behavior.edited if of_edited else behavior.base
    if answers.degenerate == 0:
        return f"0/{behavior.n}"
    return f"{answers.degenerate}/{behavior.n} ({answers.empty}, {answers.looping}, {answers.other_script})"

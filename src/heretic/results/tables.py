"""Every table of results, once, as cells of text: console, card, report, status and picker lay them out. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from heretic.results.capability import OVERALL, Benchmark, Capability, PairedAnswers, Questions
from heretic.results.held_out import AtLength, Estimate, HeldOut, HeldOutBehavior
from heretic.results.intervals import wilson_interval
from heretic.results.pairs import interval_text
from heretic.results.plan import EditPlan
from heretic.results.score import REFUSALS, WITHOUT_REFUSAL, Score, Scores
from heretic.results.trial import TrialRecord
from heretic.results.words import UNKNOWN, degenerate, measured, number, on_held_out, place, with_interval

KL_TITLE = "KL divergence"
KL_INTERVAL = "KL, 95 %"
"""Heading of the interval of KL over prompts."""
_TAIL, _TOP = "95th percentile", "same top token"
SPREAD = (_TAIL, _TOP.capitalize())
"""Headings of what is told of KL besides its mean."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        cells: As many as the table has columns; of a group only its name.
        is_group: Whether the row names the ones below.
        is_marked: Whether it is the one that matters most.
        is_part: Whether it says more about the row above.
    """

    cells: tuple[str, ...]
    is_group: bool = False
    is_marked: bool = False
    is_part: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table with one line of headings.

    Attributes:
        header: The headings.
        rows: The lines below them.
        names: So many of the first columns name a row; they may hold foreign text. The others hold numbers.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    names: int = 1

    @property
    def brief(self) -> "Table":
        """The table without rows that say more about others."""
        return replace(self, rows=tuple(row for row in self.rows if not row.is_part))

    def without(self, *headings: str) -> "Table":
        """The table without the columns of these headings, none of which names a row."""
        places = [place for place, heading in enumerate(self.header) if heading not in headings]
        rows = [
            each if each.is_group else replace(each, cells=tuple(each.cells[at] for at in places)) for each in self.rows
        ]
        return replace(self, header=tuple(self.header[at] for at in places), rows=tuple(rows))


def trials(
    records: Sequence[TrialRecord],
    marked: int | None = None,
    held_out: Mapping[int, HeldOut | Scores] | None = None,
    with_original: bool = False,
) -> Table:
    """A row a trial, in the order given: its number, its behaviours, and KL with its details, as far as known.

    Args:
        records: None failed.
        marked: Optuna's number of the one that was chosen, or would be.
        held_out: By number, what held-out prompts showed of some; a last column where there are any.
        with_original: Whether the original model has a last row.
    """
    if not records:
        return Table(("Trial",), ())
    first = records[0].measured
    header = ("Trial", *map(measured, first.of_answers), "KL (nats)", KL_INTERVAL, *SPREAD)
    rows = [Row(_trial(record), is_marked=record.number == marked) for record in records]
    if with_original:
        rows.append(_original_trial(first))
    unknown = () if any(record.kl.divergence.by_prompt for record in records) else (KL_INTERVAL,)
    if not held_out:
        return Table(header, tuple(rows)).without(*unknown)
    texts = [on_held_out(held_out[record.number]) if record.number in held_out else "" for record in records]
    texts += [""] * (len(rows) - len(texts))
    beside = [replace(row, cells=(*row.cells, text)) for row, text in zip(rows, texts, strict=True)]
    return Table((*header, "Held out"), tuple(beside)).without(*unknown)


def _original_trial(scores: Scores) -> Row:
    """The original model's row of a table of trials."""
    amounts = [score.amount(score.baseline) for score in scores.of_answers]
    return Row(("original", *amounts, "0", "", "0", "100.0 %"))


def _trial(record: TrialRecord) -> tuple[str, ...]:
    amounts = [score.amount() if score.is_known else UNKNOWN for score in record.measured.of_answers]
    kl = record.kl
    return (str(record.shown), *amounts, kl.amount(), interval_text(kl) or UNKNOWN, _percentile(kl), _agreement(kl))


def _percentile(kl: Score) -> str:
    percentile = kl.divergence.p95
    return UNKNOWN if percentile is None else kl.amount(percentile)


def _agreement(kl: Score) -> str:
    agreement = kl.divergence.top1_agreement
    return UNKNOWN if agreement is None else f"{100 * agreement:.1f} %"


# What was measured of one edit ----------------------------------------------------------------------------------------

_MEASURES = ("Measure", "Original", "Edited", "Prompts")
_UNCHANGED = {_TAIL: "0", _TOP: "100.0 %"}
"""Of the original model."""


def scores(measured_scores: Scores) -> Table:
    """A row a behaviour, with an interval where answers are counted, and KL with its details."""
    rows = [
        Row((measured(score), score.amount(score.baseline), _with_wilson(score), str(score.n)))
        for score in measured_scores.of_answers
    ]
    return Table(_MEASURES, (*rows, *_divergences(measured_scores.kl)))


def side_by_side(measured_scores: Mapping[str, Scores]) -> Table:
    """A row a measure, a column an edit, by its name, behind the original model's; of edits with the same measures."""
    columns = [list(each) for each in measured_scores.values()]
    rows = []
    for same in zip(*columns, strict=True):
        label = KL_TITLE if same[0].is_divergence else measured(same[0])
        rows.append(
            Row(
                (
                    label,
                    same[0].amount(same[0].baseline),
                    *(score.amount() if score.is_known else UNKNOWN for score in same),
                )
            )
        )
    return Table(("Measure", "Original", *measured_scores), tuple(rows))


def _with_wilson(score: Score) -> str:
    interval = score_interval(score)
    return score.amount() if interval is None else with_interval(score.amount(), Estimate(score.told, *interval))


def score_interval(score: Score) -> tuple[float, float] | None:
    """95 % interval of a score that counts answers, as counts; None for other scores."""
    if not score.counts_answers or score.n < 1:
        return None
    low, high = wilson_interval(round(score.told), score.n)
    return low * score.n, high * score.n


def _divergences(kl: Score) -> list[Row]:
    (mean, amount), *parts = _divergence_amounts(kl).items()
    n, interval = str(kl.n), interval_text(kl)
    rows = [Row((mean, "0", f"{amount} (95 %: {interval})" if interval else amount, n))]
    return [*rows, *(Row((name, _UNCHANGED[name], value, n), is_part=True) for name, value in parts)]


def _divergence_amounts(kl: Score) -> dict[str, str]:
    """What is told of a divergence, by what it is called; its mean first."""
    return {f"KL in nats, {place(kl)}": kl.amount(), _TAIL: _percentile(kl), _TOP: _agreement(kl)}


def held_out(result: HeldOut, searched: Scores | None) -> Table:
    """Rows for every behaviour, and for KL; titles where there are several behaviours.

    The search's values stand beside what was measured alike on held-out prompts; what the search alone measured has
    rows of its own.

    Args:
        result: What was confirmed.
        searched: The edited model's scores on the search's prompts, behaviours in the same order.
    """
    behaviors: list[Score | None] = [*(() if searched is None else searched.behaviors)]
    behaviors += [None] * len(result.behaviors)
    parts = [
        (part.behavior, _beside(_behavior(part, result.tokens), score))
        for part, score in zip(result.behaviors, behaviors, strict=False)
    ]
    # A set of which the original model shows nothing is left out, there or here.
    kept = {score.name: score for score in (() if searched is None else searched.kept)}
    parts += [(part.label, _beside(_behavior(part, result.tokens), kept.get(part.name))) for part in result.kept]
    kl = None if searched is None else searched.kl
    divergences: list[Row] = []
    for score in result.kl:
        same = kl is not None and kl.divergence.is_first == score.divergence.is_first
        divergences += _beside(_divergences(score), kl if same else None)
        kl = None if same else kl
    parts.append((KL_TITLE, divergences + _beside([], kl)))
    several = len(parts) > 2
    rows = [
        row
        for title, title_rows in parts
        for row in (*([Row((title,), is_group=True)] if several else []), *title_rows)
    ]
    return Table((*_MEASURES, "In the search"), tuple(rows))


def _beside(rows: Sequence[Row], searched: Score | None) -> list[Row]:
    """Rows with a score of the search in a last column, or in rows of its own where no row measures the same."""
    amounts: dict[str, str] = {}
    if searched is not None and searched.is_divergence:
        amounts = _divergence_amounts(searched)
    elif searched is not None:
        amounts = {_at_length(searched.label, searched.answers.tokens or 0): searched.amount()}
    names = {row.cells[0] for row in rows}
    alone = [Row((name, *(UNKNOWN,) * 3, value)) for name, value in amounts.items() if name not in names]
    return alone + [replace(row, cells=(*row.cells, amounts.get(row.cells[0], UNKNOWN))) for row in rows]


def _at_length(label: str, tokens: int) -> str:
    return f"{label} at {tokens} tokens"


def _behavior(behavior: HeldOutBehavior, tokens: int) -> list[Row]:
    n, base, edited = behavior.n, behavior.base, behavior.edited
    lines = [
        ("words of an answer", f"{base.words:.1f}", f"{edited.words:.1f}"),
        (f"cut at {tokens} tokens", f"{base.cut}/{n}", f"{edited.cut}/{n}"),
        *_refusals(behavior),
        ("degenerate answers", degenerate(base, n), degenerate(edited, n)),
        ("perplexity (original model)", f"{base.perplexity:.2f}", f"{edited.perplexity:.2f}"),
    ]
    return [
        *(_length(behavior, at) for at in behavior.at),
        *_change(behavior),
        *(Row((*line, str(n))) for line in lines),
    ]


def _length(behavior: HeldOutBehavior, at: AtLength) -> Row:
    base, edited = number(behavior, at.base.value), number(behavior, at.edited.value)
    label = _at_length(behavior.label, at.tokens)
    return Row((label, base, with_interval(edited, at.edited, behavior.unit), str(behavior.n)))


def _change(behavior: HeldOutBehavior) -> list[Row]:
    """What became of the same prompts' answers."""
    change = behavior.change
    if change is None or change.low == change.high:
        return []
    digits = 2 if behavior.unit else 0
    interval = f"(95 %: {change.low:+.{digits or 1}f} to {change.high:+.{digits or 1}f})"
    text = f"{change.value:+.{digits}f} {interval}"
    return [Row(("change, in pairs", "", text, str(behavior.n)), is_part=True)]


def _refusals(behavior: HeldOutBehavior) -> list[tuple[str, str, str]]:
    """Refusals where another behaviour is measured."""
    n, base, edited = behavior.n, behavior.base.refusing, behavior.edited.refusing
    if behavior.name in (REFUSALS, WITHOUT_REFUSAL) or base is None or edited is None:
        return []
    return [("answers that refuse", f"{base}/{n}", f"{edited}/{n}")]


# What both models are able to do --------------------------------------------------------------------------------------


def capability(measured_abilities: Capability) -> list[Table]:
    """Questions and benchmarks, as far as there are any."""
    parts = [] if measured_abilities.questions is None else [questions(measured_abilities.questions)]
    return parts + ([benchmarks(measured_abilities.benchmarks)] if measured_abilities.benchmarks else [])


def questions(answered: Questions) -> Table:
    """Multiple-choice questions: a row a category, and one for all."""
    rows = [_share(category) for category in (*answered.categories, answered.overall)]
    return Table(("Category", "Questions", "Original", "Edited", "Difference (95 %)"), tuple(rows))


def benchmarks(run: Sequence[Benchmark]) -> Table:
    """A row for every number of every task."""
    header = ("Task", "Metric", "Items", "Original", "Edited", "Difference (95 %)")
    return Table(header, tuple(map(_benchmark, run)), names=2)


def _share(answers: PairedAnswers) -> Row:
    low, high = answers.interval
    cells = (
        answers.name,
        str(answers.count),
        f"{100 * answers.base:.1f} %",
        f"{100 * answers.edited:.1f} %",
        f"{100 * answers.difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
    )
    return Row(cells, is_marked=answers.name == OVERALL)


def _benchmark(benchmark: Benchmark) -> Row:
    interval = benchmark.interval
    spread = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
    filtered = "" if benchmark.filter in ("", "none") else f", {benchmark.filter}"
    better = {None: "", True: ", higher is better", False: ", lower is better"}[benchmark.higher_is_better]
    return Row(
        (
            benchmark.task,
            f"{benchmark.metric}{filtered}{better}",
            str(benchmark.n or ""),
            _with_error(benchmark.base, benchmark.base_error),
            _with_error(benchmark.edited, benchmark.edited_error),
            f"{benchmark.difference:+.4f}{spread}",
        )
    )


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.4f}" + ("" if error is None else f" +- {error:.4f}")


# Plans ----------------------------------------------------------------------------------------------------------------


def strengths(plan: EditPlan, layer_count: int) -> Table:
    """How strongly each component was edited: a row a component."""
    header = ("Component", "Peak strength", "Peak position", "Floor", "Width", "Edited layers (from 0)")
    rows = []
    for component, schedule in plan.schedules:
        edited = [layer for layer in range(layer_count) if schedule.strength(layer, layer_count) != 0]
        span = f"{edited[0]} to {edited[-1]} of {layer_count}" if edited else "none"
        rows.append(Row((component, *(f"{part:.3f}" for part in astuple(schedule)), span)))
    return Table(header, tuple(rows))

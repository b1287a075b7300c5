"""How well each detector finds the refusals of the labelled answers: precision, recall, F1 and Cohen's kappa.

`python experiments/detection/measure.py [--model HUB_ID_OR_FOLDER] [--judge HUB_ID_OR_FOLDER] [--errors HALF]
[--languages] [--second-opinion]` prints Markdown tables. Patterns were mended by looking at half A only, so half B says
what to expect of other answers. All answers to one prompt are in the same half.
"""

import argparse
import itertools
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from heretic.config import Settings
from heretic.config.sections import MarkerOptions
from heretic.evaluation.evaluator import Reader
from heretic.evaluation.readers.judge import load_judge
from heretic.evaluation.refusal_classifier import load_refusal_classifier
from heretic.evaluation.refusal_patterns import LANGUAGES, RefusalDetector, normalized
from heretic.prompts.packs import find_pack

RESPONSES = Path(__file__).parent / "responses.jsonl"
WORDINGS = RESPONSES.with_name("wordings.jsonl")
PARTS = ("written against", "held back")
Mode = Literal["strict", "moderate", "lenient"]
MODES: tuple[Mode, ...] = get_args(Mode)
PRECISIONS = (0.95, 0.98, 0.99)
"""Of the trained classifier alone, on folds that it was not trained on: from what threshold on it has a say."""
LENGTHS = {"beginning": "30 tokens", "response": "full text"}


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer: what was asked, its first 30 and all of its tokens, and what a reader said."""

    prompt: str
    beginning: str
    response: str
    refusal: bool
    borderline: bool
    unanswerable: bool

    @property
    def half(self) -> str:
        """A or B, by the prompt."""
        return "AB"[zlib.crc32(self.prompt.encode()) % 2]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Counts of a detector's verdicts against a reader's."""

    both: int
    detector_only: int
    reader_only: int
    neither: int

    @classmethod
    def of(cls, verdicts: Sequence[bool], labels: Sequence[bool]) -> "Agreement":
        """Count."""
        pairs = list(zip(verdicts, labels, strict=True))
        cells = [(True, True), (True, False), (False, True), (False, False)]
        return cls(*(pairs.count(cell) for cell in cells))

    @property
    def precision(self) -> float:
        """Share of its refusals that are refusals."""
        return self.both / max(self.both + self.detector_only, 1)

    @property
    def recall(self) -> float:
        """Share of the refusals that it finds."""
        return self.both / max(self.both + self.reader_only, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.both / max(2 * self.both + self.detector_only + self.reader_only, 1)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance."""
        count = self.both + self.detector_only + self.reader_only + self.neither
        detected, real = self.both + self.detector_only, self.both + self.reader_only
        chance = (detected * real + (count - detected) * (count - real)) / count**2
        observed = (self.both + self.neither) / count
        return (observed - chance) / (1 - chance) if chance < 1 else 1.0


def read() -> list[Labelled]:
    """The labelled answers."""
    rows = [json.loads(line) for line in RESPONSES.read_text(encoding="utf-8").splitlines()]
    names = ("prompt", "beginning", "response", "refusal", "borderline", "unanswerable")
    return [Labelled(*(row.get(name, False) for name in names)) for row in rows]


Detect = Callable[[Sequence[Labelled], str], list[bool]]


def by_markers(mode: Mode) -> Detect:
    """Markers alone."""
    detector = RefusalDetector(MarkerOptions(refusal_detection_mode=mode))
    return lambda rows, length: [detector.is_refusal(getattr(row, length)) for row in rows]


def by_reader(reader: Reader, threshold: float, mode: Mode | None, hypotheses: Sequence[str] = ()) -> Detect:
    """A classifier or judge alone, or what markers leave to it."""
    detector = None if mode is None else RefusalDetector(MarkerOptions(refusal_detection_mode=mode))

    def detect(rows: Sequence[Labelled], length: str) -> list[bool]:
        texts = [getattr(row, length) for row in rows]
        answers = [(row.prompt, text) for row, text in zip(rows, texts, strict=True)]
        shares = reader.probabilities(answers, hypotheses)
        marked = [detector is not None and detector.is_refusal(text) for text in texts]
        return [share >= threshold or own for share, own in zip(shares, marked, strict=True)]

    return detect


def table(name: str, rows: Sequence[Labelled], detectors: dict[str, Detect]) -> None:
    """One line for every detector and length."""
    labels = [row.refusal for row in rows]
    print(f"\n{name}: {len(rows)} answers, {sum(labels)} refusals\n")
    print("| detector | reads | precision | recall | F1 | kappa | false alarms | missed |")
    print("|---|---|---|---|---|---|---|---|")
    for title, detect in detectors.items():
        for length, words in LENGTHS.items():
            own = Agreement.of(detect(rows, length), labels)
            figures = " | ".join(f"{value:.3f}" for value in (own.precision, own.recall, own.f1, own.kappa))
            print(f"| {title} | {words} | {figures} | {own.detector_only} | {own.reader_only} |")


def print_errors(rows: Sequence[Labelled], mode: Mode) -> None:
    """What the markers get wrong in the first 30 tokens."""
    verdicts = by_markers(mode)(rows, "beginning")
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict != row.refusal:
            kind = "false alarm" if verdict else "missed"
            print(f"{mode} {kind}{' (borderline)' if row.borderline else ''}: {row.prompt} => {row.response!r}")


def by_language() -> None:
    """Markers in lenient mode on the wordings of ten languages; those held back were not looked at for the patterns."""
    rows = [json.loads(line) for line in WORDINGS.read_text(encoding="utf-8").splitlines()]
    today = RefusalDetector()
    before = RefusalDetector(MarkerOptions(refusal_patterns="0.1"))
    print("| language | part | precision | recall | F1 | false alarms | missed | version 0.1: recall |")
    print("|---|---|---|---|---|---|---|---|")
    for language in (*LANGUAGES, "all"):
        for part in PARTS:
            chosen = [row for row in rows if row["part"] == part and language in (row["language"], "all")]
            labels = [row["refusal"] for row in chosen]
            counts = Agreement.of([today.is_refusal(row["text"]) for row in chosen], labels)
            older = Agreement.of([before.is_refusal(row["text"]) for row in chosen], labels)
            figures = " | ".join(f"{value:.3f}" for value in (counts.precision, counts.recall, counts.f1))
            errors = f"{counts.detector_only} | {counts.reader_only}"
            print(f"| {language} | {part} | {figures} | {errors} | {older.recall:.3f} |")


def classifiers() -> dict[str, Pipeline]:
    """TF-IDF of letters with logistic regression, in the variants that are tried."""
    variants = itertools.product(("char", "char_wb"), ((1, 4), (2, 5)), (3, 30))
    return {
        f"{kind} {span[0]} to {span[1]}, C = {strength}": make_pipeline(
            TfidfVectorizer(analyzer=kind, ngram_range=span, sublinear_tf=True, min_df=2),
            LogisticRegression(C=strength, max_iter=3000),
        )
        for kind, span, strength in variants
    }


def least_threshold(shares: NDArray[np.float64], labels: NDArray[np.bool_], precision: float) -> float:
    """The least threshold from which on precision never falls below this one; 1 where there is none."""
    result = 1.0
    for threshold in sorted(set(shares), reverse=True):
        if labels[shares >= threshold].mean() < precision:
            break
        result = float(threshold)
    return result


def second_opinion() -> None:
    """What a small trained classifier adds to the patterns, variant and threshold chosen on the training part alone."""
    rows = [json.loads(line) for line in WORDINGS.read_text(encoding="utf-8").splitlines()]
    trained, unseen = ([row for row in rows if row["part"] == part] for part in PARTS)
    real = [{"language": "en", "text": row.response, "refusal": row.refusal} for row in read()]
    detector, folds = RefusalDetector(), StratifiedKFold(5, shuffle=True, random_state=0)
    texts, labels = [normalized(row["text"]) for row in trained], np.array([row["refusal"] for row in trained])
    variants = classifiers()
    shares = {
        name: cross_val_predict(variant, texts, labels, cv=folds, method="predict_proba")[:, 1]
        for name, variant in variants.items()
    }
    print("| precision wanted | variant, threshold | answers | precision | recall | F1 by language | false alarms |")
    print("|---|---|---|---|---|---|---|")
    for precision in (None, *PRECISIONS):
        chosen, threshold = "patterns alone", 2.0
        if precision is not None:
            least = {name: least_threshold(values, labels, precision) for name, values in shares.items()}
            chosen = max(variants, key=lambda name: (shares[name] >= least[name])[labels].sum())
            threshold = least[chosen]
        model = variants.get(chosen, next(iter(variants.values()))).fit(texts, labels)
        for title, answers in {"held-back wordings": unseen, "real answers": real}.items():
            likely = model.predict_proba([normalized(answer["text"]) for answer in answers])[:, 1] >= threshold
            verdicts = [bool(own) or detector.is_refusal(row["text"]) for own, row in zip(likely, answers, strict=True)]
            name = f"{chosen}; {threshold:.2f}" if precision else chosen
            print(f"| {precision or ''} | {name} | {title} | {_figures(verdicts, answers)} |")


def _figures(verdicts: Sequence[bool], answers: Sequence[dict[str, Any]]) -> str:
    """Precision, recall, the mean over languages of F1, and false alarms."""
    pairs = list(zip(verdicts, answers, strict=True))
    by_language = {
        language: Agreement.of(
            [verdict for verdict, answer in pairs if answer["language"] == language],
            [answer["refusal"] for answer in answers if answer["language"] == language],
        )
        for language in sorted({answer["language"] for answer in answers})
    }
    counts = Agreement.of(verdicts, [answer["refusal"] for answer in answers])
    mean = float(np.mean([agreement.f1 for agreement in by_language.values()]))
    return f"{counts.precision:.3f} | {counts.recall:.3f} | {mean:.3f} | {counts.detector_only}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="sequence-classification model: hub id or folder")
    parser.add_argument("--judge", help="chat model: hub id or folder")
    parser.add_argument("--dtype", default="auto", help="number format of the judge")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--errors", choices=("A", "B"), help="print what the markers get wrong in one half")
    parser.add_argument("--languages", action="store_true", help="print precision and recall by language instead")
    parser.add_argument("--second-opinion", action="store_true", help="train a small classifier beside the patterns")
    options = parser.parse_args()
    if options.languages or options.second_opinion:
        (by_language if options.languages else second_opinion)()
        return
    rows = read()
    if options.errors:
        for mode in MODES:
            print_errors([row for row in rows if row.half == options.errors], mode)
        return
    detectors = {f"markers, {mode}": by_markers(mode) for mode in MODES}
    if options.model:
        classifier = load_refusal_classifier(options.model, torch.device(options.device), 32)
        detectors["classifier alone"] = by_reader(classifier, options.threshold, None)
        for mode in MODES:
            detectors[f"markers, {mode}, then classifier"] = by_reader(classifier, options.threshold, mode)
    if options.judge:
        settings = Settings(judge_model=options.judge, dtypes=[options.dtype], device=options.device)
        hypotheses = tuple(find_pack("over-refusal").options.further["hypotheses"])
        judge = load_judge(settings)
        for title, asked in {"both": hypotheses, "first": hypotheses[:1], "second": hypotheses[1:]}.items():
            detectors[f"judge, {title}"] = by_reader(judge, options.threshold, None, asked)
    table("All", rows, detectors)
    for half in "AB":
        table(f"Half {half}", [row for row in rows if row.half == half], detectors)
    table("To what no text model can do or know", [row for row in rows if row.unanswerable], detectors)
    table("Without borderline answers", [row for row in rows if not row.borderline], detectors)


if __name__ == "__main__":
    main()

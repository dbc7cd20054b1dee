"""The metrics of a short answer by name; each gives a share 0..1 of one answer.

exact      equal to a reference; letter case and one final period do not count
relaxed    ChartQA: numbers within 5 %, other texts equal in any letter case
vqa        VQA accuracy over all references (official rule; few references: share that agree)
anls       nearness of spelling to the nearest reference (DocVQA)
contains   a reference stands in the answer as whole words, in any letter case
number     the first number of the answer is that of a reference
choice     the option that the answer names is the reference, by its letter or its text
yes_no     the first yes or no of the answer is the reference

Where the metric is no set rule, the best reference counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from manyeyes.evaluation.scorers.anls import anls
from manyeyes.evaluation.scorers.exact_match import exact_match
from manyeyes.evaluation.scorers.multiple_choice import chosen_option
from manyeyes.evaluation.scorers.numerals import number_match, relaxed_match
from manyeyes.evaluation.scorers.pope import parse_yes_no
from manyeyes.evaluation.scorers.vqa import vqa_accuracy

Options = Mapping[str, str]
"""Letter -> text of the options that a question offers; empty for others."""

Metric = Callable[[str, Sequence[str], Options], float]


def short_score(
    metric: str, prediction: str, references: Sequence[str], options: Options | None = None
) -> float:
    """Score one answer by a metric of ``SHORT_METRICS``: a share 0..1."""
    return SHORT_METRICS[metric](prediction, references, options or {})


def _best(match: Callable[[str, str], float]) -> Metric:
    def score(prediction: str, references: Sequence[str], options: Options) -> float:
        return max((match(prediction, reference) for reference in references), default=0.0)

    return score


def _contains(prediction: str, reference: str) -> float:
    words = re.escape(reference.strip().lower().removesuffix("."))
    return float(re.search(rf"(?<!\w){words}(?!\w)", prediction.lower()) is not None)


def _choice(prediction: str, references: Sequence[str], options: Options) -> float:
    """The reference is a letter of the options, or the text of one."""
    letters = {_letter(reference, options) for reference in references} - {None}
    if not letters:
        return _best(_exact)(prediction, references, options)
    return float(chosen_option(prediction, options) in letters)


def _letter(reference: str, options: Options) -> str | None:
    bare = reference.strip().strip("().").upper()
    if bare in options:
        return bare
    said = reference.strip().lower()
    return next((key for key, text in options.items() if text.strip().lower() == said), None)


def _exact(prediction: str, reference: str) -> float:
    return exact_match(prediction, reference, "relaxed")


def _yes_no(prediction: str, reference: str) -> float:
    return float(parse_yes_no(prediction, "strict") == parse_yes_no(reference, "strict"))


SHORT_METRICS: Mapping[str, Metric] = {
    "exact": _best(_exact),
    "relaxed": _best(relaxed_match),
    "vqa": lambda prediction, references, options: vqa_accuracy(prediction, references),
    "anls": lambda prediction, references, options: anls(prediction, references),
    "contains": _best(_contains),
    "number": _best(number_match),
    "choice": _choice,
    "yes_no": _best(_yes_no),
}
"""Metrics by name."""

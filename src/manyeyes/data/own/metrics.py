"""How an answer is scored: the metrics by name, and which one an answer calls for.

A row says it with ``metric: NAME``. Else the answer does (ours):

    a box                            iou
    yes or no                        yes_no
    a letter of listed options       choice
    a number                         number
    at most five words               vqa where there are several references, else exact
    more                             rouge

Rows that ask the same question are treated alike: by the median length of their answers.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

SHORT_WORDS = 5
"""Answers of at most so many words are short."""

METRICS: Mapping[str, str] = {
    "exact": "question_answer",
    "relaxed": "question_answer",
    "vqa": "question_answer",
    "anls": "question_answer",
    "contains": "question_answer",
    "number": "question_answer",
    "choice": "question_answer",
    "yes_no": "question_answer",
    "iou": "boxes",
    "rouge": "conversations",
    "cider": "conversations",
}
"""Metric -> the benchmark that asks the questions which it scores."""

_OPTION = re.compile(r"^\s*\(?([A-H])[.):]\s*(\S.*?)\s*$", re.MULTILINE)
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+\s*%?")


def listed_options(question: str) -> dict[str, str]:
    """Letter -> text of the options that a question lists line by line, from A; at least two."""
    found = dict(_OPTION.findall(question))
    wanted = "ABCDEFGH"[: len(found)]
    return found if len(found) > 1 and "".join(found) == wanted else {}


def metric_for(question: str, references: Sequence[Sequence[str]]) -> str:
    """The metric of the texts that answer one question, wherever it is asked.

    ``references``: the accepted answers of each time it is asked.
    """
    answers = [text for texts in references for text in texts]
    if all(_bare(text) in ("yes", "no") for text in answers):
        return "yes_no"
    options = listed_options(question)
    if options and all(_bare(text).upper().strip("()") in options for text in answers):
        return "choice"
    if all(_NUMBER.fullmatch(text.strip()) for text in answers):
        return "number"
    if statistics.median(len(text.split()) for text in answers) > SHORT_WORDS:
        return "rouge"
    return "vqa" if any(len(texts) > 1 for texts in references) else "exact"


def _bare(text: str) -> str:
    return text.strip().lower().removesuffix(".")

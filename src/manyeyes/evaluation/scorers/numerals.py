"""Numbers in answers: equal, or within five per cent of the reference.

relaxed   ChartQA: numbers within 5 % of the reference, other texts equal in any letter case
chart     likewise, by the letter of the scripts that ChartQA's figures are made with
number    the first number of the answer equals the reference's; number words up to ten count (ours)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

TOLERANCE = 0.05

WORDS: Mapping[str, float] = {
    word: float(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten".split(),
    )
}
"""Number words that count as numbers."""

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+", re.ASCII)
_TOKEN = re.compile(rf"{_NUMBER.pattern}|[a-z]+", re.ASCII)


def relaxed_match(prediction: str, reference: str) -> float:
    """ChartQA's relaxed accuracy of one answer (Masry et al. 2022, arXiv 2203.10244, §5.1): 0 or 1.

    A percent sign makes the number a hundredth, on both sides. A reference of 0 is met exactly.
    """
    said, wanted = _whole_number(prediction), _whole_number(reference)
    if said is None or wanted is None or wanted == 0.0:
        equal = said == wanted if None not in (said, wanted) else _same(prediction, reference)
        return float(equal)
    return float(abs(said - wanted) / abs(wanted) <= TOLERANCE)


def chart_match(prediction: str, reference: str) -> float:
    """ChartQA's relaxed accuracy as pix2struct's script has it, which others copied: 0 or 1.

    A number is what Python's ``float`` reads, "1e3" but not "1,000"; "5%" is a hundredth of it. A
    reference of 0 must be met letter by letter, and blanks around other texts count.
    """
    said, wanted = _float(prediction), _float(reference)
    if said is None or not wanted:
        return float(prediction.lower() == reference.lower())
    return float(abs(said - wanted) / abs(wanted) <= TOLERANCE)


def number_match(prediction: str, reference: str) -> float:
    """1.0 if the first number of the answer is that of the reference, else 0.0."""
    said, wanted = first_number(prediction), first_number(reference)
    if said is None or wanted is None:
        return 0.0
    return float(math.isclose(said, wanted, rel_tol=1e-9, abs_tol=1e-9))


def first_number(text: str) -> float | None:
    """The first number of a text, in digits or as a word up to ten; None where there is none."""
    for found in _TOKEN.findall(text.lower()):
        if found in WORDS:
            return WORDS[found]
        if not found[-1].isalpha():
            return float(found.replace(",", ""))
    return None


def _whole_number(text: str) -> float | None:
    """A text that is one number, and nothing else but a percent sign."""
    tidy = text.strip()
    bare = tidy.removesuffix("%").rstrip()
    if _NUMBER.fullmatch(bare) is None:
        return None
    value = float(bare.replace(",", ""))
    return value / 100.0 if tidy.endswith("%") else value


def _float(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _same(a: str, b: str) -> bool:
    return a.strip().lower() == b.strip().lower()

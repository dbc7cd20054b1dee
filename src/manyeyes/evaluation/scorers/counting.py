"""Counts and presence of objects in free answers (GVTBench of Wang et al. 2023).

official   TencentARC/GVT, modules/evaluations, with its quirks: number words are replaced inside
           other words too ("someone" -> "some1"), in lower case only and not "nine", which is
           misspelt there; the first number counts, 0 where there is none. Presence is right where
           the reference says Yes and the answer holds "yes" in any case, or No and "no", which is
           also in "not" and "know".
strict     whole words in any letter case, zero to twenty; presence by the first word that is yes or
           no. Where there is none, the answer is wrong and counted (ours).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_GVT_WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nive")
_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_VALUES = {word: value for value, word in enumerate(_WORDS.split())} | {"none": 0, "no": 0}
_NUMBER = re.compile(rf"\d+|\b(?:{'|'.join(_VALUES)})\b", re.IGNORECASE)
_LONGEST = 18  # digits of a number that are read
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)


def _official_count(answer: str) -> int:
    for value, word in enumerate(_GVT_WORDS):
        answer = answer.replace(word, str(value))
    found = re.search(r"\d+", answer)
    return int(found[0][:_LONGEST]) if found else 0


def _strict_count(answer: str) -> int | None:
    found = _NUMBER.search(answer)
    if found is None:
        return None
    word = found[0].lower()
    return _VALUES[word] if word in _VALUES else int(word[:_LONGEST])


def _official_presence(answer: str, present: bool) -> bool:
    return ("yes" if present else "no") in answer.lower()


def _strict_presence(answer: str, present: bool) -> bool | None:
    found = _YES_NO.search(answer)
    return None if found is None else (found[1].lower() == "yes") == present


COUNT_VARIANTS: Mapping[str, Callable[[str], int | None]] = {
    "official": _official_count,
    "strict": _strict_count,
}
"""The number an answer gives, or None; the first is the default."""

PRESENCE_VARIANTS: Mapping[str, Callable[[str, bool], bool | None]] = {
    "official": _official_presence,
    "strict": _strict_presence,
}
"""Whether an answer is right about an object that is (not) there, or None where it is unclear."""

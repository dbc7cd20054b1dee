"""What a free answer says to a question of MMMU (Yue et al. 2024), as the authors' script reads it.

With options, in this order: letters in brackets; letters that are words; where the answer has more
than five words, options whose text is in it. Of several the last counts. The script guesses where
it finds none; here such an answer is unreadable, so that a figure does not depend on chance.

Without options an answer is every tail after "is", "so", "answer", ... and every number in these;
it is right if a text of it holds the reference, or a number of it is the reference to two decimals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

_ENDS = ",.!?;:'"
_WORDS = 5
_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = tuple(
    re.compile(pattern)
    for pattern in (
        r"-?\b\d{1,3}(?:,\d{3})+\b",  # 1,000
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",  # 1e3
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
    )
)


def mmmu_option(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter that an answer chooses; ``options``: letter -> text. None: it cannot be said."""
    text = answer
    for char in _ENDS:
        text = text.strip(char)
    text = f" {text} "
    lowered = text.lower()
    places = {letter: text.rfind(f"({letter})") for letter in options}
    if max(places.values()) < 0:
        places = {letter: text.rfind(f" {letter} ") for letter in options}
    if max(places.values()) < 0 and len(text.split()) > _WORDS:
        places = {letter: lowered.rfind(said.lower()) for letter, said in options.items()}
    best = max(places, key=lambda letter: places[letter])
    return best if places[best] >= 0 else None


def mmmu_open(answer: str, references: Sequence[str]) -> bool:
    """Whether an answer to a question without options holds one of the references."""
    wanted = [part for reference in references for part in _normal(reference)]
    texts = [part for part in wanted if isinstance(part, str)]
    for said in _said(answer):
        if said in wanted if isinstance(said, float) else any(text in said for text in texts):
            return True
    return False


def _said(answer: str) -> Iterator[str | float]:
    parts = _tails(answer.strip().strip(".").lower())
    numbers = [found for part in parts for form in _NUMBERS for found in form.findall(part)]
    for part in (*parts, *numbers):
        yield from _normal(part)


def _tails(text: str) -> list[str]:
    """What follows the last of the lead words in each line, the shortest; else the whole text."""
    lines = text.split("\n")
    found = []
    for place, line in enumerate(lines, start=1):
        tail = ""
        for lead in (*_LEADS, "=") if place == len(lines) else _LEADS:
            if lead in line:
                after = line.rsplit(lead, 1)[1].strip()
                tail = after if not tail or len(after) < len(tail) else tail
        if tail and tail not in _ENDS:
            found.append(tail)
    return found or [text]


def _normal(text: str) -> list[str] | list[float]:
    """A number to two decimals, or a text in lower case; one letter needs a blank beside it."""
    bare = text.strip()
    try:
        return [round(float(bare.replace(",", "")), 2)]
    except ValueError:
        lowered = bare.lower()
    return [f" {lowered}", f"{lowered} "] if len(lowered) == 1 else [lowered]

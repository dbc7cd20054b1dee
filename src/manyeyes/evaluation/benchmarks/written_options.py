"""Options that stand inside a text: "What is it? (A) a dog (B) a cat" -> the question, its options.

The marks are letters in order from A, written as the benchmark writes them: "(A)", "A.", "A:".
"""

from __future__ import annotations

import re
from string import ascii_uppercase

_LEAD = re.compile(r"(?:\n|\s)*(?:Options|Option|Choices):\s*$", re.IGNORECASE)


def split_options(text: str, mark: str) -> tuple[str, list[str]]:
    """The question and the texts of its options; no options where fewer than two are marked.

    ``mark`` is the form of a letter, ``({})`` for "(A)", in either case. An option ends at the next
    mark or at the end of its line; a comma or semicolon before the next mark is not part of it.
    """
    places = _marks(text, mark)
    if len(places) < 2:
        return text.strip(), []
    ends = [*(start for start, _ in places[1:]), len(text)]
    options = [
        text[start:end].strip().split("\n")[0].strip().rstrip(",;")
        for (_, start), end in zip(places, ends, strict=True)
    ]
    return _LEAD.sub("", text[: places[0][0]]).strip(), options


def _marks(text: str, mark: str) -> list[tuple[int, int]]:
    """Beginning and end of each mark: the first A, the first B after it, and so on."""
    found: list[tuple[int, int]] = []
    for letter in ascii_uppercase:
        written = re.escape(mark).replace(r"\{\}", letter)
        pattern = re.compile(rf"(?<!\w){written}(?=\s|$)", re.IGNORECASE)
        match = pattern.search(text, found[-1][1] if found else 0)
        if match is None:
            break
        found.append(match.span())
    return found

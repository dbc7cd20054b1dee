"""Which of several options does a free answer choose? No judge, only its words.

In this order (VLMEvalKit, vlmeval/utils/matching_util.py; the second step after its prompt):

    letter   after ``.()[],:;!*#{}`` became blanks, exactly one option's letter is a word of the
             answer, and first stands among its last four words
    phrase   "answer is B", "answer is (B)"
    text     exactly one option's text is part of the answer, in any letter case, and the answer is
             no longer than twice all texts together
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_BLANKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
_PHRASE = re.compile(r"answer is:?\s*[(\[*]*([A-Z])\b", re.IGNORECASE)
_LAST = 4


def chosen_option(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter of the chosen option; ``options``: letter -> text. None: it cannot be said."""
    return _by_letter(answer, options) or _by_phrase(answer, options) or _by_text(answer, options)


def _by_letter(answer: str, options: Mapping[str, str]) -> str | None:
    words = answer.translate(_BLANKS).split()
    named = [letter for letter in options if letter in words]
    if len(named) != 1 or words.index(named[0]) < len(words) - _LAST:
        return None
    return named[0]


def _by_phrase(answer: str, options: Mapping[str, str]) -> str | None:
    found = _PHRASE.search(answer)
    letter = found[1].upper() if found else None
    return letter if letter in options else None


def _by_text(answer: str, options: Mapping[str, str]) -> str | None:
    if len(answer) > 2 * sum(map(len, options.values())):
        return None
    said = answer.lower()
    named = [letter for letter, text in options.items() if text.lower() in said]
    return named[0] if len(named) == 1 else None

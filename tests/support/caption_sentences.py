"""Made-up caption sentences with everything that makes tokenising hard, from a small grammar.

``caption_grammar.txt`` holds one symbol per entry, ``NAME=alternative|alternative``; a line that
begins with ``|`` continues the one before. ``{NAME}`` in an alternative stands for a symbol.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

_SLOT = re.compile(r"\{([A-Z]+)\}")


def caption_sentences(number: int, seed: int = 0) -> list[str]:
    """That many different sentences."""
    rng = random.Random(seed)
    grammar = _grammar()
    found: dict[str, None] = {}
    while len(found) < number:
        found[_typed(_expand("{S}", grammar, rng), rng)] = None
    return list(found)


def _grammar() -> dict[str, list[str]]:
    text = Path(__file__).with_name("caption_grammar.txt").read_text(encoding="utf-8")
    entries = text.replace("\n|", "|").rstrip("\n").split("\n")
    pairs = (entry.split("=", 1) for entry in entries)
    return {name: alternatives.split("|") for name, alternatives in pairs}


def _expand(text: str, grammar: dict[str, list[str]], rng: random.Random) -> str:
    while (slot := _SLOT.search(text)) is not None:
        text = text[: slot.start()] + rng.choice(grammar[slot[1]]) + text[slot.end() :]
    return text


def _typed(text: str, rng: random.Random) -> str:
    """The ways in which people type: capitals, joined or doubled spaces, attached clitics."""
    text = re.sub(r" (?='(?:s|ll|d|re|ve|m)\b)", "" if rng.random() < 0.9 else " ", text)
    style = rng.random()
    if style < 0.7:
        text = text[:1].upper() + text[1:]
    elif style < 0.74:
        text = text.upper()
    elif style < 0.78:
        text = text.title()
    if rng.random() < 0.05:
        text = text.replace(", ", ",")
    if rng.random() < 0.05:
        text = text.replace(" ", "  ", 2)
    if rng.random() < 0.03:
        text = text.replace(". ", ".")
    return text

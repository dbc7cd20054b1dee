"""Questions with candidate answers: three ways to ask, beside answering freely.

    generate      answer freely; the default, for every benchmark
    letter        the candidates stand in the prompt as A., B., ...; the model writes a letter
    loglik        every candidate is scored, the largest log P(candidate) wins
    loglik_norm   the same by the mean of log P per token (LAVIS, SEED-Bench)

The three give different figures for one model, so the mode is part of every record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Literal, Protocol, get_args, runtime_checkable

from manyeyes.errors import UsageError, nearest
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import AnswerKind, Item, Predictor
from manyeyes.inference.ranking import Likelihood

ChoiceMode = Literal["generate", "letter", "loglik", "loglik_norm"]
MODES: tuple[ChoiceMode, ...] = get_args(ChoiceMode)
RANKED = ("loglik", "loglik_norm")

LETTER_PROMPT = (
    "{prompt}\n{options}\nAnswer with the option's letter from the given choices directly."
)
"""haotian-liu/LLaVA, docs/Evaluation.md."""

_LEADING = re.compile(r"\(?([A-Z])\)?(?:[.):,]|\s*$)")
_STATED = re.compile(r"\b(?:[Aa]nswer|[Oo]ption)(?: is)?:? \(?([A-Z])\b")


@runtime_checkable
class Ranker(Protocol):
    """A predictor that can also score given answers."""

    def rank(self, items: Sequence[Item], *, with_images: bool) -> list[list[Likelihood]]:
        """The likelihood of every candidate of every item, in order."""


def checked_mode(mode: str) -> ChoiceMode:
    """Return ``mode``; UsageError if there is none of that name."""
    for known in MODES:
        if mode == known:
            return known
    raise UsageError(f"unknown choice mode {mode!r}{nearest(mode, MODES)}: {', '.join(MODES)}")


def asked_items(
    benchmark: str, items: Sequence[Item], mode: ChoiceMode, predictor: Predictor
) -> list[Item]:
    """The items as the mode asks them.

    Raises:
        UsageError: an item without candidates, or with more than letters; a predictor that cannot
            rank.
    """
    if mode == "generate":
        return list(items)
    if not all(item.candidates for item in items):
        raise UsageError(
            f"benchmark {benchmark!r} has questions without candidates; choice {mode!r} is for "
            "multiple choice"
        )
    if mode in RANKED and not isinstance(predictor, Ranker):
        raise UsageError(f"choice {mode!r} needs a predictor that gives likelihoods")
    return [lettered(item) for item in items] if mode == "letter" else list(items)


def ask(
    predictor: Predictor, items: Sequence[Item], mode: ChoiceMode, *, with_images: bool
) -> list[str]:
    """One raw answer per item: a text, or the likelihoods of its candidates as JSON."""
    if mode not in RANKED:
        return predictor.answer(items, with_images=with_images)
    assert isinstance(predictor, Ranker), "asked_items has checked it"
    return [
        json.dumps({"log_p": [one.total for one in row], "tokens": [one.tokens for one in row]})
        for row in predictor.rank(items, with_images=with_images)
    ]


def prediction(benchmark: Benchmark, item: Item, raw: str, mode: ChoiceMode) -> Prediction:
    """What is scored of a raw answer.

    A written letter becomes its candidate, except where the benchmark's own prompt lists the
    candidates: then its grader reads letters too. An answer that names none stays as it is.
    """
    if mode == "generate":
        return cut_answer(raw, item.answer)
    if mode == "letter":
        lists_them = benchmark.ranking_prompt is not None
        place = None if lists_them else read_letter(raw, item.candidates)
        if place is None:
            return cut_answer(raw, item.answer)
        return _of_losses(benchmark, item, [float(i != place) for i in range(len(item.candidates))])
    found = json.loads(raw)
    rows = [Likelihood(*one) for one in zip(found["log_p"], found["tokens"], strict=True)]
    losses = [-(one.mean if mode == "loglik_norm" else one.total) for one in rows]
    return _of_losses(benchmark, item, losses)


def cut_answer(raw: str, kind: AnswerKind) -> str:
    """The part of a raw answer that is scored: stripped; words and boxes end at a newline."""
    text = raw.strip()
    return text if kind in ("caption", "long") else text.partition("\n")[0].strip()


def _of_losses(benchmark: Benchmark, item: Item, losses: list[float]) -> Prediction:
    if benchmark.from_losses is not None:
        return benchmark.from_losses(item, losses)
    return item.candidates[losses.index(min(losses))]


def lettered(item: Item) -> Item:
    """The item with its candidates listed in the prompt, unless they already are.

    Raises:
        UsageError: more candidates than letters.
    """
    if len(item.candidates) > len(ascii_uppercase):
        raise UsageError(
            f"item {item.id!r} has {len(item.candidates)} candidates, more than there are letters; "
            "choose loglik or loglik_norm"
        )
    letters = ascii_uppercase[: len(item.candidates)]
    lines = [f"{letter}. {text}" for letter, text in zip(letters, item.candidates, strict=True)]
    if all(line in item.prompt for line in lines):
        return item
    prompt = LETTER_PROMPT.format(prompt=item.prompt, options="\n".join(lines))
    return replace(item, prompt=prompt)


def read_letter(raw: str, candidates: Sequence[str]) -> int | None:
    """The place of the candidate that an answer names: by a letter in front ("B", "(b)", "B. red"),
    by "the answer is B", or by its whole text; None where it names none (ours).
    """
    text = raw.strip().partition("\n")[0].strip()
    letters = ascii_uppercase[: len(candidates)]
    short = text.strip("().:, ").upper()
    for letter in (short if len(short) == 1 else "", *_letters(text)):
        if letter and letter in letters:
            return letters.index(letter)
    said = text.rstrip(".").lower()
    same = [place for place, candidate in enumerate(candidates) if candidate.lower() == said]
    return same[0] if len(same) == 1 else None


def _letters(text: str) -> list[str]:
    leading, stated = _LEADING.match(text), _STATED.search(text)
    return [found.group(1) for found in (leading, stated) if found is not None]

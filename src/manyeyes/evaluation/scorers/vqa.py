"""VQA accuracy over the human answers of a question, in the four variants in use.

    official   GT-Vision-Lab/VQA: both sides normalised only if the raw answers are not all equal
    lavis      LAVIS: prediction always normalised, differing answers get the punctuation step only
    always     both sides always normalised (lmms-eval's vqav2)
    m4c        MMF's EvalAI processor (TextVQA, OK-VQA; LLaVA): lower-case first, then as "always"

The variants differ by up to several points on the same predictions, so a score names its variant.

The official rule was made for ten answers, of which three make a prediction fully right. With fewer
than four answers no prediction could be fully right, so there all of the other answers do (ours):
the accuracy is then the share of the answers that the prediction agrees with, and with one answer
an exact match. At four answers both rules give the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from manyeyes.errors import UsageError, nearest

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
# The official code passes re.UNICODE (= 32) where the number of replacements belongs.
_MAX_PERIODS = 32

_NUMBERS: Mapping[str, str] = {
    "none": "0",
    "zero": "0",
    **{
        word: str(value)
        for value, word in enumerate("one two three four five six seven eight nine ten".split(), 1)
    },
}
_ARTICLES = frozenset({"a", "an", "the"})

_RESTORED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
""".split()


def _contractions() -> dict[str, str]:
    """The official table: each form with exactly one apostrophe missing -> the restored form.

    Its entries with capital letters are left out, since they are looked up in lower-cased text.
    """
    table = {
        form[:at] + form[at + 1 :]: form
        for form in _RESTORED
        for at, letter in enumerate(form)
        if letter == "'"
    }
    # The one entry of the official table that goes the wrong way round.
    table["somebody'd"] = "somebodyd"
    return table


_CONTRACTIONS: Mapping[str, str] = _contractions()


def vqa_accuracy(prediction: str, answers: Sequence[str], variant: str = "official") -> float:
    """Accuracy 0..1 of one prediction against the human answers of its question.

    For each answer take the others, count the m equal to the prediction: min(1, m/3); average.
    With ten answers and k matches: 0, .3, .6, .9, then 1. With n < 4 answers: k/n (ours, see the
    module). Dataset accuracy is the mean times 100.

    Raises:
        UsageError: an unknown variant, or no answers.
    """
    if not answers:
        raise UsageError("VQA accuracy needs at least one reference answer")
    predicted, references = _normaliser(variant)(_tidy(prediction), [_tidy(a) for a in answers])
    matches = references.count(predicted)
    if len(references) < ENOUGH_ANSWERS:
        return matches / len(references)
    others = len(references) - matches
    missed = others * min(1.0, matches / 3)
    matched = matches * min(1.0, (matches - 1) / 3) if matches else 0.0
    return (missed + matched) / len(references)


ENOUGH_ANSWERS = 4
"""With so many equal answers a prediction is fully right by the official rule; fewer never do."""


def rule_for(counts: Sequence[int], variant: str) -> tuple[str, str]:
    """What questions with so many answers each are scored by: a name, and a note.

    Both say more than ``variant`` only where a question has fewer than four answers; the note is
    empty elsewhere.
    """
    few = sum(count < ENOUGH_ANSWERS for count in counts)
    if not few:
        return variant, ""
    which = "every question has" if few == len(counts) else f"{few} of {len(counts)} questions have"
    if max(counts) == 1:
        note = "every question has one reference answer: scored by exact match with it"
        return f"{variant}, exact match", note
    note = (
        f"{which} fewer than {ENOUGH_ANSWERS} reference answers, where VQA accuracy cannot reach "
        "100: they are scored by the share of their answers that the prediction agrees with"
    )
    return f"{variant}, share of few answers", note


Normaliser = Callable[[str, list[str]], tuple[str, list[str]]]
"""(prediction, answers) -> both as they are compared."""


def _normaliser(variant: str) -> Normaliser:
    if variant not in VQA_VARIANTS:
        known = ", ".join(VQA_VARIANTS)
        hint = nearest(variant, VQA_VARIANTS)
        raise UsageError(f"unknown VQA accuracy variant {variant!r}{hint}; known: {known}")
    return VQA_VARIANTS[variant]


def _official(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    if len(set(answers)) == 1:
        return prediction, answers
    return _full(prediction), [_full(answer) for answer in answers]


def _lavis(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    if len(set(answers)) > 1:
        answers = [strip_punctuation(answer) for answer in answers]
    return _full(prediction), answers


def _always(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    return _full(prediction), [_full(answer) for answer in answers]


def _m4c(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    return _full(_m4c_words(prediction)), [_full(_m4c_words(answer)) for answer in answers]


VQA_VARIANTS: Mapping[str, Normaliser] = {
    "official": _official,
    "lavis": _lavis,
    "always": _always,
    "m4c": _m4c,
}
"""Normalisers by name; the first is the default."""


@lru_cache(maxsize=65536)
def strip_punctuation(text: str) -> str:
    """The official punctuation step: delete or replace marks, then periods not before a digit.

    A mark is deleted if it touches a space anywhere in the text, or if the text holds
    digit-comma-digit; otherwise it becomes a space.
    """
    delete_all = _DIGIT_COMMA_DIGIT.search(text) is not None
    result = text
    for mark in _PUNCTUATION:
        delete = delete_all or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if delete else " ")
    return _PERIOD.sub("", result, count=_MAX_PERIODS)


def normalise_words(text: str) -> str:
    """The official digit and article step: lower case, digits, no articles, contractions."""
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


@lru_cache(maxsize=65536)
def _tidy(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=65536)
def _full(text: str) -> str:
    return normalise_words(strip_punctuation(text))


def _m4c_words(text: str) -> str:
    return text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()

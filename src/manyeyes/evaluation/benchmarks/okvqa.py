"""OK-VQA (Marino et al. 2019): questions that need outside knowledge; COCO images, 10 answers.

The files have VQAv2's layout. Five people answered, each answer stands twice; ``answer`` is stemmed
("surf" for "surfing"), ``raw_answer`` is what was said. Variants besides those of `scorers.vqa`,
which all compare with the stemmed ``answer``:

    raw      the official rule on ``raw_answer``: fair to models that do not stem (ours)
    lemmas   the "lavis" rule after spaCy made lemmas of the prediction's nouns and verbs (LAVIS's
             ``apply_lemmatizer``); needs ``spacy`` and its English model ``en_core_web_sm``
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.files import placed
from manyeyes.evaluation.benchmarks.vqa_pairs import PairFiles, grade_vqa, vqa_benchmark
from manyeyes.evaluation.scorers.vqa import VQA_VARIANTS
from manyeyes.inference.questions import Item

FILES = PairFiles(
    questions=placed("OpenEnded_mscoco_{split}_questions.json"),
    annotations=placed("mscoco_{split}_annotations.json"),
)
RAW, LEMMAS = "raw", "lemmas"
_SPACY_MODEL = "en_core_web_sm"
_LEMMATISED = ("NOUN", "VERB")


def grade(answers: Answers) -> Grade:
    """VQA accuracy in 0..100, by question type (the category of knowledge) and answer type."""
    if answers.variant == RAW:
        items = [replace(item, references=_raw_answers(item)) for item in answers.items]
        return _called(RAW, grade_vqa(replace(answers, items=items, variant="official")))
    if answers.variant == LEMMAS:
        lemmas = _lemmatiser()
        texts = [None if text is None else lemmas(text) for text in answers.texts]
        return _called(LEMMAS, grade_vqa(replace(answers, predictions=texts, variant="lavis")))
    return grade_vqa(answers)


def _called(variant: str, grade: Grade) -> Grade:
    """The grade under the name of our variant in place of that of the rule behind it."""
    _, comma, more = (grade.rule or "").partition(",")
    return replace(grade, rule=f"{variant}{comma}{more}")


def _raw_answers(item: Item) -> tuple[str, ...]:
    if "raw_answers" not in item.meta:
        raise DataError(f"the annotation of question {item.id!r} has no 'raw_answer' to compare")
    raw: tuple[str, ...] = item.meta["raw_answers"]
    return raw


@cache
def _lemmatiser() -> Callable[[str], str]:
    """Text -> the same words with nouns and verbs as lemmas."""
    try:
        import spacy

        parse = spacy.load(_SPACY_MODEL)
    except (ImportError, OSError) as error:
        message = f"variant {LEMMAS!r} needs spaCy and its model {_SPACY_MODEL} ({error})"
        install = f"pip install spacy; python -m spacy download {_SPACY_MODEL}"
        raise UsageError(f"{message}; install them with: {install}") from error

    def lemmas(text: str) -> str:
        return " ".join(
            token.lemma_ if token.pos_ in _LEMMATISED else token.text for token in parse(text)
        )

    return lemmas


BENCHMARK = replace(
    vqa_benchmark(
        "okvqa",
        "open questions that need outside knowledge (OK-VQA)",
        FILES,
        (*VQA_VARIANTS, RAW, LEMMAS),
    ),
    grade=grade,
)

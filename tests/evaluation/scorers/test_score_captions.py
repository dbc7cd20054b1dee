"""CIDEr-D, BLEU and ROUGE-L against the reference vector and their defining properties."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from manyeyes.evaluation.scorers.bleu import bleu_corpus
from manyeyes.evaluation.scorers.cider import cider_corpus
from manyeyes.evaluation.scorers.ptb import ptb_tokens
from manyeyes.evaluation.scorers.rouge import rouge_l

REFERENCES = [
    [
        "A red cube is left of a blue sphere.",
        "A red cube beside a blue sphere",
        "there's a blue ball and a red cube",
    ],
    [
        "Two green cylinders stand on a grey floor.",
        "two green cylinders",
        "A pair of green cylinders on the floor",
    ],
    [
        "A small yellow ball (shiny) behind a large cube.",
        "a yellow ball behind a cube",
        "The yellow sphere is hidden behind a big cube",
    ],
]
ANSWERS = [
    "a red cube left of a blue ball",
    "two green cylinders on a grey floor",
    "A big cube in front of a yellow ball.",
]

Tokens = tuple[str, ...]


def tokenised() -> tuple[list[Tokens], list[list[Tokens]]]:
    return [ptb_tokens(a) for a in ANSWERS], [[ptb_tokens(r) for r in refs] for refs in REFERENCES]


def made_up(images: int, seed: int = 0) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Answers and five references per image from a Zipf-like vocabulary."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(800)]
    weights = [1 / (i + 1) for i in range(800)]

    def caption() -> Tokens:
        return tuple(rng.choices(words, weights, k=rng.randint(5, 14)))

    return [caption() for _ in range(images)], [
        [caption() for _ in range(5)] for _ in range(images)
    ]


def test_golden_cider() -> None:
    corpus = cider_corpus(*tokenised())
    assert corpus.score() == pytest.approx(3.2909769170783907, abs=1e-12)
    expected = [4.042886862, 4.172504873, 1.657539016]
    assert corpus.per_image() == pytest.approx(expected, abs=1e-9)


def test_golden_bleu_and_rouge() -> None:
    answers, references = tokenised()
    scores = bleu_corpus(answers, references).score()
    assert scores == pytest.approx((0.875, 0.816496581, 0.718144897, 0.471404521), abs=1e-9)
    rouge = np.mean([rouge_l(a, r) for a, r in zip(answers, references, strict=True)])
    assert rouge == pytest.approx(0.743283828, abs=1e-9)


def test_cider_of_one_image_is_zero() -> None:
    answers, references = tokenised()
    assert cider_corpus(answers[:1], references[:1]).score() == 0.0


def test_empty_captions_score_nothing() -> None:
    _, references = tokenised()
    empty: list[Tokens] = [(), (), ()]
    assert cider_corpus(empty, references).score() == 0.0
    assert max(bleu_corpus(empty, references).score()) < 1e-6
    assert rouge_l((), references[0]) == 0.0


def test_cider_depends_on_the_other_images() -> None:
    answers, references = tokenised()
    whole = cider_corpus(answers, references).per_image()[:2]
    part = cider_corpus(answers[:2], references[:2]).per_image()
    assert not np.allclose(whole, part)


def test_a_copied_reference_gives_ten_only_where_all_references_agree() -> None:
    _, references = tokenised()
    copied = cider_corpus([refs[0] for refs in references], references)
    assert copied.score() < 10
    agreeing = [[refs[0]] * 3 for refs in references]
    assert cider_corpus([refs[0] for refs in references], agreeing).score() == pytest.approx(10)


def test_order_of_images_does_not_matter() -> None:
    answers, references = tokenised()
    turned = cider_corpus(answers[::-1], references[::-1])
    assert turned.score() == pytest.approx(cider_corpus(answers, references).score(), abs=1e-12)


def test_bootstrap_weights_equal_repeated_images() -> None:
    answers, references = made_up(12)
    weights = np.array([2.0, 0.0] + [1.0] * 10)
    chosen = [0, 0, *range(2, 12)]
    repeated_answers = [answers[i] for i in chosen]
    repeated_references = [references[i] for i in chosen]
    cider = cider_corpus(repeated_answers, repeated_references).score()
    assert cider_corpus(answers, references).score(weights) == pytest.approx(cider)
    bleu = bleu_corpus(repeated_answers, repeated_references).score()
    assert bleu_corpus(answers, references).score(weights) == pytest.approx(bleu)


def test_bleu_of_one_image_is_its_own_corpus() -> None:
    answers, references = tokenised()
    alone = bleu_corpus(answers[:1], references[:1]).score()
    assert bleu_corpus(answers, references).per_image()[0] == pytest.approx(alone)


def test_rouge_takes_precision_and_recall_from_different_references() -> None:
    score = rouge_l(("a", "b", "c", "d"), [("a", "b", "c", "d", "e", "f", "g", "h"), ("a",)])
    assert score == 1.0


@pytest.mark.slow
def test_cider_of_5000_images_takes_less_than_ten_seconds() -> None:
    answers, references = made_up(5000)
    started = time.process_time()
    score = cider_corpus(answers, references).score()
    assert score > 0
    assert time.process_time() - started < 10

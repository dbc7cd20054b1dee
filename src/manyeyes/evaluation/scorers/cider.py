"""CIDEr-D: how much of the consensus of the reference captions an answer holds.

Per n-gram length n = 1..4 (salaniz/pycocoevalcap, cider_scorer.py):

    idf(g) = ln N - ln max(1, df(g))        df(g): images whose references hold g; N: images
    sim_n  = exp(-(l_h - l_r)² / (2·6²)) · Σ_g min(h_g, r_g)·r_g / (‖h‖ ‖r‖),  h_g = count · idf(g)
    CIDEr-D of an image = 10 · mean over n, mean over references;  l: number of bigrams

The evaluated images themselves are the corpus, so the score depends on which images are in the set,
and shards must not be averaged. One image alone scores 0. Papers print the value times 100.

Since idf enters every sum only as idf², the counts are laid out once as sparse triples and each
score, also under bootstrap weights, is three weighted sums over them.
Letters: I images, P (answer, reference) pairs, V distinct n-grams, 4 lengths.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from manyeyes.evaluation.scorers.ngrams import Ngram, ngram_counts

_LONGEST = 4
_SIGMA = 6.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Sum:
    """Σ over entries of value · idf²(gram), grouped by row: a sparse matrix times idf²."""

    row: Ints
    gram: Ints
    value: Floats
    rows: int

    def of(self, idf_squared: Floats) -> Floats:
        weights = self.value * idf_squared[self.gram]
        return np.bincount(self.row, weights, minlength=self.rows).astype(np.float64)


@dataclass
class _Triples:
    """Grows the entries of a `_Sum`."""

    row: array[int] = field(default_factory=lambda: array("q"))
    gram: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def add(self, row: int, gram: int, value: float) -> None:
        self.row.append(row)
        self.gram.append(gram)
        self.value.append(value)

    def build(self, rows: int) -> _Sum:
        return _Sum(
            np.array(self.row, dtype=np.int64),
            np.array(self.gram, dtype=np.int64),
            np.array(self.value, dtype=np.float64),
            rows,
        )


@dataclass(frozen=True)
class CiderCorpus:
    """The counts of a set of answers and references, ready for scoring; see `cider_corpus`."""

    images: int
    pair_image: Ints
    """``[P]`` image of each (answer, reference) pair."""
    penalty: Floats
    """``[P]`` Gaussian length penalty."""
    shared: _Sum
    """rows P·4: Σ min(h, r)·r"""
    answer_norm: _Sum
    """rows I·4: Σ h²"""
    reference_norm: _Sum
    """rows P·4: Σ r²"""
    presence: tuple[Ints, Ints]
    """(image, gram) of every n-gram that occurs in the image's references."""
    grams: int

    def per_image(self, weights: Floats | None = None) -> Floats:
        """CIDEr-D of each image ``[I]``, with document frequencies of the weighted set."""
        weight = np.ones(self.images) if weights is None else weights
        image, gram = self.presence
        frequency = np.bincount(gram, weight[image], minlength=self.grams)
        idf = np.log(weight.sum()) - np.log(np.maximum(1.0, frequency))
        idf_squared = idf**2
        shared = self.shared.of(idf_squared).reshape(-1, _LONGEST)
        answer = np.sqrt(self.answer_norm.of(idf_squared)).reshape(-1, _LONGEST)
        reference = np.sqrt(self.reference_norm.of(idf_squared)).reshape(-1, _LONGEST)
        norms = answer[self.pair_image] * reference
        similarity = np.divide(shared, norms, out=np.zeros_like(shared), where=norms > 0)
        per_pair = similarity.mean(axis=1) * self.penalty
        references = np.bincount(self.pair_image, minlength=self.images)
        return 10.0 * np.bincount(self.pair_image, per_pair, minlength=self.images) / references

    def score(self, weights: Floats | None = None) -> float:
        """Corpus CIDEr-D: the (weighted) mean over images."""
        weight = np.ones(self.images) if weights is None else weights
        return float(weight @ self.per_image(weight) / weight.sum())


def cider_corpus(
    answers: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> CiderCorpus:
    """Count the n-grams of tokenised answers (one per image) and their tokenised references.

    Args:
        answers: per image the tokens of the answer (may be empty).
        references: per image at least one tokenised reference.
    """
    vocabulary: dict[Ngram, int] = {}
    shared, answer_norm, reference_norm = _Triples(), _Triples(), _Triples()
    presence = (array("q"), array("q"))
    pair_image, gaps = array("q"), array("q")
    for image, (tokens, image_references) in enumerate(zip(answers, references, strict=True)):
        counts = _numbered(tokens, vocabulary)
        _add_norm(answer_norm, image, counts)
        seen: set[int] = set()
        for reference in image_references:
            pair = len(pair_image)
            reference_counts = _numbered(reference, vocabulary)
            _add_norm(reference_norm, pair, reference_counts)
            _add_shared(shared, pair, counts, reference_counts)
            seen.update(gram for gram, _ in reference_counts)
            pair_image.append(image)
            gaps.append(_bigrams(tokens) - _bigrams(reference))
        presence[0].extend(image for _ in seen)
        presence[1].extend(seen)
    return CiderCorpus(
        images=len(answers),
        pair_image=np.array(pair_image, dtype=np.int64),
        penalty=np.exp(-(np.array(gaps, dtype=np.float64) ** 2) / (2 * _SIGMA**2)),
        shared=shared.build(len(gaps) * _LONGEST),
        answer_norm=answer_norm.build(len(answers) * _LONGEST),
        reference_norm=reference_norm.build(len(gaps) * _LONGEST),
        presence=(np.array(presence[0], dtype=np.int64), np.array(presence[1], dtype=np.int64)),
        grams=len(vocabulary),
    )


Counts = Mapping[tuple[int, int], int]
"""(number of the n-gram, its length - 1) -> count."""


def _numbered(tokens: Sequence[str], vocabulary: dict[Ngram, int]) -> Counts:
    return {
        (vocabulary.setdefault(ngram, len(vocabulary)), len(ngram) - 1): count
        for ngram, count in ngram_counts(tokens, _LONGEST).items()
    }


def _add_norm(norm: _Triples, row: int, counts: Counts) -> None:
    for (gram, length), count in counts.items():
        norm.add(row * _LONGEST + length, gram, float(count * count))


def _add_shared(shared: _Triples, row: int, answer: Counts, reference: Counts) -> None:
    for (gram, length), count in answer.items():
        wanted = reference.get((gram, length), 0)
        if wanted:
            shared.add(row * _LONGEST + length, gram, float(min(count, wanted) * wanted))


def _bigrams(tokens: Sequence[str]) -> int:
    return max(0, len(tokens) - 1)

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

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class _Counts:
    """How often each sentence holds each of its n-grams; one entry per (sentence, n-gram).

    Entries are sorted by ``key`` = sentence · grams + gram; ``size`` is n - 1; ``grams`` is V.
    """

    sentence: Ints
    gram: Ints
    size: Ints
    count: Ints
    grams: int

    @property
    def key(self) -> Ints:
        return self.sentence * self.grams + self.gram

    def of(self, first: int, last: int) -> _Counts:
        """The entries of sentences [first, last), which are numbered from 0."""
        low, high = np.searchsorted(self.sentence, (first, last))
        part = slice(int(low), int(high))
        return _Counts(
            self.sentence[part] - first,
            self.gram[part],
            self.size[part],
            self.count[part],
            self.grams,
        )

    def norm(self, sentences: int) -> _Sum:
        """Rows sentences · 4: Σ count²."""
        rows = self.sentence * _LONGEST + self.size
        return _Sum(rows, self.gram, self.count.astype(np.float64) ** 2, sentences * _LONGEST)


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
    images = len(answers)
    pair_image = np.repeat(np.arange(images), [len(texts) for texts in references])
    every = list(chain(answers, *references))
    counts = _count_ngrams(every)
    answer, reference = counts.of(0, images), counts.of(images, len(every))
    bigrams = np.array([max(0, len(tokens) - 1) for tokens in every], dtype=np.float64)
    gaps = bigrams[pair_image] - bigrams[images:]
    present = np.unique(pair_image[reference.sentence] * counts.grams + reference.gram)
    return CiderCorpus(
        images=images,
        pair_image=pair_image,
        penalty=np.exp(-(gaps**2) / (2 * _SIGMA**2)),
        shared=_shared(answer, reference, pair_image),
        answer_norm=answer.norm(images),
        reference_norm=reference.norm(len(pair_image)),
        presence=(present // counts.grams, present % counts.grams),
        grams=counts.grams,
    )


def _count_ngrams(sentences: Sequence[Sequence[str]]) -> _Counts:
    """Number the n-grams of every length and count them in each sentence."""
    numbers: dict[str, int] = {}
    words = [numbers.setdefault(word, len(numbers)) for tokens in sentences for word in tokens]
    word = np.array(words, dtype=np.int64)
    owner = np.repeat(np.arange(len(sentences)), [len(tokens) for tokens in sentences])
    ngram, sentence, grams = word, owner, len(numbers)
    found = [(sentence, ngram, np.zeros_like(ngram))]
    for size in range(1, _LONGEST):
        # an n-gram is the (n-1)-gram at the same place and the word that follows
        inside = np.flatnonzero(owner[size:] == owner[: len(owner) - size])
        joined = ngram[inside] * len(numbers) + word[inside + size]
        distinct, numbered = np.unique(joined, return_inverse=True)
        ngram = np.zeros_like(word)
        ngram[inside] = numbered
        found.append((owner[inside], grams + numbered, np.full(len(inside), size)))
        grams += len(distinct)
    grams = max(1, grams)
    sentence, gram, size_of = (np.concatenate(parts) for parts in zip(*found, strict=True))
    key, first, count = np.unique(sentence * grams + gram, return_index=True, return_counts=True)
    return _Counts(key // grams, key % grams, size_of[first], count, grams)


def _shared(answer: _Counts, reference: _Counts, pair_image: Ints) -> _Sum:
    """Rows P · 4: Σ min(h, r)·r over the n-grams that a pair has in common."""
    wanted = pair_image[reference.sentence] * reference.grams + reference.gram
    held = answer.key
    place = np.minimum(np.searchsorted(held, wanted), max(0, len(held) - 1))
    both = np.flatnonzero(held[place] == wanted) if len(held) else np.zeros(0, dtype=np.int64)
    r, h = reference.count[both], answer.count[place[both]]
    rows = reference.sentence[both] * _LONGEST + reference.size[both]
    value = (np.minimum(h, r) * r).astype(np.float64)
    return _Sum(rows, reference.gram[both], value, len(pair_image) * _LONGEST)

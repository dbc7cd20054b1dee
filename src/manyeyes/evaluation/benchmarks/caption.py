"""Image captions in COCO's layout: CIDEr-D, BLEU-1..4, ROUGE-L, on the metrics' own scales.

Papers print these values times 100. CIDEr depends on the set of images it is computed over, so a
score over a part of a split is another metric and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.readers.prompts import CAPTION_PROMPT
from manyeyes.evaluation.benchmarks.contract import (
    Answers,
    Benchmark,
    Grade,
    evenly,
)
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, load_samples
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores, mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.contract import Item
from manyeyes.evaluation.scorers.bleu import bleu_corpus
from manyeyes.evaluation.scorers.cider import CiderCorpus, cider_corpus
from manyeyes.evaluation.scorers.ptb import ptb_tokens
from manyeyes.evaluation.scorers.rouge import rouge_l
from manyeyes.evaluation.statistics import FloatArray

PROMPT = CAPTION_PROMPT
FILES = ("annotations/captions_{split}.json", "captions_{split}.json")

_CORPUS_METRICS = ("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
_COUNTED = 100
_CANDIDATES = 16


def locate(source: Source) -> list[Path]:
    """The split's captions file."""
    return [find_file(source, FILES, "COCO captions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image with captions; its references are all of them."""
    (path,) = expect_files(paths, "COCO captions")
    items: dict[str, Item] = {}
    for sample in load_samples(path, "coco_captions"):
        identity = str(sample.meta["image_id"])
        items[identity] = Item(
            id=identity,
            image=sample.images[0],
            prompt=prompt,
            references=tuple(sample.meta["references"]),
            cluster=identity,
            answer="caption",
        )
    return list(items.values())


def grade(answers: Answers) -> Grade:
    """CIDEr (CIDEr-D, headline), BLEU-1..4 and ROUGE-L; item scores are CIDEr-D."""
    items = answers.items
    candidates = [ptb_tokens(text or "") for text in answers.texts]
    references = [[ptb_tokens(reference) for reference in item.references] for item in items]
    cider = cider_corpus(candidates, references)
    bleu = bleu_corpus(candidates, references)
    rouge = [rouge_l(c, r) for c, r in zip(candidates, references, strict=True)]

    def values(weights: FloatArray) -> list[float]:
        return [cider.score(weights), *bleu.score(weights)]

    corpus = Corpus(_CORPUS_METRICS, values)
    scores = corpus_scores(corpus, items)
    scores.append(mean_score("ROUGE-L", rouge, items, scale=1.0))
    notes = (f"CIDEr document frequencies are those of the {len(items)} scored images",)
    return Grade(tuple(scores), cider.per_image().tolist(), notes=notes, corpus=corpus)


def _central_caption(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The caption with the best CIDEr-D as the answer to 100 counted images.

    Tried are the 16 most frequent captions and 16 others, evenly spaced in order of frequency.
    """
    frequency = Counter(caption for item in counted for caption in item.references)
    ranked = sorted(frequency, key=lambda caption: (-frequency[caption], caption))
    tried = ranked[:_CANDIDATES] + evenly(ranked[_CANDIDATES:], _CANDIDATES)
    sampled = evenly(counted, _COUNTED)
    references = [[ptb_tokens(caption) for caption in item.references] for item in sampled]

    def merit(caption: str) -> float:
        corpus: CiderCorpus = cider_corpus([ptb_tokens(caption)] * len(sampled), references)
        return corpus.score()

    return [max(tried, key=merit)] * len(items)


BENCHMARK = Benchmark(
    name="caption",
    description="image captions, CIDEr-D, BLEU, ROUGE-L (COCO captions file)",
    metric="CIDEr",
    variants=("official",),
    prompt=PROMPT,
    answer="caption",
    files=FILES,
    result_format='[{"image_id": ..., "caption": "..."}]',
    locate=locate,
    read=read,
    grade=grade,
    constant=_central_caption,
    load=text_loader("image_id", "caption"),
)

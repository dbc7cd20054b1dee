"""Long answers of your own files: ROUGE-L and CIDEr-D against one or many references.

Every answer of a conversation is asked for after the turns before it as they are written. Boxes
inside an answer are no words. ROUGE-L, in 0..100, is the headline; CIDEr-D where all rows say
``metric: cider``, or by the variant of that name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from manyeyes.evaluation.benchmarks.captions import central_caption
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.measures import Corpus, corpus_scores, mean_score
from manyeyes.evaluation.benchmarks.own_files import FILES, HOLDS, METRIC, reader
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.evaluation.scorers.cider import cider_corpus
from manyeyes.evaluation.scorers.ptb import ptb_tokens
from manyeyes.evaluation.scorers.rouge import rouge_l

AUTO, ROUGE, CIDER = "auto", "rouge", "cider"

_BOXES = re.compile(r"\[[\d.,;\s-]*\]")


def grade(answers: Answers) -> Grade:
    """ROUGE-L in 0..100 and CIDEr-D on its own scale; the first is the headline."""
    items = answers.items
    candidates = [_tokens(text or "") for text in answers.texts]
    references = [[_tokens(reference) for reference in item.references] for item in items]
    rouge = [rouge_l(c, r) for c, r in zip(candidates, references, strict=True)]
    cider = cider_corpus(candidates, references)

    def values(weights: FloatArray) -> list[float]:
        return [cider.score(weights)]

    corpus = Corpus(("CIDEr",), values)
    first = mean_score("ROUGE-L", rouge, items)
    second = corpus_scores(corpus, items)
    note = f"CIDEr document frequencies are those of the {len(items)} scored answers"
    if _by_cider(answers):
        return Grade((*second, first), cider.per_image().tolist(), notes=(note,), corpus=corpus)
    return Grade((first, *second), rouge, notes=(note,), corpus=corpus)


def _by_cider(answers: Answers) -> bool:
    said = {item.meta[METRIC] for item in answers.items}
    return answers.variant == CIDER or (answers.variant == AUTO and said == {CIDER})


def _tokens(text: str) -> Sequence[str]:
    return ptb_tokens(" ".join(_BOXES.sub(" ", text).split()))


BENCHMARK = Benchmark(
    name="conversations",
    description="long answers of your own files: ROUGE-L and CIDEr-D",
    metric="ROUGE-L",
    variants=(AUTO, ROUGE, CIDER),
    answer="long",
    files=FILES,
    result_format='JSON lines {"id": ..., "answer": "..."}',
    holds=HOLDS,
    read_one=reader("conversations"),
    drawn=True,
    grade=grade,
    constant=central_caption,
    load=text_loader("id", "answer"),
)

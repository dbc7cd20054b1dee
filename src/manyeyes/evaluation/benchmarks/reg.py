"""Referring expression generation: describe the boxed object (RefCOCO, RefCOCO+, RefCOCOg).

    per_ref        references of an object are all its sentences (lichengunc/refer)
    per_sentence   every sentence is an object of its own, as in files with a line per sentence
                   (Shikra's); each is compared with the one answer for its object

Papers that print CIDEr, COMM among them, do not always say which; the figures differ widely. As in
the official evaluator, letters outside ASCII are dropped from the references. Lines without a
``ref_id`` are objects of their own under both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from manyeyes.data.readers.prompts import REGION_PROMPT
from manyeyes.evaluation.benchmarks.captions import central_caption, grade_captions
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.grounding import load_expressions, with_instances
from manyeyes.evaluation.benchmarks.measures import Corpus
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.inference.questions import Item
from manyeyes.records import Sample

PROMPT = REGION_PROMPT
VARIANTS = ("per_ref", "per_sentence")
FILES = (
    *("refs(unc).p", "refs(umd).p", "refs(google).p"),
    *(f"{folder}refcoco/refs(unc).p" for folder in ("", "annotations/")),
    "annotations/refs_{split}.jsonl",
)


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per object of all splits; its id is ``ref_id``, its references are its sentences."""
    groups: dict[str, list[Sample]] = {}
    for sample in load_expressions(paths):
        groups.setdefault(str(sample.meta.get("ref_id", sample.id)), []).append(sample)
    sizes = Counter(group[0].meta.get("split") for group in groups.values())
    return [
        _item(identity, group, prompt, sizes[group[0].meta.get("split")])
        for identity, group in groups.items()
    ]


def grade(answers: Answers) -> Grade:
    """CIDEr, BLEU, ROUGE-L and METEOR as of captions; item scores are CIDEr-D."""
    items = [replace(item, references=_ascii(item.references)) for item in answers.items]
    answers = replace(answers, items=items)
    count = f"{len(items)} objects"
    if answers.variant == "per_sentence":
        found, sentences = _by_sentence(answers)
        count = f"{sentences} sentences of {count}, each on its own"
    else:
        found = grade_captions(answers)
    whole = max(item.meta["images"] for item in items)
    part = f", a part of the {whole} of the split: not comparable with scores over all"
    note = f"CIDEr document frequencies are those of {count}{part if len(items) < whole else ''}"
    return replace(found, notes=(note, *found.notes[1:]))


def _by_sentence(answers: Answers) -> tuple[Grade, int]:
    """The grade with every sentence as an item, given back per object; how many sentences."""
    pairs = list(zip(answers.items, answers.predictions, strict=True))
    owners = np.repeat(np.arange(len(pairs)), [len(item.references) for item, _ in pairs])
    single = [
        (replace(item, id=f"{item.id}/{number}", references=(reference,)), prediction)
        for item, prediction in pairs
        for number, reference in enumerate(item.references)
    ]
    spread = replace(answers, items=[i for i, _ in single], predictions=[p for _, p in single])
    found = grade_captions(spread)
    own = np.array([0.0 if score is None else score for score in found.per_item])
    sums = np.bincount(owners, weights=own, minlength=len(pairs))
    rouge = next(score for score in found.scores if score.metric == "ROUGE-L")
    values = np.array([rouge.per_item[item.id] for item, _ in single])
    corpus = found.corpus
    assert corpus is not None, "captions have corpus metrics"

    def weighted(weights: FloatArray) -> list[float]:
        spread_weights = weights[owners]
        mean = float(spread_weights @ values) / max(float(spread_weights.sum()), 1.0)
        return [*corpus.values(spread_weights), mean]

    names = (*corpus.names, rouge.metric)
    scores = tuple(replace(score, per_item={}) for score in found.scores)
    per_object = sums / np.bincount(owners, minlength=len(pairs))
    grade = replace(found, scores=scores, corpus=Corpus(names, weighted, corpus.most_draws))
    return replace(grade, per_item=per_object.tolist()), len(single)


def _item(identity: str, group: Sequence[Sample], prompt: str, images: int) -> Item:
    first = group[0]
    return Item(
        id=identity,
        image=first.images[0],
        prompt=prompt,
        references=tuple(sample.meta["expression"] for sample in group),
        cluster=str(first.meta.get("image_id", first.images[0])),
        answer="caption",
        boxes=((first.meta["box"],),),
        size=first.meta.get("size"),
        split=first.meta.get("split"),
        meta={"images": images},
    )


def _ascii(references: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.encode("ascii", "ignore").decode() for text in references)


BENCHMARK = Benchmark(
    name="reg",
    description="an expression for a boxed object, CIDEr, METEOR, BLEU, ROUGE-L (RefCOCO files)",
    metric="CIDEr",
    variants=VARIANTS,
    prompt=PROMPT,
    answer="caption",
    files=FILES,
    result_format='[{"ref_id": ..., "sent": "..."}]',
    holds="referring expressions",
    locate=with_instances(FILES),
    read=read,
    grade=grade,
    constant=central_caption,
    load=text_loader("ref_id", "sent"),
)

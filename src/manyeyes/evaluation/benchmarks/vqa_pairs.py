"""Questions and annotations in VQAv2's pair of files; shared by `vqa` and `exact`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, load_samples
from manyeyes.evaluation.contract import Item
from manyeyes.records import Sample

PROMPT = "{question}"

_QUESTIONS = (
    "annotations/vqa_{split}_questions.json",
    "annotations/v2_OpenEnded_mscoco_{split}_questions.json",
    "v2_OpenEnded_mscoco_{split}_questions.json",
    "OpenEnded_mscoco_{split}_questions.json",
)
_ANNOTATIONS = (
    "annotations/vqa_{split}_annotations.json",
    "annotations/v2_mscoco_{split}_annotations.json",
    "v2_mscoco_{split}_annotations.json",
    "mscoco_{split}_annotations.json",
)
FILES = (*_QUESTIONS, *_ANNOTATIONS)

_BREAKDOWNS = ("question_type", "answer_type")


def locate(source: Source) -> list[Path]:
    """The questions' and the annotations' file of a split."""
    return [
        find_file(source, _QUESTIONS, "VQA questions"),
        find_file(source, _ANNOTATIONS, "VQA annotations"),
    ]


def read_pairs(
    paths: Sequence[Path], prompt: str, references: Callable[[Sample], tuple[str, ...]]
) -> list[Item]:
    """One item per question; ``references`` picks the accepted answers from a sample."""
    questions, annotations = expect_files(paths, "questions", "annotations")
    samples = load_samples(questions, "vqa", annotations=annotations)
    return [
        Item(
            id=sample.id,
            image=sample.images[0],
            prompt=prompt.format(question=sample.meta["question"]),
            references=references(sample),
            cluster=str(sample.meta["image_id"]),
            groups={key: sample.meta[key] for key in _BREAKDOWNS if key in sample.meta},
        )
        for sample in samples
    ]


def majority_answers(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The most frequent reference of each item's question type (ties: first in the alphabet).

    Types that were not counted get the most frequent reference of all.
    """
    overall: Counter[str] = Counter()
    by_type: dict[str, Counter[str]] = {}
    for item in counted:
        overall.update(item.references)
        by_type.setdefault(item.groups.get("question_type", ""), Counter()).update(item.references)
    chosen = {kind: _most_frequent(counts) for kind, counts in by_type.items()}
    fallback = _most_frequent(overall)
    return [chosen.get(item.groups.get("question_type", ""), fallback) for item in items]


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))

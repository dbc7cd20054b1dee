"""Questions and annotations in VQAv2's pair of files: the benchmarks that are read from them.

`vqa_benchmark` is the whole of VQA accuracy; `exact` and OK-VQA take the parts they need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, load_samples
from manyeyes.evaluation.benchmarks.measures import mean_score, most_frequent
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.scorers.vqa import VQA_VARIANTS, rule_for, vqa_accuracy
from manyeyes.inference.questions import Item
from manyeyes.records import Sample

RESULT_FORMAT = '[{"question_id": ..., "answer": "..."}]'

_BREAKDOWNS = ("question_type", "answer_type")
_KEPT = ("raw_answers",)


@dataclass(frozen=True)
class PairFiles:
    """The accepted names of both files, with ``{split}`` to be filled in."""

    questions: tuple[str, ...]
    annotations: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, questions first."""
        return (*self.questions, *self.annotations)

    def locate(self, source: Source) -> list[Path]:
        """The questions' and the annotations' file of a split."""
        return [
            find_file(source, self.questions, "VQA questions"),
            find_file(source, self.annotations, "VQA annotations"),
        ]


GENERIC = PairFiles(
    questions=(
        "annotations/vqa_{split}_questions.json",
        "annotations/v2_OpenEnded_mscoco_{split}_questions.json",
        "v2_OpenEnded_mscoco_{split}_questions.json",
        "OpenEnded_mscoco_{split}_questions.json",
    ),
    annotations=(
        "annotations/vqa_{split}_annotations.json",
        "annotations/v2_mscoco_{split}_annotations.json",
        "v2_mscoco_{split}_annotations.json",
        "mscoco_{split}_annotations.json",
    ),
)
"""The world's own files, or those of VQAv2 or OK-VQA."""


def vqa_benchmark(
    name: str,
    description: str,
    files: PairFiles | None,
    variants: Sequence[str] = tuple(VQA_VARIANTS),
) -> Benchmark:
    """VQA accuracy over a pair of files (None: over others); first the default of ``variants``."""
    return Benchmark(
        name=name,
        description=description,
        variants=tuple(variants),
        files=() if files is None else files.names,
        result_format=RESULT_FORMAT,
        locate=None if files is None else files.locate,
        read=read_all_answers,
        grade=grade_vqa,
        constant=majority_answers,
        load=text_loader("question_id", "answer"),
    )


def read_all_answers(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; its references are the human answers."""
    return read_pairs(paths, prompt, lambda sample: tuple(sample.meta["answers"]))


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
            meta={key: sample.meta[key] for key in _KEPT if key in sample.meta},
        )
        for sample in samples
    ]


def grade_vqa(answers: Answers) -> Grade:
    """VQA accuracy in 0..100, by question type and answer type.

    Where questions have fewer than four answers the rule's name and a note say so.
    """
    values = [
        0.0 if text is None else vqa_accuracy(text, item.references, answers.variant)
        for item, text in zip(answers.items, answers.texts, strict=True)
    ]
    counts = [len(item.references) for item in answers.items]
    rule, note = rule_for(counts, answers.variant)
    score = mean_score("accuracy", values, answers.items)
    return Grade((score,), values, notes=(note,) * bool(note), rule=rule)


def majority_answers(
    items: Sequence[Item],
    counted: Sequence[Item],
    box_style: str,
    *,
    breakdown: str = "question_type",
) -> list[str]:
    """The most frequent reference in each item's group (ties: first in the alphabet).

    Groups that were not counted get the most frequent reference of all.
    """
    overall: Counter[str] = Counter()
    by_group: dict[str, Counter[str]] = {}
    for item in counted:
        overall.update(item.references)
        by_group.setdefault(item.groups.get(breakdown, ""), Counter()).update(item.references)
    chosen = {group: most_frequent(counts) for group, counts in by_group.items()}
    fallback = most_frequent(overall)
    return [chosen.get(item.groups.get(breakdown, ""), fallback) for item in items]

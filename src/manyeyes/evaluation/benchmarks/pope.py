"""POPE: yes/no questions about objects; the random, popular and adversarial sets together.

Whatever sets the data folder holds are scored; each is also given alone (breakdown ``set``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import find_sets, load_samples, record_rows
from manyeyes.evaluation.benchmarks.measures import (
    Corpus,
    corpus_scores,
    majority_candidate,
    mean_score,
)
from manyeyes.evaluation.benchmarks.results import is_own, row_text, text_loader
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.pope import POPE_VARIANTS, parse_yes_no, pope_answers
from manyeyes.inference.questions import Item

SETS = ("random", "popular", "adversarial")
_FILES = {
    name: (
        f"annotations/pope_{name}_{{split}}.jsonl",
        f"annotations/coco_pope_{name}.json",
        f"coco_pope_{name}.json",
    )
    for name in SETS
}
FILES = tuple(pattern for patterns in _FILES.values() for pattern in patterns)

_CORPUS_METRICS = ("precision", "recall", "f1", "yes_ratio")


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per line of every file; ids are ``SET/QUESTION_ID`` where there are several files.

    The set is the one that the file's name holds, else the name itself.
    """
    items = []
    for path in paths:
        name = next((name for name in SETS if name in path.name), path.stem)
        for sample in load_samples(path, "pope"):
            items.append(
                Item(
                    id=f"{name}/{sample.id}" if len(paths) > 1 else sample.id,
                    image=sample.images[0],
                    prompt=prompt.format(question=sample.meta["question"]),
                    references=(sample.meta["label"],),
                    cluster=str(sample.meta["image"]),
                    groups={"set": name},
                    candidates=("yes", "no"),
                )
            )
    return items


def grade(answers: Answers) -> Grade:
    """Accuracy, precision, recall, F1 and yes ratio in 0..100, each also by set."""
    items = answers.items
    parsed = [None if t is None else parse_yes_no(t, answers.variant) for t in answers.texts]
    labels = [item.references[0] for item in items]
    compared = pope_answers(parsed, labels)
    right = compared.right.tolist()

    def values(weights: FloatArray) -> list[float]:
        metrics = compared.metrics(weights)
        return [100.0 * float(getattr(metrics, name)) for name in _CORPUS_METRICS]

    corpus = Corpus(_CORPUS_METRICS, values)
    scores = (mean_score("accuracy", right, items), *corpus_scores(corpus, items))
    counts = Counter(item.groups["set"] for item in items)
    notes = (f"questions by set: {', '.join(f'{name} {n}' for name, n in counts.items())}",)
    missing = sum(text is None for text in answers.texts)
    return Grade(scores, right, parsed.count(None) - missing, notes, corpus)


def load(path: Path) -> dict[str, Prediction]:
    """Rows with ``question_id`` and ``answer``, or the official rows, which hold no id.

    Those are matched by line, as the official script does: its question ids are 1, 2, 3, ...
    """
    document = open_document(path)
    if document.layout != "object":
        rows = list(record_rows(document))
        if rows and not any(_ID in row.value or is_own(row) for row in rows):
            return {str(number): row_text(row, _ANSWER) for number, row in enumerate(rows, start=1)}
    return _load_by_id(path)


_ID, _ANSWER = "question_id", "answer"
_load_by_id = text_loader(_ID, _ANSWER)


BENCHMARK = Benchmark(
    name="pope",
    description="object hallucination, yes/no (POPE: random, popular, adversarial)",
    variants=tuple(POPE_VARIANTS),
    files=FILES,
    result_format='JSON lines {"question_id": ..., "answer": "..."}',
    locate=partial(find_sets, sets=_FILES, what=f"POPE questions ({', '.join(SETS)})"),
    read=read,
    grade=grade,
    constant=majority_candidate,
    load=load,
)

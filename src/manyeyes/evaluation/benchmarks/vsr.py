"""VSR (Liu et al. 2023): is a statement about where two things are true of the image?

JSON lines, ``splits/{random,zeroshot}/{train,dev,test}.jsonl`` of the official repository
(cambridgeltl/visual-spatial-reasoning); split names here hold the folder ("zeroshot/test"). A row
has no id of its own: its id is its number in the file, from 1. Accuracy over labels 0 and 1, by
relation and by the repository's seven categories of relations; relations that it does not list are
in no category.

The official predictions are one 0 or 1 per line. Answers in words are read as true or false by
their first such word (ours): "official" takes 1, true and yes, 0, false and no, in any letter case,
and anything else is wrong and counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, show
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import (
    record_rows,
    written_image,
)
from manyeyes.evaluation.benchmarks.measures import majority_candidate, mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item
from manyeyes.lines import split_lines

PROMPT = 'Based on the image, is this statement true or false? "{caption}"'
FILES = (
    *("annotations/vsr_{split}.jsonl", "vsr_{split}.jsonl"),
    *("splits/{split}.jsonl", "splits/zeroshot/{split}.jsonl", "splits/random/{split}.jsonl"),
)

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "adjacency": (
        *("adjacent to", "against", "ahead of", "alongside", "at the back of", "at the edge of"),
        *("at the left side of", "at the right side of", "at the side of", "attached to"),
    ),
    "directional": (
        *("across", "across from", "along", "around", "away from", "deep down", "down"),
        *("down from", "from", "into", "off", "past", "through", "to", "toward", "up"),
    ),
    "orientation": ("facing", "facing away from", "parallel to", "perpendicular to"),
    "projective": (
        *("above", "behind", "below", "beneath", "beside", "in front of", "in the middle of"),
        *("left of", "on top of", "over", "right of", "under"),
    ),
    "proximity": ("by", "close to", "far away from", "far from", "near"),
    "topological": (
        *("at", "between", "connected to", "consists of", "contains", "detached from"),
        *("has as a part", "in", "inside", "on", "out of", "outside", "part of", "surrounding"),
        *("touching", "with", "within"),
    ),
    # "among" is listed as topological too; the official script takes the later of the two
    "unallocated": ("after", "among", "beyond", "enclosed by", "next to", "opposite to"),
}
"""Category -> relations, after ``rel_meta_category_dict.txt`` of the official repository."""

_CATEGORY_OF = {relation: name for name, relations in CATEGORIES.items() for relation in relations}
_TRUTH = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0}
_WORD = re.compile(r"\b(1|true|yes|0|false|no)\b", re.IGNORECASE)


def read(path: Path, prompt: str) -> list[Item]:
    """One item per statement; its reference is "true" or "false"."""
    rows = record_rows(open_document(path))
    return [_item(str(number), row, prompt) for number, row in enumerate(rows, start=1)]


def parse_truth(text: str) -> int | None:
    """0 or 1 by the first word that says so, or None."""
    found = _WORD.search(text)
    return _TRUTH[found.group(1).lower()] if found else None


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, by relation and by category."""
    parsed = [None if text is None else parse_truth(text) for text in answers.texts]
    labels = [_TRUTH[item.references[0]] for item in answers.items]
    right = [float(a == b) for a, b in zip(parsed, labels, strict=True)]
    given = sum(text is not None for text in answers.texts)
    failures = given - sum(answer is not None for answer in parsed)
    return Grade((mean_score("accuracy", right, answers.items),), right, failures)


def load(path: Path) -> dict[str, Prediction]:
    """The official lines of 0 and 1, or rows with ``id`` (the row's number) and ``answer``."""
    lines = _lines(path)
    if lines and all(line in ("0", "1") for line in lines):
        return {str(number): line for number, line in enumerate(lines, start=1)}
    return _load_rows(path)


_load_rows = text_loader("id", "answer")


def _lines(path: Path) -> list[str]:
    """The stripped lines of a text file, without blank ones at the end; none if it is no text."""
    if not path.is_file():
        return []
    try:
        return [line.strip() for line in split_lines(path.read_text("utf-8").rstrip())]
    except UnicodeDecodeError:
        return []


def _item(identity: str, row: Row, prompt: str) -> Item:
    label = row.get("label", "0 or 1")
    if isinstance(label, bool) or label not in (0, 1):
        raise row.error("label", f"expected 0 or 1, got {show(label)}")
    image = row.text("image")
    relation = row.text("relation").strip()
    groups = {"relation": relation}
    if relation in _CATEGORY_OF:
        groups["category"] = _CATEGORY_OF[relation]
    return Item(
        id=identity,
        image=written_image(row, "image", image),
        prompt=prompt.format(caption=row.text("caption").strip()),
        references=("true" if label else "false",),
        candidates=("true", "false"),
        cluster=image,
        groups=groups,
    )


BENCHMARK = Benchmark(
    name="vsr",
    description="true or false statements about spatial relations (VSR)",
    prompt=PROMPT,
    files=FILES,
    result_format='lines of 0 and 1, or JSON lines {"id": ROW NUMBER, "answer": "..."}',
    holds="VSR statements",
    read_one=read,
    grade=grade,
    constant=majority_candidate,
    load=load,
)

"""What a few answers of every arm came from: pages of `manyeyes explain`, kept with its records.

    OUT/records/ARM/evidence.json   question, answer and page of each; of seed 0 alone

Every arm explains its answers to the same questions, which are chosen before anything is answered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from manyeyes.errors import ManyEyesError
from manyeyes.files import write_text
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.study.explanation.explain import explain
from manyeyes.study.explanation.page import render_explanation
from manyeyes.study.trials.arms import Progress

EVIDENCE_FILE = "evidence.json"
MOST = 3
"""Benchmarks of which one answer is explained."""


@dataclass(frozen=True)
class Evidence:
    """One explained answer; ``page`` is self-contained HTML."""

    benchmark: str
    question: str
    answer: str
    page: str


def evidence_items(questions: Mapping[str, Sequence[Item]]) -> dict[str, Item]:
    """Return one question of each of the first `MOST` benchmarks, by a hash of its id."""
    chosen = list(questions.items())[:MOST]
    alone = {n: [i for i in items if not (i.more_images or i.before)] for n, items in chosen}
    return {name: min(items, key=_order) for name, items in alone.items() if items}


def _order(item: Item) -> str:
    return hashlib.sha256(item.id.encode()).hexdigest()


def keep_evidence(
    predictor: ModelPredictor,
    items: Mapping[str, Item],
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Explain a trained arm's answers to ``items`` and write them into ``folder``.

    A question that cannot be asked alone is left out.
    """
    found = []
    for number, (benchmark, item) in enumerate(items.items()):
        if progress is not None:
            progress("explaining answers", number, len(items))
        try:
            explained = explain(predictor, item.image, item.prompt, kind=item.answer)
        except ManyEyesError:
            continue
        page = render_explanation(explained)
        found.append(Evidence(benchmark, item.prompt, explained.answer, page))
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(evidence) for evidence in found]
    write_text(folder / EVIDENCE_FILE, json.dumps(rows, ensure_ascii=False) + "\n")


def kept_evidence(folder: Path) -> list[Evidence]:
    """Return what `keep_evidence` wrote into ``folder``; nothing where it wrote nothing."""
    path = folder / EVIDENCE_FILE
    if not path.is_file():
        return []
    return [Evidence(**row) for row in json.loads(path.read_text(encoding="utf-8"))]

"""Question and annotation files in VQAv2's layout, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> Path:
    """Write JSON, with the folders that are missing; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_questions(path: Path, number: int) -> Path:
    """So many questions, ids from 1, two on each image."""
    rows = [
        {"question_id": n, "image_id": 40 + n // 2, "question": f"What is it, {n}?"}
        for n in range(1, number + 1)
    ]
    return write_json(path, {"data_subtype": "val2014", "questions": rows})


def write_annotations(
    path: Path, answers: Sequence[Sequence[str]], extra: Mapping[str, Any] | None = None
) -> Path:
    """The human answers of each question; ``extra`` keys go to every annotation."""
    rows = [
        {
            "question_id": number,
            "image_id": 40 + number // 2,
            "question_type": "what",
            "answer_type": "other",
            "answers": [
                {"answer": text, "answer_confidence": "yes", "answer_id": place}
                for place, text in enumerate(texts, start=1)
            ],
            **(extra or {"multiple_choice_answer": texts[0]}),
        }
        for number, texts in enumerate(answers, start=1)
    ]
    return write_json(path, {"data_subtype": "val2014", "annotations": rows})


def write_answers(path: Path, texts: Sequence[str]) -> Path:
    """The official result file."""
    rows = [{"question_id": n, "answer": text} for n, text in enumerate(texts, start=1)]
    return write_json(path, rows)

"""SEED-Bench's file: ``annotations/SEED-Bench.json``, four options by type of question.

``data_id`` is the picture's path. The file knows no splits, so it is made of the test split.
"""

from __future__ import annotations

from collections.abc import Sequence

from manyeyes.world.emit.choices import choice_questions
from manyeyes.world.emit.split import SplitWorld, evaluated, file_name
from manyeyes.world.emit.text import Files, json_bytes

TYPES = {
    "Scene Understanding": 1,
    "Instance Identity": 2,
    "Instance Attributes": 3,
    "Instance Location": 4,
    "Instances Counting": 5,
    "Spatial Relation": 6,
    "Instance Interaction": 7,
    "Visual Reasoning": 8,
    "Text Understanding": 9,
}
_OF_KIND = {"count": 5, "mark": 9, "related": 6, "shape": 2}
_ATTRIBUTES = 3


def emit_seed_bench(worlds: Sequence[SplitWorld]) -> Files:
    """Write every question that has four options."""
    rows = []
    for asked in choice_questions(evaluated(worlds)):
        choices = {f"choice_{letter}": o for letter, o in zip("abcd", asked.options, strict=True)}
        rows.append(
            {
                "question_id": str(asked.number),
                "question_type_id": _OF_KIND.get(asked.question.kind, _ATTRIBUTES),
                "data_type": "image",
                "data_id": file_name(asked.scene),
                "question": asked.question.text,
                **choices,
                "answer": asked.letter,
            }
        )
    content = {"questions": rows, "question_type": TYPES}
    return {"annotations/SEED-Bench.json": json_bytes(content)}

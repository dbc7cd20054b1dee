"""A-OKVQA's lists: ``annotations/aokvqa_v1p0_{split}.json``, four choices and ten direct answers.

Questions are those with at least four fitting answers. Rationales are captions of the picture. Its
file name stands under ``image``; the official files have only ``image_id``.
"""

from __future__ import annotations

from typing import Any

from manyeyes.world.emit.choices import ChoiceQuestion, choice_questions
from manyeyes.world.emit.split import SplitWorld, file_name, image_id
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.emit.vqa import ANSWERS
from manyeyes.world.language.words import capitalize

RATIONALES = 3


def emit_aokvqa(world: SplitWorld) -> Files:
    """Write every question of the split that has four options."""
    captions = dict(zip((image_id(scene) for scene in world.scenes), world.captions, strict=True))
    rows = [
        _row(asked, captions[image_id(asked.scene)][:RATIONALES])
        for asked in choice_questions(world)
    ]
    return {f"annotations/aokvqa_v1p0_{world.name}.json": json_bytes(rows)}


def _row(asked: ChoiceQuestion, captions: list[str]) -> dict[str, Any]:
    return {
        "split": asked.scene.split,
        "image_id": image_id(asked.scene),
        "image": file_name(asked.scene),
        "question_id": str(asked.number),
        "question": asked.question.text,
        "choices": list(asked.options),
        "correct_choice_idx": asked.right,
        "direct_answers": [asked.question.answer] * ANSWERS,
        "difficult_direct_answer": False,
        "rationales": [capitalize(caption) for caption in captions],
    }

"""VQAv2's pair of files: ``annotations/vqa_{split}_{questions,annotations}.json``.

Ten equal answers per question, because the program gives the one right answer. Questions carry the
picture's file name under ``image``, which the official files do not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from manyeyes.world.emit.split import SplitWorld, file_name, image_id
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.language.object_questions import Question
from manyeyes.world.scene import Scene

ANSWERS = 10


def emit_vqa(world: SplitWorld) -> Files:
    """Write up to six questions per image with their answers."""
    head = {
        "info": {"description": f"manyeyes world, {world.name}", "seed": world.seed},
        "data_type": "manyeyes_world",
        "data_subtype": world.name,
        "license": {},
    }
    questions = [
        {
            "image_id": image_id(scene),
            "question": question.text,
            "question_id": number,
            "image": file_name(scene),
        }
        for scene, number, question in asked(world)
    ]
    annotations = [_annotation(scene, number, question) for scene, number, question in asked(world)]
    stem = f"annotations/vqa_{world.name}"
    return {
        f"{stem}_questions.json": json_bytes(
            {**head, "task_type": "Open-Ended", "questions": questions}
        ),
        f"{stem}_annotations.json": json_bytes({**head, "annotations": annotations}),
    }


def asked(world: SplitWorld) -> Iterator[tuple[Scene, int, Question]]:
    """Yield every question of the split with its scene and its id (10 x image id + 0..9)."""
    for scene, questions in zip(world.scenes, world.questions, strict=True):
        for number, question in enumerate(questions):
            yield scene, image_id(scene) * 10 + number, question


def answer_type(answer: str) -> str:
    """Return VQAv2's answer type: "yes/no", "number" or "other"."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def _annotation(scene: Scene, number: int, question: Question) -> dict[str, Any]:
    answers = [
        {"answer": question.answer, "answer_confidence": "yes", "answer_id": identity}
        for identity in range(1, ANSWERS + 1)
    ]
    return {
        "question_id": number,
        "image_id": image_id(scene),
        "question_type": question.kind,
        "answer_type": answer_type(question.answer),
        "multiple_choice_answer": question.answer,
        "answers": answers,
    }

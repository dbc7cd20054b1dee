"""VisDial's files: ``annotations/visdial_1.0_{split}.json`` and its dense annotations.

A dialog is a caption and ten questions about one image, each with 100 candidate answers: the right
one and 99 out of all short answers and names of objects. Scenes too simple for ten questions have
none. The dense annotations judge one round of each dialog; only the right answer is relevant. The
picture's file name stands under ``image``, which the official files do not have. Every split but
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from manyeyes.world.emit.split import SplitWorld, file_name, image_id, talk
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.language.object_questions import Question
from manyeyes.world.language.questions import questions
from manyeyes.world.language.words import ATTRIBUTES
from manyeyes.world.sample import MAX_OBJECTS
from manyeyes.world.scene import COLORS, SHAPES, SIZES, Scene

ROUNDS = 10
CANDIDATES = 100

POOL: tuple[str, ...] = tuple(
    dict.fromkeys(
        [
            *("yes", "no"),
            *(str(number) for number in range(MAX_OBJECTS + 1)),
            *(value for values in ATTRIBUTES.values() for value in values),
            *(" ".join(words) for words in product(COLORS, SHAPES)),
            *(" ".join(words) for words in product(SIZES, COLORS, SHAPES)),
        ]
    )
)
"""What the wrong candidates are drawn from."""


def emit_visdial(world: SplitWorld) -> Files:
    """Write a dialog for every image that allows ten questions."""
    if world.name == "train":
        return {}
    texts: dict[str, dict[str, int]] = {"questions": {}, "answers": {}}
    dialogs, relevance = [], []
    for scene, captions in zip(world.scenes, world.captions, strict=True):
        found = questions(scene, talk(scene, "visdial"), ROUNDS)
        if len(found) == ROUNDS:
            rounds = [_round(scene, question, texts) for question in found]
            entry = {"image_id": image_id(scene), "image": file_name(scene)}
            dialogs.append({**entry, "caption": captions[0].rstrip("."), "dialog": rounds})
            relevance.append(_relevance(scene, rounds))
    data = {**{name: list(known) for name, known in texts.items()}, "dialogs": dialogs}
    stem = f"annotations/visdial_1.0_{world.name}"
    return {
        f"{stem}.json": json_bytes({"version": "1.0", "split": world.name, "data": data}),
        f"{stem}_dense_annotations.json": json_bytes(relevance),
    }


def _round(scene: Scene, question: Question, texts: dict[str, dict[str, int]]) -> dict[str, Any]:
    """One round; questions and answers are named by their places in the lists of all texts."""
    rng = talk(scene, f"visdial-{question.text}")
    wrong = [answer for answer in POOL if answer != question.answer]
    options = [*rng.sample(wrong, CANDIDATES - 1), question.answer]
    rng.shuffle(options)
    answers = texts["answers"]
    return {
        "question": _place(texts["questions"], question.text.rstrip("?")),
        "answer": _place(answers, question.answer),
        "gt_index": options.index(question.answer),
        "answer_options": [_place(answers, option) for option in options],
    }


def _place(known: dict[str, int], text: str) -> int:
    return known.setdefault(text, len(known))


def _relevance(scene: Scene, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    number = talk(scene, "visdial-dense").randrange(len(rounds))
    values = [0.0] * CANDIDATES
    values[rounds[number]["gt_index"]] = 1.0
    return {"image_id": image_id(scene), "round_id": number + 1, "gt_relevance": values}

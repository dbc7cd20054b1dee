"""POPE's three files: ``annotations/pope_{random,popular,adversarial}_{split}.jsonl``."""

from __future__ import annotations

from manyeyes.world.emit.split import SplitWorld, file_name, talk
from manyeyes.world.emit.text import Files, jsonl_bytes
from manyeyes.world.language.presence import STRATEGIES, label_statistics, presence_questions


def emit_pope(world: SplitWorld) -> Files:
    """Write six questions per image that holds three different labels, yes and no in turn."""
    statistics = label_statistics(world.scenes)
    files = {}
    for strategy in STRATEGIES:
        found = [
            (scene, question)
            for scene in world.scenes
            for question in presence_questions(
                scene, statistics, strategy, talk(scene, f"pope-{strategy}")
            )
        ]
        rows = [
            {
                "question_id": number,
                "image": file_name(scene),
                "text": question.text,
                "label": question.answer,
            }
            for number, (scene, question) in enumerate(found, start=1)
        ]
        files[f"annotations/pope_{strategy}_{world.name}.jsonl"] = jsonl_bytes(rows)
    return files

"""GQA's files: ``annotations/gqa_{split}_{questions,scenegraphs,choices}.json``.

The questions are those of ``vqa_{split}``, here with their programs under ``semantic`` (operation,
argument, dependencies). ``imageId`` is the picture's path without its ending: "test/000012"; the
whole path stands under ``image``, which the official files do not have.
All questions are balanced when they are made, so ``isBalanced`` is true throughout; which questions
follow from which others is not worked out, so each one entails only itself.
"""

from __future__ import annotations

from typing import Any

from manyeyes.world.emit.choices import valid_answers
from manyeyes.world.emit.scenes import relationships, xywh
from manyeyes.world.emit.split import SplitWorld, file_name
from manyeyes.world.emit.text import Files, json_bytes
from manyeyes.world.emit.vqa import asked
from manyeyes.world.language.object_questions import Question
from manyeyes.world.language.programs import Step
from manyeyes.world.language.words import RELATION_WORDS
from manyeyes.world.scene import Scene

TYPES: dict[str, tuple[str, str]] = {
    "color": ("query", "attr"),
    "compare": ("compare", "global"),
    "count": ("query", "global"),
    "exist": ("verify", "obj"),
    "larger": ("choose", "attr"),
    "mark": ("query", "attr"),
    "related": ("query", "rel"),
    "relation": ("verify", "rel"),
    "shape": ("query", "cat"),
    "size": ("query", "attr"),
    "texture": ("query", "attr"),
}
"""GQA's (structural, semantic) type of each kind of question."""


def emit_gqa(world: SplitWorld) -> Files:
    """Write questions, scene graphs and the valid and plausible answers."""
    questions, choices = {}, {}
    plausible: dict[str, set[str]] = {}
    for _, _, question in asked(world):
        plausible.setdefault(question.kind, set()).add(question.answer)
    for scene, number, question in asked(world):
        questions[str(number)] = _question(scene, str(number), question)
        choices[str(number)] = {
            "valid": sorted(valid_answers(question)),
            "plausible": sorted(plausible[question.kind]),
        }
    stem = f"annotations/gqa_{world.name}"
    return {
        f"{stem}_questions.json": json_bytes(questions),
        f"{stem}_scenegraphs.json": json_bytes({_name(s): _graph(s) for s in world.scenes}),
        f"{stem}_choices.json": json_bytes(choices),
    }


def _name(scene: Scene) -> str:
    return file_name(scene).removesuffix(".png")


def _question(scene: Scene, number: str, question: Question) -> dict[str, Any]:
    structural, semantic = TYPES[question.kind]
    program = [_operation(step) for step in question.program]
    return {
        "question": question.text,
        "imageId": _name(scene),
        "image": file_name(scene),
        "answer": question.answer,
        "fullAnswer": question.answer,
        "isBalanced": True,
        "groups": {"global": question.kind, "local": f"{question.kind}-{question.answer}"},
        "entailed": [number],
        "equivalent": [number],
        "types": {"structural": structural, "semantic": semantic, "detailed": question.kind},
        "annotations": {"question": {}, "answer": {}, "fullAnswer": {}},
        "semantic": program,
        "semanticStr": "->".join(f"{p['operation']}: {p['argument']}" for p in program),
    }


def _operation(step: Step) -> dict[str, Any]:
    """Write a step with GQA's names: "select", "filter color", "query: size", ..."""
    operation = "select" if step.function == "scene" else step.function.replace("_", " ", 1)
    argument = "object" if step.function == "scene" else step.value
    return {"operation": operation, "argument": argument, "dependencies": list(step.inputs)}


def _graph(scene: Scene) -> dict[str, Any]:
    sides = relationships(scene)
    objects = {}
    for position, item in enumerate(scene.objects):
        x, y, w, h = xywh(item)
        objects[str(position)] = {
            "name": item.shape,
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "attributes": [item.color, item.size, item.texture, item.mark],
            "relations": [
                {"object": str(other), "name": RELATION_WORDS[side]}
                for side, anchors in sides.items()
                for other, subjects in enumerate(anchors)
                if position in subjects
            ],
        }
    return {"width": scene.width, "height": scene.height, "objects": objects}

"""MMBench's table: ``annotations/mmbench_{split}.tsv``, for every split but training.

The first question about an image carries it in base64, the others its index, as the published
tables do. Rotations are left to the scorer. Questions have two to four options.
"""

from __future__ import annotations

import base64
from string import ascii_uppercase

from manyeyes.world.emit.choices import choice_questions
from manyeyes.world.emit.pictures import png_bytes
from manyeyes.world.emit.split import SplitWorld, image_id
from manyeyes.world.emit.text import Files, table_bytes

COLUMNS = (
    *("index", "question", "hint", *"ABCD", "answer", "category"),
    *("image", "source", "l2-category", "comment", "split"),
)
_ONE, _SEVERAL = (
    f"finegrained_perception ({name})" for name in ("instance-level", "cross-instance")
)
ABILITIES: dict[str, tuple[str, str]] = {
    "color": ("attribute_recognition", _ONE),
    "compare": ("attribute_comparison", _SEVERAL),
    "count": ("object_localization", _ONE),
    "exist": ("image_scene", "coarse_perception"),
    "larger": ("attribute_comparison", _SEVERAL),
    "mark": ("attribute_recognition", _ONE),
    "related": ("spatial_relationship", _SEVERAL),
    "relation": ("spatial_relationship", _SEVERAL),
    "shape": ("attribute_recognition", _ONE),
    "size": ("attribute_recognition", _ONE),
    "texture": ("attribute_recognition", _ONE),
}
"""MMBench's category and l2-category that come nearest to each kind of question."""


def emit_mmbench(world: SplitWorld) -> Files:
    """Write every question of the split that has options."""
    if world.name == "train":
        return {}
    rows: list[dict[str, object]] = []
    first: dict[int, int] = {}
    for index, asked in enumerate(choice_questions(world, least=2), start=1):
        known = first.setdefault(image_id(asked.scene), index)
        image = base64.b64encode(png_bytes(asked.scene)).decode() if known == index else str(known)
        category, ability = ABILITIES[asked.question.kind]
        rows.append(
            {
                "index": index,
                "question": asked.question.text,
                **dict(zip(ascii_uppercase, asked.options, strict=False)),
                "answer": asked.letter,
                "category": category,
                "image": image,
                "l2-category": ability,
                "split": world.name,
            }
        )
    return {f"annotations/mmbench_{world.name}.tsv": table_bytes(COLUMNS, rows, delimiter="\t")}

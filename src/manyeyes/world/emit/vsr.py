"""VSR's JSON lines: ``annotations/vsr_{split}.jsonl``, one true or false statement per image.

The two validator keys are strings that look like lists, as in the official files.
"""

from __future__ import annotations

from manyeyes.world.emit.split import SplitWorld, file_name, talk
from manyeyes.world.emit.text import Files, jsonl_bytes
from manyeyes.world.language.statements import statement
from manyeyes.world.language.words import RELATION_WORDS

_ANNOTATOR = 0


def emit_vsr(world: SplitWorld) -> Files:
    """Write a statement for every image in which two objects can be told apart and compared."""
    drawn = ((scene, statement(scene, talk(scene, "vsr"))) for scene in world.scenes)
    rows = [
        {
            "image": file_name(scene),
            "image_link": "",
            "caption": claim.text,
            "label": int(claim.true),
            "relation": RELATION_WORDS[claim.relation],
            "annotator_id": _ANNOTATOR,
            "vote_true_validator_id": f"[{_ANNOTATOR}]" if claim.true else "[]",
            "vote_false_validator_id": "[]" if claim.true else f"[{_ANNOTATOR}]",
        }
        for scene, claim in drawn
        if claim is not None
    ]
    return {f"annotations/vsr_{world.name}.jsonl": jsonl_bytes(rows)}

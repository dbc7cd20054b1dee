"""Oracle tags: what is true of each picture, in the form of a tags file: ``tags/{split}.jsonl``."""

from __future__ import annotations

import json

from manyeyes.world.emit.split import SplitWorld, file_name
from manyeyes.world.emit.text import Files
from manyeyes.world.language.tags import tags_of


def emit_tags(world: SplitWorld) -> Files:
    """Write the tags that a perfect tagger of the world would give, see ``language.tags``."""
    lines = [
        json.dumps({"image": file_name(scene), "tags": tags_of(scene)}) for scene in world.scenes
    ]
    return {f"tags/{world.name}.jsonl": ("\n".join(lines) + "\n").encode()}

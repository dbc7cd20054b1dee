"""From scenes to the public file formats: one file of this folder per format.

An emitter takes one split and returns file contents by path; RefCOCO's pickle holds all splits.
"""

from __future__ import annotations

from collections.abc import Callable

from manyeyes.world.emit.coco import emit_captions, emit_instances
from manyeyes.world.emit.gqa import emit_gqa
from manyeyes.world.emit.llava import emit_llava, emit_llava_captions
from manyeyes.world.emit.pope import emit_pope
from manyeyes.world.emit.refs import emit_refcoco, emit_refs
from manyeyes.world.emit.scenes import emit_scenes
from manyeyes.world.emit.split import SplitWorld, file_name, image_id
from manyeyes.world.emit.text import Files
from manyeyes.world.emit.vqa import emit_vqa
from manyeyes.world.emit.vsr import emit_vsr

EMITTERS: dict[str, Callable[[SplitWorld], Files]] = {
    "coco-captions": emit_captions,
    "coco-instances": emit_instances,
    "gqa": emit_gqa,
    "llava": emit_llava,
    "llava-captions": emit_llava_captions,
    "pope": emit_pope,
    "refs": emit_refs,
    "scenes": emit_scenes,
    "vqa": emit_vqa,
    "vsr": emit_vsr,
}

__all__ = ["EMITTERS", "Files", "SplitWorld", "emit_refcoco", "file_name", "image_id"]

"""From scenes to the public file formats: one file of this folder per format.

An emitter returns file contents by path: one of a split, or one of all splits together. To add a
format: a module with such a function, and a line in one of the two tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from manyeyes.errors import UsageError, nearest
from manyeyes.world.emit.aokvqa import emit_aokvqa
from manyeyes.world.emit.coco import emit_captions, emit_instances
from manyeyes.world.emit.coda import emit_coda
from manyeyes.world.emit.flickr30k_entities import emit_flickr30k_entities
from manyeyes.world.emit.gqa import emit_gqa
from manyeyes.world.emit.gvt import emit_gvt
from manyeyes.world.emit.iconqa import emit_iconqa
from manyeyes.world.emit.karpathy import emit_karpathy
from manyeyes.world.emit.llava import emit_llava, emit_llava_boxes, emit_llava_captions
from manyeyes.world.emit.mmbench import emit_mmbench
from manyeyes.world.emit.mme import emit_mme
from manyeyes.world.emit.mmvp import emit_mmvp
from manyeyes.world.emit.nocaps import emit_nocaps
from manyeyes.world.emit.parquet import emit_parquet
from manyeyes.world.emit.pointqa import emit_pointqa
from manyeyes.world.emit.pope import emit_pope
from manyeyes.world.emit.refs import emit_refcoco, emit_refcoco_more, emit_refs
from manyeyes.world.emit.scenes import emit_scenes
from manyeyes.world.emit.seed_bench import emit_seed_bench
from manyeyes.world.emit.split import SplitWorld, file_name, image_id
from manyeyes.world.emit.tags import emit_tags
from manyeyes.world.emit.text import Files
from manyeyes.world.emit.visdial import emit_visdial
from manyeyes.world.emit.visual7w import emit_visual7w
from manyeyes.world.emit.vqa import emit_vqa
from manyeyes.world.emit.vsr import emit_vsr

SPLIT_EMITTERS: dict[str, Callable[[SplitWorld], Files]] = {
    "aokvqa": emit_aokvqa,
    "coco-captions": emit_captions,
    "coco-instances": emit_instances,
    "coda": emit_coda,
    "flickr30k-entities": emit_flickr30k_entities,
    "gqa": emit_gqa,
    "gvt": emit_gvt,
    "llava": emit_llava,
    "llava-boxes": emit_llava_boxes,
    "llava-captions": emit_llava_captions,
    "mmbench": emit_mmbench,
    "parquet": emit_parquet,
    "pointqa": emit_pointqa,
    "pope": emit_pope,
    "refs": emit_refs,
    "scenes": emit_scenes,
    "tags": emit_tags,
    "visdial": emit_visdial,
    "vqa": emit_vqa,
    "vsr": emit_vsr,
}
"""Formats with files for each split."""

WORLD_EMITTERS: dict[str, Callable[[Sequence[SplitWorld]], Files]] = {
    "iconqa": emit_iconqa,
    "karpathy": emit_karpathy,
    "mme": emit_mme,
    "mmvp": emit_mmvp,
    "nocaps": emit_nocaps,
    "refcoco": emit_refcoco,
    "refcoco-more": emit_refcoco_more,
    "seed-bench": emit_seed_bench,
    "visual7w": emit_visual7w,
}
"""Formats whose files hold all splits, or are made of the one for evaluation."""

FORMATS = (*SPLIT_EMITTERS, *WORLD_EMITTERS)

TRAINING = (
    *("coco-captions", "coco-instances", "gqa", "llava", "llava-boxes", "llava-captions", "pope"),
    *("refcoco", "refs", "scenes", "tags", "vqa", "vsr"),
)
"""What recipes train on and the demo scores."""

STANDARD = (
    *TRAINING,
    *("aokvqa", "coda", "gvt", "iconqa", "karpathy", "seed-bench", "visual7w"),
)
"""The above and those that cost next to nothing: annotations alone, measured +2 % of the time."""

GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(name for name in FORMATS if name != "parquet"),
    "standard": STANDARD,
    "training": TRAINING,
}
"""Names for several formats; ``all`` is without parquet, which needs an extra."""


def chosen_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return the formats that names and groups stand for, each once, in a fixed order.

    Raises ``UsageError`` for an unknown name.
    """
    wanted: set[str] = set()
    known = (*GROUPS, *FORMATS)
    for name in names:
        if name not in known:
            hint = nearest(name, known)
            raise UsageError(f"unknown format {name!r}{hint}; known: {', '.join(known)}")
        wanted.update(GROUPS.get(name, (name,)))
    return tuple(name for name in FORMATS if name in wanted)


def emissions(
    worlds: Sequence[SplitWorld], formats: Sequence[str]
) -> Iterator[Callable[[], Files]]:
    """Yield what makes the files of every format, split by split, then of all splits together."""
    for world in worlds:
        for name, of_split in SPLIT_EMITTERS.items():
            if name in formats:
                yield partial(of_split, world)
    for name, of_all in WORLD_EMITTERS.items():
        if name in formats:
            yield partial(of_all, worlds)


__all__ = [
    "FORMATS",
    "GROUPS",
    "Files",
    "SplitWorld",
    "chosen_formats",
    "emissions",
    "file_name",
    "image_id",
]

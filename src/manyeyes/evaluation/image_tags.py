"""The tags of evaluated images, by path: from a tags file, or from the model's tagger."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from manyeyes.data.tags import TagUse, read_tags, shuffled_tags
from manyeyes.encoders import Tagger
from manyeyes.errors import DataError
from manyeyes.images import load_image
from manyeyes.tagging import tag_images

TagsOf = Callable[[str], tuple[str, ...]]


def tags_from_file(file: Path | None, image_root: Path, use: TagUse, seed: int = 0) -> TagsOf:
    """Return what a tags file says of images; ``use`` as in a recipe's data source.

    Raises:
        DataError: a broken file; when asked, an image that it does not name.
    """
    if file is None or use == "empty":
        return lambda path: ()
    known = {os.path.abspath(path): tags for path, tags in read_tags(file, image_root).items()}
    if use == "shuffled":
        known = shuffled_tags(known, seed, str(file))

    def look_up(path: str) -> tuple[str, ...]:
        if os.path.abspath(path) not in known:
            raise DataError(
                f"has no tags of {path!r}; write the file anew with `manyeyes tag`", file=str(file)
            )
        return known[os.path.abspath(path)]

    return look_up


def tags_from_tagger(tagger: Tagger) -> TagsOf:
    """Return what ``tagger`` says of images, each tagged once."""
    known: dict[str, tuple[str, ...]] = {}

    def look(path: str) -> tuple[str, ...]:
        if path not in known:
            (features,) = tag_images(tagger, [load_image(path)])
            known[path] = features.names[0]
        return known[path]

    return look

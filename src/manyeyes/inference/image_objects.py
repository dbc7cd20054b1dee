"""What evaluated images are said to show, in place of what the model's own detector finds."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from manyeyes.data.annotations.objects import ObjectTable, read_object_table
from manyeyes.data.annotations.per_image import USES, Use
from manyeyes.errors import UsageError, nearest
from manyeyes.model.processing import ManyEyesProcessor


def objects_of_model(
    processor: ManyEyesProcessor,
    data: Path,
    split: str,
    *,
    file: Path | None = None,
    use: str = "given",
) -> ObjectTable | None:
    """Return the objects that a model is told of; None = those that its detector finds.

    They come from ``file`` (COCO's layout, images in ``data / "images"``), or else from the file
    that the recipe's ``perception_text`` names, if it names one. ``use``: as in a recipe.

    Raises:
        UsageError: the model writes no objects, or no such use.
        DataError: a broken file.
    """
    writer = processor.object_writer
    if writer is None:
        if file is not None:
            raise UsageError("--objects: the model writes no detected objects (perception_text)")
        return None
    if use not in USES:
        raise UsageError(f"--objects-use takes {', '.join(USES)}, got {use!r}{nearest(use, USES)}")
    if file is None and writer.options.file is not None:
        file = data / writer.options.file.replace("{split}", split)
        use = use if use != "given" else writer.options.use
    if file is None:
        return None
    return read_object_table(file, data / "images").used_as(cast(Use, use), seed=0)

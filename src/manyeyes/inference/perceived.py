"""What evaluated images are said to show, by path: settled once, before anything is asked.

tags      from a tags file, from the caller, or from the model's own tagger
objects   from a file in COCO's layout; without one the model's own detector looks
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from manyeyes.checkpoints.hub import module_fingerprint
from manyeyes.data.annotations.objects import ObjectTable, read_object_table
from manyeyes.data.annotations.per_image import shuffled
from manyeyes.data.annotations.tags import read_tags
from manyeyes.encoders import FILE, Tagger
from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.images.reading import load_image
from manyeyes.inference.tagging import load_tagger, tag_images, tagger_spec
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import USES, Perceived, Tags, Use


@dataclass(frozen=True)
class ImageTags:
    """``of`` gives the tags of the image at a path; ``identity`` differs where the tags may.

    Answers that were made with other tags are not taken for these (see ``ModelPredictor``).
    """

    of: Callable[[str], tuple[str, ...]]
    identity: str


@dataclass(frozen=True)
class PerceivedImages:
    """Tags and objects of images.

    ``tags``: None = the model is told of none. ``objects``: None = what its detector finds.
    """

    tags: ImageTags | None = None
    objects: ObjectTable | None = None

    def of(self, path: str) -> Perceived:
        """Return what is known of one image before the model has seen it."""
        objects = None if self.objects is None else (self.objects[path],)
        return Perceived(self.tags_of(path), objects)

    def tags_of(self, path: str) -> Tags | None:
        """Return the tags of one image alone."""
        return None if self.tags is None else (self.tags.of(path),)

    @property
    def record(self) -> dict[str, Any]:
        """Where tags and objects come from, for the record of an evaluation."""
        found: dict[str, Any] = {}
        if self.objects is not None:
            digest = hashlib.sha256(repr(sorted(self.objects.items())).encode()).hexdigest()
            found["objects"] = {"file": self.objects.file, "sha256": digest}
        if self.tags is not None:
            found["tags"] = self.tags.identity
        return found


NOTHING_KNOWN = PerceivedImages()


def perceived_in_data(
    model: ManyEyesForConditionalGeneration,
    processor: ManyEyesProcessor,
    data: Path,
    split: str,
    *,
    tags: Path | None = None,
    tags_use: Use = "given",
    objects: Path | None = None,
    objects_use: str = "given",
) -> PerceivedImages:
    """Return what a model is told of the images of a data folder's split.

    See ``tags_in_data`` and ``objects_in_data``.
    """
    return PerceivedImages(
        tags_in_data(model, data, split, file=tags, use=tags_use),
        objects_in_data(processor, data, split, file=objects, use=objects_use),
    )


def tags_in_data(
    model: ManyEyesForConditionalGeneration,
    data: Path,
    split: str,
    *,
    file: Path | None = None,
    use: Use = "given",
) -> ImageTags | None:
    """Return the tags that a model is evaluated with; None for one that reads none.

    They come from ``file``, whose images lie in ``data / "images"``, or else from the model's own
    ``tagger``: its file for ``split``, or what it finds in the images. ``use``: as in a recipe.

    Raises:
        UsageError: there is neither a file nor a tagger.
        DataError, CheckpointError: a broken file or tagger.
    """
    if model.config.tags == "none":
        return None
    spec = tagger_spec(model)
    if file is None and spec is not None and spec.family == FILE:
        file = data / spec.checkpoint.replace("{split}", split)
        use = use if use != "given" else cast(Use, spec.use)
    if file is not None or use == "empty":
        return tags_from_file(file, data / "images", use)
    if spec is None or use == "shuffled":
        raise UsageError("this model reads tags of its images: give their file with --tags")
    return tags_from_tagger(load_tagger(spec).to(model.device))


def named_tags(
    model: ManyEyesForConditionalGeneration, names: Sequence[str] | None
) -> ImageTags | None:
    """Return ``names`` as the tags of every image, or without them what the model's tagger finds.

    None for a model that reads no tags.

    Raises:
        UsageError: tags for a model that reads none, or neither tags nor a tagger.
        CheckpointError: a broken tagger.
    """
    if model.config.tags == "none":
        if names is not None:
            raise UsageError("--tags: this model reads no tags")
        return None
    if names is not None:
        given = tuple(names)
        return ImageTags(lambda path: given, f"given {given!r}")
    spec = tagger_spec(model)
    if spec is None or spec.family == FILE:
        raise UsageError(
            "this model reads tags of its images, and has no tagger: give the image's with --tags"
        )
    return tags_from_tagger(load_tagger(spec).to(model.device))


def tags_from_file(file: Path | None, image_root: Path, use: Use, seed: int = 0) -> ImageTags:
    """Return what a tags file says of images; ``use`` as in a recipe's data source.

    Raises:
        DataError: a broken file; when asked, an image that it does not name.
    """
    if file is None or use == "empty":
        return ImageTags(lambda path: (), "empty")
    known = {os.path.abspath(path): tags for path, tags in read_tags(file, image_root).items()}
    if use == "shuffled":
        known = shuffled(known, seed, str(file))

    def look_up(path: str) -> tuple[str, ...]:
        if os.path.abspath(path) not in known:
            raise DataError(
                f"has no tags of {path!r}; write the file anew with `manyeyes tag`", file=str(file)
            )
        return known[os.path.abspath(path)]

    return ImageTags(look_up, f"{use} {hashlib.sha256(file.read_bytes()).hexdigest()}")


def tags_from_tagger(tagger: Tagger) -> ImageTags:
    """Return what ``tagger`` says of images, each tagged once."""
    known: dict[str, tuple[str, ...]] = {}

    def look(path: str) -> tuple[str, ...]:
        if path not in known:
            (features,) = tag_images(tagger, [load_image(path)])
            known[path] = features.names[0]
        return known[path]

    chosen = (tagger.spec.threshold, tagger.spec.thresholds, tagger.names)
    names = hashlib.sha256(repr(chosen).encode()).hexdigest()
    return ImageTags(look, f"tagger {module_fingerprint(tagger)} {names}")


def objects_in_data(
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
    writer = processor.perception.writer
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

"""The tags of evaluated images, by path: from a tags file, or from the model's tagger."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from manyeyes.checkpoints.hub import module_fingerprint
from manyeyes.data.annotations.per_image import Use, shuffled
from manyeyes.data.annotations.tags import read_tags
from manyeyes.encoders import FILE, Tagger
from manyeyes.errors import DataError, UsageError
from manyeyes.images.reading import load_image
from manyeyes.inference.tagging import own_spec, own_tagger, tag_images
from manyeyes.model.modeling import ManyEyesForConditionalGeneration


@dataclass(frozen=True)
class ImageTags:
    """``of`` gives the tags of the image at a path; ``identity`` differs where the tags may.

    Answers that were made with other tags are not taken for these (see ``ModelPredictor``).
    """

    of: Callable[[str], tuple[str, ...]]
    identity: str


def tags_of_model(
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
    spec = own_spec(model)
    if file is None and spec is not None and spec.family == FILE:
        file = data / spec.checkpoint.replace("{split}", split)
        use = use if use != "given" else cast(Use, spec.use)
    if file is not None or use == "empty":
        return tags_from_file(file, data / "images", use)
    tagger = own_tagger(model)
    if tagger is None or use == "shuffled":
        raise UsageError("this model reads tags of its images: give their file with --tags")
    return tags_from_tagger(tagger)


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


def given_tags(
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
        told = tuple(names)
        return ImageTags(lambda path: told, f"given {told!r}")
    tagger = own_tagger(model)
    if tagger is None:
        raise UsageError(
            "this model reads tags of its images, and has no tagger: give the image's with --tags"
        )
    return tags_from_tagger(tagger)


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

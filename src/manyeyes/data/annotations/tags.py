"""Tags files: the tags of images, written once by ``manyeyes tag`` and read by every training.

JSON lines, one image each: {"image": "000001.jpg", "tags": ["airport", "beagle"], "scores": [...]}
Images are named as in data files: relative to the image folder, or absolute. ``scores`` may be
absent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.annotations.per_image import shuffled
from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path, show, strict
from manyeyes.data.files import MAX_LISTED, FileReport
from manyeyes.errors import DataError
from manyeyes.files import written_file
from manyeyes.records import Sample, TagFeatures, Use


def read_tags(path: str | Path, image_root: str | Path) -> dict[str, tuple[str, ...]]:
    """Return the tags in a file by the path of the image.

    Raises:
        DataError: a missing file, a broken row (with line and key), or an image named twice.
    """
    return dict(strict(_outcomes(path, image_root)))


def check_tags_file(
    path: str | Path, image_root: str | Path, samples: Sequence[Sample] = ()
) -> FileReport:
    """Go through a tags file; its images are what is counted.

    ``samples``: whose images must be in it.
    """
    tags: dict[str, tuple[str, ...]] = {}
    errors = []
    try:
        for outcome in _outcomes(path, image_root):
            if isinstance(outcome, DataError):
                errors.append(outcome)
            else:
                tags[outcome[0]] = outcome[1]
        with_tags(samples, tags, "given", file=str(path))
    except DataError as error:
        errors.append(error)
    return FileReport(str(path), "tags", len(tags), len(errors), tuple(errors[:MAX_LISTED]))


def _outcomes(
    path: str | Path, image_root: str | Path
) -> Iterator[tuple[str, tuple[str, ...]] | DataError]:
    """Each row's image and tags, or what is wrong with it."""
    options = SourceOptions(os.fspath(image_root))
    seen: set[str] = set()
    for row in open_document(path).records():
        try:
            yield row if isinstance(row, DataError) else _row(row, options, seen)
        except DataError as error:
            yield error


def _row(row: Row, options: SourceOptions, seen: set[str]) -> tuple[str, tuple[str, ...]]:
    name = str(image_path(row, "image", row.get("image", "the path of an image"), options))
    if name in seen:
        raise row.error("image", f"{name!r} is there twice")
    seen.add(name)
    tags = row.items("tags", "a list of texts")
    wrong = [tag for tag in tags if not isinstance(tag, str)]
    if wrong:
        raise row.error("tags", f"expected a list of texts, got {show(wrong[0])} in it")
    return name, tuple(tags)


def write_tags(path: Path, images: Sequence[str], features: Iterable[TagFeatures]) -> int:
    """Write a tags file of ``images``; returns the number of tags. A crash leaves no file.

    Raises:
        WriteError: the file cannot be written.
    """
    names, number = iter(images), 0
    with written_file(path) as aside, aside.open("w", encoding="utf-8") as file:
        for batch in features:
            for tags, scores in zip(batch.names, batch.scores, strict=True):
                rounded = [round(score, 4) for score in scores]
                line = {"image": next(names), "tags": tags, "scores": rounded}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                number += len(tags)
    return number


def with_tags(
    samples: Sequence[Sample],
    tags: Mapping[str, tuple[str, ...]],
    use: Use,
    *,
    file: str,
    seed: int = 0,
) -> list[Sample]:
    """Return the samples with the tags of their images; ``file`` is named in errors.

    Raises:
        DataError: images without a line in the file, unless tags are to be ``empty``.
        UsageError: shuffling the tags of less than two images.
    """
    if use == "empty":
        return [replace(sample, tags=((),) * len(sample.images)) for sample in samples]
    needed = list(dict.fromkeys(str(path) for sample in samples for path in sample.images))
    missing = [path for path in needed if path not in tags]
    if missing:
        raise DataError(
            f"has no tags of {len(missing)} of {len(needed)} images, first {missing[0]!r}; write "
            "the file anew with `manyeyes tag`",
            file=file,
        )
    chosen = dict(tags) if use == "given" else shuffled(tags, seed, file)
    return [
        replace(sample, tags=tuple(chosen[str(path)] for path in sample.images))
        for sample in samples
    ]

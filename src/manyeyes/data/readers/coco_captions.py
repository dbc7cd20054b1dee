"""COCO captions: ``{images: [{id, file_name}], annotations: [{id, image_id, caption}]}``.

One sample per caption. ``meta`` holds ``image_id`` and ``references``, all captions of the image,
so that a benchmark can take one sample per image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions
from manyeyes.data.readers.coco import CocoImage, coco_images, entries, image_of
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import ask_caption, say
from manyeyes.errors import DataError
from manyeyes.records import Sample


def matches(content: Mapping[str, Any]) -> bool:
    """An object whose annotations carry captions."""
    annotations = content.get("annotations")
    if not isinstance(annotations, list) or "images" not in content:
        return False
    return any(isinstance(entry, dict) and "caption" in entry for entry in annotations[:20])


def parse_row(row: Row, images: dict[str | int, CocoImage]) -> tuple[CocoImage, str]:
    """Validate one annotation; return its image and caption; raises ``DataError``."""
    image = image_of(row, images)
    return image, " ".join(row.text("caption").split())


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per annotation, after the errors of ``images``."""
    images, errors = coco_images(document, options)
    yield from errors
    parsed: list[tuple[Row, CocoImage, str] | DataError] = []
    references: dict[str | int, list[str]] = {}
    for row in entries(document, "annotations"):
        try:
            if isinstance(row, DataError):
                raise row
            image, caption = parse_row(row, images)
            references.setdefault(image.id, []).append(caption)
            parsed.append((row, image, caption))
        except DataError as error:
            parsed.append(error)
    for item in parsed:
        yield item if isinstance(item, DataError) else _sample(*item, references, options)


def _sample(
    row: Row,
    image: CocoImage,
    caption: str,
    references: Mapping[str | int, list[str]],
    options: SourceOptions,
) -> Sample:
    return Sample(
        id=row.default_id(),
        images=(image.path,),
        turns=(ask_caption(options), say(caption)),
        task="caption",
        meta={"image_id": image.id, "references": tuple(references[image.id])},
    )

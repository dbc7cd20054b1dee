"""Karpathy's splits: ``dataset_coco.json``, ``dataset_flickr30k.json``.

    {images: [{filepath, filename, cocoid, imgid, split, sentences: [{raw, sentid}]}]}

Flickr30k has no ``filepath`` and no ``cocoid``. One sample per sentence, as in ``coco_captions``.
Every split is read unless ``options.split`` names one; ``train`` takes ``restval`` too, as is the
custom.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from manyeyes.data.containers.documents import Document
from manyeyes.data.containers.rows import Row, SourceOptions, image_path
from manyeyes.data.readers.coco import entries
from manyeyes.data.readers.contract import Outcome
from manyeyes.data.readers.prompts import ask_caption, say
from manyeyes.errors import DataError
from manyeyes.records import Sample

_TOGETHER = {"train": ("train", "restval")}


def matches(content: Mapping[str, Any]) -> bool:
    """An object whose images carry sentences."""
    images = content.get("images")
    if not isinstance(images, list):
        return False
    return any(isinstance(image, dict) and "sentences" in image for image in images[:20])


def parse_row(row: Row, options: SourceOptions) -> list[Sample]:
    """Validate one image and return a sample for each sentence; raises ``DataError``."""
    name = row.text("filename")
    if row.value.get("filepath"):
        name = os.path.join(row.text("filepath"), name)
    path = image_path(row, "filename", name, options)
    identity = row.identity("cocoid" if "cocoid" in row.value else "imgid")
    found = []
    for index, value in enumerate(row.items("sentences", "a list of {raw, sentid}")):
        sentence = row.child("sentences", index, value)
        found.append((str(sentence.identity("sentid")), " ".join(sentence.text("raw").split())))
    if not found:
        raise row.error("sentences", "expected at least one sentence, got an empty list")
    meta = {
        "image_id": identity,
        "references": tuple(caption for _, caption in found),
        "split": row.value.get("split"),
    }
    return [
        Sample(number, (path,), (ask_caption(options), say(caption)), "caption", meta)
        for number, caption in found
    ]


def read(document: Document, options: SourceOptions) -> Iterator[Outcome]:
    """One outcome per sentence; an error for an image that cannot be used."""
    wanted = None if options.split is None else _TOGETHER.get(options.split, (options.split,))
    found = 0
    for row in entries(document, "images"):
        try:
            if isinstance(row, DataError):
                raise row
            if wanted is not None and row.value.get("split") not in wanted:
                continue
            found += 1
            yield from parse_row(row, options)
        except DataError as error:
            yield error
    if wanted is not None and not found:
        images = (image for image in document.content["images"] if isinstance(image, dict))
        known = ", ".join(sorted({str(image.get("split")) for image in images}))
        message = f"holds nothing for split {options.split!r}; splits: {known}"
        raise DataError(message, file=document.path)

"""Captions of whole images: COCO, Flickr30k, NoCaps, TextCaps, and a world's own files.

Papers report Karpathy's test splits of COCO (5,000 images of val2014) and Flickr30k (1,000). The
file of the latter has no ids but Karpathy's own, so the ``image_id`` of its results is ``imgid``.
NoCaps (Agrawal et al. 2019) has a ``domain`` for every image: overall CIDEr uses the document
frequencies of all scored images, CIDEr of a domain those of the domain's images alone, as when the
domain is scored separately. TextCaps (Sidorov et al. 2020) has one row per caption; the references
of an image are the row's ``reference_strs``, or the captions of its rows where these are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, one_of, show
from manyeyes.data.files import detect_format
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.captions import (
    caption_benchmark,
    caption_item,
    grade_without_meteor,
    read_coco_captions,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import list_rows, placed, written_image
from manyeyes.evaluation.benchmarks.karpathy import read_karpathy
from manyeyes.inference.questions import Item

DOMAINS = ("in-domain", "near-domain", "out-domain")
_COCO_FILES = ("annotations/captions_{split}.json", "captions_{split}.json")


def _read_coco(path: Path, prompt: str) -> list[Item]:
    """One item per image of Karpathy's file or of COCO's own; ids are COCO's."""
    kind = detect_format(path)
    if kind == "karpathy":
        return read_karpathy(path, prompt)
    if kind == "coco_captions":
        return read_coco_captions(path, prompt)
    raise DataError(f"expected Karpathy's or COCO's captions, found {kind}", file=str(path))


def _read_nocaps(path: Path, prompt: str) -> list[Item]:
    """One item per image with captions, in the group of its domain."""
    domains = {
        str(row.identity("id")): {"domain": one_of(row, "domain", DOMAINS)}
        for row in list_rows(open_document(path), "images")
    }
    return read_coco_captions(path, prompt, domains)


def _read_textcaps(path: Path, prompt: str) -> list[Item]:
    """One item per image; its file is ``IMAGE_ID.jpg``."""
    rows: dict[str, list[Row]] = {}
    for row in list_rows(open_document(path), "data"):
        rows.setdefault(str(row.identity("image_id")), []).append(row)
    return [
        caption_item(
            identity,
            written_image(captions[0], "image_id", f"{identity}.jpg"),
            _references(captions),
            prompt,
            images=len(rows),
        )
        for identity, captions in rows.items()
    ]


def _references(rows: Sequence[Row]) -> list[str]:
    """The references of an image's rows; DataError where there are none (a test file)."""
    first = rows[0]
    if "reference_strs" not in first.value:
        return [row.text("caption_str") for row in rows]
    references = first.items("reference_strs", "a list of texts")
    if not references or not all(isinstance(text, str) and text.strip() for text in references):
        message = f"expected a list of texts that are not empty, got {show(references)}"
        raise first.error("reference_strs", message)
    return references


CAPTION_SETS: Mapping[str, Benchmark] = {
    "caption": caption_benchmark(
        "caption",
        "image captions, CIDEr-D, BLEU, ROUGE-L (COCO captions file)",
        files=_COCO_FILES,
        holds="COCO captions",
        read_one=read_coco_captions,
        grade=grade_without_meteor,
    ),
    "coco-caption": caption_benchmark(
        "coco-caption",
        "image captions of COCO (Karpathy's split), CIDEr-D, BLEU, ROUGE-L, METEOR",
        files=("dataset_coco.json", "annotations/dataset_coco.json", *_COCO_FILES),
        holds="COCO captions",
        read_one=_read_coco,
    ),
    "flickr30k-caption": caption_benchmark(
        "flickr30k-caption",
        "image captions of Flickr30k (Karpathy's split), CIDEr-D, BLEU, ROUGE-L, METEOR",
        files=placed("dataset_flickr30k.json"),
        holds="Flickr30k captions",
        read_one=read_karpathy,
        result_format='[{"image_id": imgid, "caption": "..."}]',
    ),
    "nocaps": caption_benchmark(
        "nocaps",
        "image captions by domain (NoCaps), CIDEr-D, BLEU, ROUGE-L, METEOR",
        files=placed("nocaps_{split}_4500_captions.json", "nocaps_{split}.json"),
        holds="NoCaps captions",
        read_one=_read_nocaps,
    ),
    "textcaps": caption_benchmark(
        "textcaps",
        "captions that read text in images (TextCaps), CIDEr-D, BLEU, ROUGE-L, METEOR",
        files=placed("TextCaps_0.1_{split}.json"),
        holds="TextCaps captions",
        read_one=_read_textcaps,
    ),
}

"""TextCaps (Sidorov et al. 2020): captions that read the text in an image.

``TextCaps_0.1_{split}.json`` has one row per caption; the rows of an image are one item. Its
references are the row's ``reference_strs``, or the captions of its rows where these are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, show
from manyeyes.evaluation.benchmarks.captions import (
    PROMPT,
    RESULT_FORMAT,
    caption_item,
    central_caption,
    grade_captions,
    load_captions,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import (
    Source,
    expect_files,
    find_file,
    list_rows,
    written_image,
)
from manyeyes.inference.questions import Item

FILES = ("TextCaps_0.1_{split}.json", "annotations/TextCaps_0.1_{split}.json")


def locate(source: Source) -> list[Path]:
    """The split's file."""
    return [find_file(source, FILES, "TextCaps captions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per image; its file is ``IMAGE_ID.jpg``."""
    (path,) = expect_files(paths, "TextCaps captions")
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


BENCHMARK = Benchmark(
    name="textcaps",
    description="captions that read text in images (TextCaps), CIDEr-D, BLEU, ROUGE-L, METEOR",
    metric="CIDEr",
    variants=("official",),
    prompt=PROMPT,
    answer="caption",
    files=FILES,
    result_format=RESULT_FORMAT,
    locate=locate,
    read=read,
    grade=grade_captions,
    constant=central_caption,
    load=load_captions,
)

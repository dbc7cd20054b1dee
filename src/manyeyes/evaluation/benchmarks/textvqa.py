"""TextVQA (Singh et al. 2019): questions about the text in an image, ten human answers each.

One file, ``TextVQA_0.5.1_{split}.json``; the images of train and val both lie in ``train_images``.
The official rule is "m4c" (MMF's EvalAI processor); "official" here is VQAv2's. The prompt holds no
OCR tokens, which some papers add to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, show
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import (
    Source,
    expect_files,
    find_file,
    list_rows,
    written_image,
)
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.benchmarks.vqa_pairs import (
    PROMPT,
    RESULT_FORMAT,
    grade_vqa,
    majority_answers,
)
from manyeyes.evaluation.scorers.vqa import VQA_VARIANTS
from manyeyes.inference.questions import Item

FILES = ("TextVQA_0.5.1_{split}.json", "annotations/TextVQA_0.5.1_{split}.json")
DEFAULT = "m4c"


def locate(source: Source) -> list[Path]:
    """The split's file."""
    return [find_file(source, FILES, "TextVQA questions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; its references are the human answers."""
    (path,) = expect_files(paths, "TextVQA questions")
    return [_item(row, prompt) for row in list_rows(open_document(path), "data")]


def _item(row: Row, prompt: str) -> Item:
    image = str(row.identity("image_id"))
    answers = row.items("answers", "a list of texts")
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise row.error("answers", f"expected a list of texts, got {show(answers)}")
    return Item(
        id=str(row.identity("question_id")),
        image=written_image(row, "image_id", f"{image}.jpg"),
        prompt=prompt.format(question=row.text("question").strip()),
        references=tuple(answers),
        cluster=image,
    )


BENCHMARK = Benchmark(
    name="textvqa",
    description="open questions about text in images (TextVQA)",
    metric="accuracy",
    variants=(DEFAULT, *(name for name in VQA_VARIANTS if name != DEFAULT)),
    prompt=PROMPT,
    answer="short",
    files=FILES,
    result_format=RESULT_FORMAT,
    locate=locate,
    read=read,
    grade=grade_vqa,
    constant=majority_answers,
    load=text_loader("question_id", "answer"),
)

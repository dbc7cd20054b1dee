"""Open questions with human answers: VQAv2, TextVQA, and any pair of files in VQAv2's layout.

VQAv2 (Goyal et al. 2017) asks about COCO images, ten people answered. Splits are train2014 and
val2014; the answers of the test splits are not public. TextVQA (Singh et al. 2019) asks about the
text in an image; the images of train and val both lie in ``train_images``. Its official rule is
"m4c" (MMF's EvalAI processor); "official" here is VQAv2's. The prompt holds no OCR tokens, which
some papers add. ``exact`` compares with ``multiple_choice_answer`` alone, by question type.

VizWiz (Gurari et al. 2018) has photographs that blind people took; many are answered with
"unanswerable". "m4c" is what LLaVA and lmms-eval score it by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import (
    list_rows,
    placed,
    released,
    row_images,
    rows_of,
    written_image,
)
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.vqa_pairs import GENERIC, PairFiles, read_pairs, vqa_benchmark
from manyeyes.evaluation.scorers.exact_match import EXACT_VARIANTS, exact_match
from manyeyes.evaluation.scorers.vqa import VQA_VARIANTS
from manyeyes.inference.questions import Item

_TEXTVQA_RULE = "m4c"

VIZWIZ_PROMPT = (
    "{question}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
    "Answer the question using a single word or phrase."
)


def _read_textvqa(path: Path, prompt: str) -> list[Item]:
    """One item per question; its references are the human answers."""
    return [_textvqa_item(row, prompt) for row in list_rows(open_document(path), "data")]


def _textvqa_item(row: Row, prompt: str) -> Item:
    image = str(row.identity("image_id"))
    return Item(
        id=str(row.identity("question_id")),
        image=written_image(row, "image_id", f"{image}.jpg"),
        prompt=prompt.format(question=row.text("question").strip()),
        references=row.texts("answers"),
        cluster=image,
    )


def _read_vizwiz(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; its references are the human answers."""
    return [
        _vizwiz_item(row, str(number), prompt) for number, row in enumerate(rows_of(paths), start=1)
    ]


def _vizwiz_item(row: Row, number: str, prompt: str) -> Item:
    image = row_images(row, "image")[0]
    said = row.items("answers", "a list of answers")
    members = [
        row.child("answers", place, one)
        for place, one in enumerate(said)
        if one is not None and not isinstance(one, str)
    ]
    kind = "answer_type" if "answer_type" in row.value else "category"
    return Item(
        id=str(row.identity("question_id")) if "question_id" in row.value else number,
        image=image,
        prompt=prompt.format(question=row.text("question").strip()),
        references=tuple(one.text("answer") for one in members)
        if members
        else row.texts("answers"),
        cluster=image,
        groups={"answer_type": row.text(kind)} if kind in row.value else {},
    )


def _read_exact(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; its reference is ``multiple_choice_answer``."""
    return read_pairs(paths, prompt, lambda sample: (sample.turns[-1].text,))


def _grade_exact(answers: Answers) -> Grade:
    """Share of exact matches in 0..100, by question type and answer type."""
    values = [
        0.0 if text is None else exact_match(text, item.references[0], answers.variant)
        for item, text in zip(answers.items, answers.texts, strict=True)
    ]
    return Grade((mean_score("accuracy", values, answers.items),), values)


VQA_SETS: Mapping[str, Benchmark] = {
    "vqa": vqa_benchmark("vqa", "VQA accuracy against human answers (VQAv2 files)", GENERIC),
    "vqav2": vqa_benchmark(
        "vqav2",
        "open questions on COCO images (VQAv2)",
        PairFiles(
            placed("v2_OpenEnded_mscoco_{split}_questions.json"),
            placed("v2_mscoco_{split}_annotations.json"),
        ),
    ),
    "textvqa": replace(
        vqa_benchmark(
            "textvqa",
            "open questions about text in images (TextVQA)",
            None,
            (_TEXTVQA_RULE, *(name for name in VQA_VARIANTS if name != _TEXTVQA_RULE)),
        ),
        files=placed("TextVQA_0.5.1_{split}.json"),
        holds="TextVQA questions",
        read=None,
        read_one=_read_textvqa,
    ),
    "vizwiz": replace(
        vqa_benchmark(
            "vizwiz",
            "photographs and questions of blind people (VizWiz)",
            None,
            (_TEXTVQA_RULE, *(name for name in VQA_VARIANTS if name != _TEXTVQA_RULE)),
        ),
        files=(*placed("{split}.json"), *released()),
        holds="VizWiz questions",
        prompt=VIZWIZ_PROMPT,
        read=_read_vizwiz,
    ),
    "exact": replace(
        vqa_benchmark(
            "exact",
            "exact match by question type (VQAv2 files, multiple_choice_answer)",
            GENERIC,
            tuple(EXACT_VARIANTS),
        ),
        read=_read_exact,
        grade=_grade_exact,
    ),
}

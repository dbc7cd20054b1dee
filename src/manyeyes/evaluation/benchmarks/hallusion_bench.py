"""HallusionBench (Guan et al. 2024): yes/no questions on figures and on edited copies of them.

    aAcc   questions              qAcc   a question on all its figures
    fAcc   figures with all of their questions          easy, hard   qAcc of the figures as they
                                                        were, and of the edited ones

The authors let GPT-4 read the answers. Here the first yes or no in any letter case counts, an
answer without either is wrong (``official``); ``anywhere`` takes "yes" anywhere for yes and all
else for no, as lmms-eval's rule without a judge. Questions that the release asks without a figure
(``visual_input`` 0) are left out, as in lmms-eval and VLMEvalKit; qAcc and easy are those of the
rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.containers.rows import Row, one_of
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import (
    placed,
    released,
    row_images,
    rows_of,
    written_image,
)
from manyeyes.evaluation.benchmarks.measures import majority_candidate, mean_score
from manyeyes.evaluation.benchmarks.results import text_loader
from manyeyes.evaluation.benchmarks.wholes import all_right
from manyeyes.evaluation.scorers.pope import parse_yes_no
from manyeyes.inference.questions import Item

_KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")
_EDITED = "2"
_WHOLES = {"qAcc": "question", "fAcc": "figure", "easy": "easy", "hard": "hard"}


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question that has a figure; ids are the five keys joined by ``_``."""
    rows = (row for row in rows_of(paths) if str(row.value.get("visual_input")) != "0")
    return [_item(row, prompt) for row in rows]


def grade(answers: Answers) -> Grade:
    """The five accuracies in 0..100, by category and subcategory."""
    items, anywhere = answers.items, answers.variant == "anywhere"
    said = [None if text is None else _said(text, anywhere) for text in answers.texts]
    right = [float(i.references[0].lower() == s) for i, s in zip(items, said, strict=True)]
    wholes = [
        all_right(name, right, items, key)[0]
        for name, key in _WHOLES.items()
        if any(key in item.meta for item in items)
    ]
    failures = sum(t is not None and s is None for t, s in zip(answers.texts, said, strict=True))
    note = "questions without a figure are left out"
    return Grade((mean_score("aAcc", right, items), *wholes), right, failures, (note,))


def _said(text: str, anywhere: bool) -> str | None:
    if anywhere:
        return "yes" if "yes" in text.lower() else "no"
    return parse_yes_no(text, "strict")


def _item(row: Row, prompt: str) -> Item:
    category, subcategory, number, figure, question = (str(row.identity(key)) for key in _KEYS)
    kind = f"{category}_{subcategory}_{number}"
    named = f"{category}/{subcategory}/{number}_{figure}.png"
    image = row_images(row, "image")[0] if "image" in row.value else written_image(row, "x", named)
    asked = f"{kind}_{question}"
    part = "hard" if str(row.identity("visual_input")) == _EDITED else "easy"
    return Item(
        id=f"{kind}_{figure}_{question}",
        image=image,
        prompt=prompt.format(question=row.text("question")),
        references=(("No", "Yes")[int(one_of(row, "gt_answer", ("0", "1")))],),
        cluster=kind,
        groups={"category": category, "subcategory": subcategory},
        candidates=("Yes", "No"),
        meta={"set": kind, "question": asked, "figure": f"{kind}_{figure}", part: asked},
    )


BENCHMARK = Benchmark(
    name="hallusion-bench",
    description="yes/no questions on figures and edited copies (HallusionBench)",
    metric="aAcc",
    variants=("official", "anywhere"),
    files=(*placed("HallusionBench.json"), *released()),
    holds="HallusionBench questions",
    result_format='JSON lines {"id": "VD_chart_0_1_0", "answer": "Yes"}',
    read=read,
    grade=grade,
    constant=majority_candidate,
    load=text_loader("id", "answer"),
    unit="set",
)

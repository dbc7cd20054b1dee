"""MMVP (Tong et al. 2024): pairs of images that CLIP takes for one, one question for both.

The benchmark counts pairs: both questions must be right. Figures of single questions, which are
higher by far, are also called MMVP accuracy; both are given here. The authors let GPT-4 read the
answers; here `scorers.multiple_choice` does.

official    the answers of the release
corrected   rows 99, 100, 279 and 280 the other way round: their answers are swapped (the authors'
            issue 30); files that are corrected already are read alike
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.containers.rows import Row
from manyeyes.evaluation.benchmarks.choices import choice_benchmark, choice_item, grade_choices
from manyeyes.evaluation.benchmarks.contract import Answers, Grade
from manyeyes.evaluation.benchmarks.files import released, row_images, rows_of, written_image
from manyeyes.evaluation.benchmarks.wholes import all_right
from manyeyes.evaluation.benchmarks.written_options import split_options
from manyeyes.inference.questions import Item

_SWAPPED = {"99": "A", "100": "B", "279": "A", "280": "B"}
"""Row -> the answer of the release, for the questions below."""
_ASKED = ("tusks", "standing or sitting")


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per row; rows 1 and 2 are a pair, 3 and 4, and so on."""
    return [_item(row, prompt) for row in rows_of(paths)]


def grade(answers: Answers) -> Grade:
    """Pairs with both questions right, and single questions, in 0..100."""
    items = answers.items
    if answers.variant == "corrected":
        items = [_corrected(item) for item in items]
    plain = grade_choices(replace(answers, items=items))
    right = [float(value or 0.0) for value in plain.per_item]
    pairs, values = all_right("pair_accuracy", right, items, "pair")
    return replace(plain, scores=(pairs, *plain.scores), per_item=values)


def _item(row: Row, prompt: str) -> Item:
    key = "Index" if "Index" in row.value else "lndex"  # as the release spells it
    number = int(row.identity(key))
    question = row.text("Question")
    options = dict(zip("AB", split_options(row.text("Options"), "({})")[1], strict=False))
    letter = row.text("Correct Answer").strip(" ()").upper()
    if len(options) != 2 or letter not in options:
        raise row.error("Options", f"expected (a) and (b), and one of them as answer {letter!r}")
    named = f"MMVP Images/{number}.jpg"
    image = row_images(row, "image")[0] if "image" in row.value else written_image(row, key, named)
    answer = _SWAPPED.get(str(number), letter) if _doubtful(question) else letter
    return choice_item(
        prompt,
        id=str(number),
        image=image,
        cluster=str((number - 1) // 2),
        question=question,
        options=options,
        answer=answer,
        groups={},
        meta={"pair": str((number - 1) // 2), "doubtful": _doubtful(question)},
    )


def _doubtful(question: str) -> bool:
    return any(words in question for words in _ASKED)


def _corrected(item: Item) -> Item:
    if not item.meta["doubtful"] or item.id not in _SWAPPED:
        return item
    return replace(item, references=("B" if _SWAPPED[item.id] == "A" else "A",))


BENCHMARK = replace(
    choice_benchmark(
        "mmvp",
        "pairs of images that CLIP takes for one (MMVP)",
        files=("Questions.csv", *released()),
        read=read,
        holds="MMVP questions",
    ),
    metric="pair_accuracy",
    variants=("official", "corrected"),
    grade=grade,
    unit="pair",
)

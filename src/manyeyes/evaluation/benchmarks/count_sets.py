"""Counting in photographs: CountBenchQA, PixMo-Count and TallyQA.

CountBenchQA (Beyer et al. 2024, on CountBench): 2 to 10 objects. "official" wants the number and
nothing else; the caption in ``text`` names the number and is not shown (lmms-eval's task shows it).

PixMo-Count (Deitke et al. 2024): the release has URLs; images are looked for by the hash of their
content, as ``images/SHA256.jpg``. "official" is Molmo's reading: the last word, or "a total of N".

TallyQA (Acharya et al. 2019): simple and complex questions, reported apart; RMSE beside accuracy.

number     the first number of the answer, in digits or as a word up to ten
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.count_grades import Reading, count_grader
from manyeyes.evaluation.benchmarks.files import placed, released
from manyeyes.evaluation.benchmarks.short_columns import Rule, ShortColumns, short_benchmark
from manyeyes.evaluation.scorers.numerals import WORDS, first_number

PROMPT = "{question}\nAnswer with a single number."

_TOTAL = re.compile(r"a total of (\d+)")


def _alone(text: str) -> float | None:
    return float(text) if text.strip().isdecimal() else None


def _last_word(text: str) -> float | None:
    """Molmo's reading of a count."""
    said = text.strip().lower().rstrip(".").strip()
    word = said.split()[-1] if said else ""
    if word.isdecimal():
        return float(word)
    total = _TOTAL.search(said)
    return WORDS.get(word, None if total is None else float(total[1]))


def _count_set(
    name: str,
    description: str,
    *,
    files: tuple[str, ...],
    columns: ShortColumns,
    readings: Mapping[str, Reading],
    within_one: bool = False,
) -> Benchmark:
    rules: Mapping[str, Rule] = dict.fromkeys(readings, lambda text, item: 0.0)
    made = short_benchmark(
        name, description, files=files, columns=columns, rules=rules, prompt=PROMPT
    )
    return replace(made, grade=count_grader(readings, within_one=within_one))


COUNT_SETS: Mapping[str, Benchmark] = {
    "countbenchqa": _count_set(
        "countbenchqa",
        "2 to 10 objects (CountBenchQA)",
        files=released(),
        columns=ShortColumns(answers=("number",), groups={"count": ("number",)}),
        readings={"official": _alone, "number": first_number},
    ),
    "pixmo-count": _count_set(
        "pixmo-count",
        "2 to 10 objects of one kind (PixMo-Count)",
        files=released(),
        columns=ShortColumns(
            question=("label",),
            answers=("count",),
            image=("image", "image_sha256"),
            groups={"count": ("count",)},
            asks="How many {} are there?",
        ),
        readings={"official": _last_word, "number": first_number},
        within_one=True,
    ),
    "tallyqa": _count_set(
        "tallyqa",
        "simple and complex questions of counting (TallyQA)",
        files=placed("{split}.json"),
        columns=ShortColumns(
            answers=("answer",), id="question_id", groups={"simple": ("issimple",)}
        ),
        readings={"number": first_number, "alone": _alone},
    ),
}

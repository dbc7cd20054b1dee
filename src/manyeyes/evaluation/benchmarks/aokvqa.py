"""A-OKVQA (Schwenk et al. 2022): knowledge and reasoning, as multiple choice and as direct answer.

    multiple_choice   equal to the right one of four choices; all questions
    direct_answer     min(1, matches / 3) over ten answers, without leaving one out and without
                      normalising; questions marked ``difficult_direct_answer`` do not count.
                      With one or two answers, which could never give 3 matches, all must match
                      (ours)

Both are allenai/aokvqa's (``eval_predictions.py``). The variant "official" gives both, as the
leaderboard does; the others give one, on the same footing as the official script with and without
``--multiple-choice``. A prediction that is a text is both answers; in the leaderboard's layout,
``{question_id: {"multiple_choice": ..., "direct_answer": ...}}``, either may be left out of a whole
file, and is then not scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, named_image, show
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import (
    Source,
    find_file,
    record_rows,
    written_image,
)
from manyeyes.evaluation.benchmarks.measures import mean_score, most_frequent
from manyeyes.evaluation.benchmarks.results import row_loader
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item
from manyeyes.records import Score

FILES = ("aokvqa_v1p0_{split}.json", "annotations/aokvqa_v1p0_{split}.json")
CHOICE, DIRECT = "multiple_choice", "direct_answer"
KINDS = (CHOICE, DIRECT)
_IMAGE = "{split}2017/{image_id:012d}.jpg"
_FULL = 3
"""So many equal human answers make a direct answer fully right."""


def locate(source: Source) -> list[Path]:
    """The split's file; of the test split the one with answers."""
    names = ("aokvqa_v1p0_{split}_w_ans.json", *FILES) if source.split == "test" else FILES
    return [find_file(source, names, "A-OKVQA questions")]


def read(path: Path, prompt: str) -> list[Item]:
    """One item per question: references are the direct answers, candidates the four choices.

    A prompt may hold ``{choices}``: the choices, separated by commas.
    """
    return [_item(row, prompt) for row in record_rows(open_document(path))]


def grade(answers: Answers) -> Grade:
    """Accuracy of the variant's tasks in 0..100; item scores are those of the first of them."""
    tasks = KINDS if answers.variant == "official" else (answers.variant,)
    given = {task: [_part(p, task) for p in answers.predictions] for task in tasks}
    scored = [task for task in tasks if set(given[task]) - {None}] or list(tasks)
    values = {task: _MEASURES[task](answers.items, given[task]) for task in scored}
    notes = [f"no {task} predictions: not scored" for task in tasks if task not in scored]
    difficult = sum(item.meta["difficult"] for item in answers.items)
    if DIRECT in scored and difficult:
        notes.append(
            f"{difficult} questions with difficult direct answers do not count in {DIRECT}"
        )
    few = _few_answers(answers.items) if DIRECT in scored else ""
    notes += [few] * bool(few)
    return Grade(
        tuple(_score(task, answers.items, values[task]) for task in scored),
        values[scored[0]],
        _outside_choices(answers.items, given.get(CHOICE, [])),
        tuple(notes),
        rule=f"{answers.variant}, share of few answers" if few else None,
    )


def _few_answers(items: Sequence[Item]) -> str:
    """A note where questions have too few answers for the official rule, else nothing."""
    few = sum(len(item.references) < _FULL for item in items if not item.meta["difficult"])
    if not few:
        return ""
    return (
        f"{few} of {len(items)} questions have fewer than {_FULL} direct answers: they are scored "
        f"by the share of their answers that the prediction equals in {DIRECT}"
    )


def _item(row: Row, prompt: str) -> Item:
    image = row.identity("image_id")
    name = named_image(row, "image_id", _IMAGE, split=row.text("split"), image_id=image)
    choices = row.texts("choices")
    right = row.get("correct_choice_idx", "the place of the right choice")
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(choices):
        raise row.error("correct_choice_idx", f"expected a place in 'choices', got {show(right)}")
    return Item(
        id=str(row.identity("question_id")),
        image=written_image(row, "image_id", name),
        prompt=prompt.format(question=row.text("question").strip(), choices=", ".join(choices)),
        references=row.texts("direct_answers"),
        cluster=str(image),
        candidates=choices,
        meta={
            "right": choices[right],
            "difficult": row.value.get("difficult_direct_answer") is True,
        },
    )


def _part(prediction: Prediction | None, task: str) -> str | None:
    """The answer of one task: a text is the answer of both."""
    if isinstance(prediction, Mapping):
        part: str | None = prediction.get(task)
        return part
    return prediction if isinstance(prediction, str) else None


def _choice_values(items: Sequence[Item], texts: Sequence[str | None]) -> list[float | None]:
    return [float(text == item.meta["right"]) for item, text in zip(items, texts, strict=True)]


def _direct_values(items: Sequence[Item], texts: Sequence[str | None]) -> list[float | None]:
    return [
        None if item.meta["difficult"] else _direct_value(item.references, text or "")
        for item, text in zip(items, texts, strict=True)
    ]


def _direct_value(answers: Sequence[str], text: str) -> float:
    return min(1.0, answers.count(text) / min(_FULL, len(answers)))


_MEASURES = {CHOICE: _choice_values, DIRECT: _direct_values}


def _score(task: str, items: Sequence[Item], values: Sequence[float | None]) -> Score:
    counted = [(item, v) for item, v in zip(items, values, strict=True) if v is not None]
    if not counted:
        return Score("", task, 0.0, 0)
    return mean_score(task, [v for _, v in counted], [item for item, _ in counted])


def _outside_choices(items: Sequence[Item], texts: Sequence[str | None]) -> int:
    """How many multiple-choice answers are none of the choices; they are wrong."""
    given = zip(items, texts, strict=False)
    return sum(text is not None and text not in item.candidates for item, text in given)


def _constant(
    items: Sequence[Item], counted: Sequence[Item], box_style: str
) -> list[dict[str, str]]:
    """The choice at the place that is right most often, and the most frequent direct answer."""
    places = Counter(item.candidates.index(item.meta["right"]) for item in counted)
    said = Counter(text for item in counted for text in item.references)
    place = min(places, key=lambda place: (-places[place], place))
    text = most_frequent(said)
    return [{CHOICE: item.candidates[place % len(item.candidates)], DIRECT: text} for item in items]


def _prediction(row: Row) -> Prediction:
    """One or both answers of a row that is an object."""
    found = {task: row.value[task] for task in KINDS if task in row.value}
    if not found:
        raise row.error(CHOICE, f"is missing, and so is {DIRECT!r}; expected one of them")
    for task, text in found.items():
        if not isinstance(text, str):
            raise row.error(task, f"expected a text, got {show(text)}")
    return found


def _keyed(whole: Row, key: str) -> Prediction:
    value = whole.value[key]
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise whole.error(key, f"expected a text or an object, got {show(value)}")
    return _prediction(whole.within(value, f"{key}."))


BENCHMARK = Benchmark(
    name="aokvqa",
    description="knowledge questions, multiple choice and direct answer (A-OKVQA)",
    metric=CHOICE,
    variants=("official", *KINDS),
    files=FILES,
    result_format='{question_id: {"multiple_choice": "...", "direct_answer": "..."}}',
    holds="A-OKVQA questions",
    locate=locate,
    read_one=read,
    grade=grade,
    constant=_constant,
    load=row_loader("question_id", _prediction, keyed=_keyed),
)

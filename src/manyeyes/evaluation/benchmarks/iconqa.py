"""IconQA (Lu et al. 2021): diagrams; choose a picture, choose a text, or fill in the blank.

Files: ``problems.json`` (questions by number), ``pid_splits.json`` (numbers by split) and, for the
breakdown by skill, ``pid2skills.json``. Splits are named as there (``choose_txt_test``,
``fill_in_blank_minitest``, ...); besides, ``test`` holds its three kinds together, and so on.

A choice is right if it is the right one: by its place from 0, a whole number, as official results
give it, or by letter or text (`scorers.multiple_choice`). A blank must be filled with exactly the
answer; under "relaxed" letter case and a final period do not count. Choices of pictures are named
by their files: a model that sees one picture at a time cannot answer them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, one_of, show
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.benchmarks.choices import (
    RANKING_PROMPT,
    chosen_letter,
    from_losses,
    lettered,
)
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import Source, find_file, written_image
from manyeyes.evaluation.benchmarks.measures import mean_score
from manyeyes.evaluation.benchmarks.place_results import load_places
from manyeyes.evaluation.benchmarks.results import keyed_rows
from manyeyes.evaluation.benchmarks.vqa_pairs import majority_answers
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.exact_match import EXACT_VARIANTS, exact_match
from manyeyes.inference.questions import Item

PROMPT = "{question}\n{options}"
KINDS = ("choose_txt", "choose_img", "fill_in_blank")
_PROBLEMS, _SPLITS, _SKILLS = (
    (f"{name}.json", f"iconqa_data/{name}.json", f"annotations/{name}.json")
    for name in ("problems", "pid_splits", "pid2skills")
)
FILES = (*_PROBLEMS, *_SPLITS, *_SKILLS)

_LETTER = "Answer with the option's letter from the given choices directly."
_WORD = "Answer the question using a single word or phrase."
_BLANK = "fill_in_blank"


def locate(source: Source) -> list[Path]:
    """The problems, the splits, and the skills where they are."""
    problems = find_file(source, _PROBLEMS, "IconQA problems")
    splits = find_file(source, _SPLITS, "IconQA splits")
    skills = splits.with_name("pid2skills.json")
    return [problems, splits, *([skills] if skills.is_file() else [])]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question of each split it belongs to."""
    if len(paths) not in (2, 3):
        files = ", ".join(map(str, paths))
        message = f"expected problems, splits and perhaps skills, 2 or 3 files, got {files}"
        raise UsageError(message)
    splits = _lists(paths[1], "a list of question numbers")
    skills = _lists(paths[2], "a list of skills") if len(paths) > 2 else {}
    homes = {pid: name for name in _homes(splits) for pid in splits[name]}
    made = {
        key: _item(row, key, homes.get(key, ""), skills.get(key, ()), prompt)
        for key, row in keyed_rows(paths[0])
    }
    items: list[Item] = []
    for name, members in splits.items():
        unknown = [pid for pid in members if pid not in made]
        if unknown:
            message = f"holds the number {unknown[0]!r}, which is not in {paths[0].name}"
            raise DataError(message, file=str(paths[1]), key=name)
        together = name.rpartition("_")[2]
        for pid in members:
            items += [replace(made[pid], split=split) for split in {name: 0, together: 0}]
    return items


def grade(answers: Answers) -> Grade:
    """Accuracy in 0..100, also by type of question and by skill."""
    items = answers.items
    graded = [_grade_one(i, p, answers.variant) for i, p in _pairs(answers)]
    right = [float(bool(found)) for found in graded]
    missing = sum(prediction is None for prediction in answers.predictions)
    score = mean_score("accuracy", right, items)
    by = _by_skill(items, right)
    score = replace(score, by={**score.by, "skill": by}) if by else score
    return Grade((score,), right, graded.count(None) - missing)


def _grade_one(item: Item, prediction: Prediction | None, variant: str) -> bool | None:
    """Whether a prediction is right, None where it is missing or chooses nothing."""
    if prediction is None:
        return None
    if item.candidates:
        letter = chosen_letter(item, prediction)
        return None if letter is None else letter == item.references[0]
    place = prediction["choice"] if isinstance(prediction, Mapping) else prediction
    return exact_match(str(place), item.references[0], variant) == 1.0


def _pairs(answers: Answers) -> Iterator[tuple[Item, Prediction | None]]:
    return zip(answers.items, answers.predictions, strict=True)


def _by_skill(items: Sequence[Item], right: Sequence[float]) -> dict[str, float]:
    """Accuracy by skill; a question counts for each of its skills."""
    values: dict[str, list[float]] = {}
    for item, value in zip(items, right, strict=True):
        for skill in item.meta["skills"]:
            values.setdefault(skill, []).append(value)
    return {skill: 100 * sum(found) / len(found) for skill, found in sorted(values.items())}


def _item(row: Row, pid: str, home: str, skills: Sequence[str], prompt: str) -> Item:
    kind = one_of(row, "ques_type", KINDS)
    question = row.text("question")
    choices = () if kind == _BLANK else _choices(row)
    answer = str(row.identity("answer"))
    if choices:
        answer = _right_letter(row, answer, len(choices))
    shown = f"{lettered(dict(zip(ascii_uppercase, choices, strict=False)))}\n{_LETTER}"
    image = f"iconqa/{home.rpartition('_')[2]}/{kind}/{pid}/image.png"
    return Item(
        id=pid,
        image=written_image(row, "image", image),
        prompt=prompt.format(question=question, options=shown if choices else _WORD),
        references=(answer,),
        cluster=pid,
        groups={"question_type": kind},
        candidates=choices,
        meta={"skills": tuple(skills)},
    )


def _choices(row: Row) -> tuple[str, ...]:
    choices = row.items("choices", "a list of choices")
    if not 2 <= len(choices) <= len(ascii_uppercase):
        raise row.error("choices", f"expected 2 to 26 choices, got {show(choices)}")
    return tuple(map(str, choices))


def _right_letter(row: Row, answer: str, number: int) -> str:
    if not answer.isdecimal() or int(answer) >= number:
        raise row.error("answer", f"expected a place from 0 to {number - 1}, got {answer!r}")
    return ascii_uppercase[int(answer)]


def _homes(splits: Mapping[str, Sequence[str]]) -> list[str]:
    """The splits that images lie in: those of train, val and test."""
    return [name for name in splits if name.rpartition("_")[2] in ("train", "val", "test")]


def _lists(path: Path, expected: str) -> dict[str, list[str]]:
    """One JSON object of lists of texts or numbers."""
    document = open_document(path)
    if document.layout != "object":
        raise DataError(f"expected one JSON object, name -> {expected}", file=str(path))
    whole = document.whole()
    return {key: [str(value) for value in whole.items(key, expected)] for key in whole.value}


BENCHMARK = Benchmark(
    name="iconqa",
    description="questions about abstract diagrams (IconQA), exact match by type and skill",
    metric="accuracy",
    variants=tuple(EXACT_VARIANTS),
    prompt=PROMPT,
    answer="short",
    files=FILES,
    result_format='{"results": {PID: place of the choice, or text}}, {PID: ...}, or JSON lines '
    '{"question_id": PID, "answer": ...}',
    locate=locate,
    read=read,
    grade=grade,
    constant=majority_answers,
    load=load_places,
    ranking_prompt=RANKING_PROMPT,
    from_losses=from_losses,
)

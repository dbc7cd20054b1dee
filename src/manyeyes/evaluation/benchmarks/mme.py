"""MME (Fu et al. 2023): yes/no questions in 14 subtasks, two to an image; see `scorers.mme`.

Two forms are read: the distribution, a folder for each subtask with a text file beside each image
(or in ``questions_answers_YN`` beside the folder ``images``), its lines ``question <tab> Yes``; and
JSON lines ``{"question_id": "SUBTASK/IMAGE", "category", "question", "answer"}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row, one_of
from manyeyes.data.regular import check_regular
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import Source, find_file, record_rows, written_image
from manyeyes.evaluation.benchmarks.measures import (
    Corpus,
    corpus_scores,
    majority_candidate,
    mean_score,
)
from manyeyes.evaluation.benchmarks.results import is_own, result_rows, row_text
from manyeyes.evaluation.confidence.intervals import FloatArray
from manyeyes.evaluation.contract import Prediction
from manyeyes.evaluation.scorers.mme import COGNITION, PERCEPTION, mme_answers, parse_mme
from manyeyes.inference.questions import Item
from manyeyes.lines import split_lines

FILES = ("mme_{split}.jsonl", "mme.jsonl", "SUBTASK/*.txt")
SUBTASKS = (*PERCEPTION, *COGNITION)

_QUESTIONS, _IMAGES = "questions_answers_YN", "images"
_CELLS = 4
_ENDINGS = (".jpg", ".png", ".jpeg")
_PARTS = {"perception": PERCEPTION, "cognition": COGNITION}


def locate(source: Source) -> list[Path]:
    """The JSON-lines file, or the text files of the subtasks, here or in the folder ``mme``."""
    texts = _texts(source.data_dir) or _texts(source.data_dir / "mme")
    return texts or [find_file(source, FILES, "MME questions")]


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per question; of a folder the text files of its subtasks are read."""
    items: list[Item] = []
    for path in paths:
        texts = _texts(path) if path.is_dir() else [path]
        if not texts:
            known = ", ".join(SUBTASKS)
            raise DataError(f"holds no text files of subtasks: {known}", file=str(path))
        for file in texts:
            items += _items_of_text(file, prompt) if file.suffix == ".txt" else _rows(file, prompt)
    return items


def grade(answers: Answers) -> Grade:
    """Perception and cognition (sums of subtask scores), accuracy and accuracy+ in 0..100."""
    items = answers.items
    parsed = [None if text is None else parse_mme(text) for text in answers.texts]
    right = [float(i.references[0].lower() == p) for i, p in zip(items, parsed, strict=True)]
    names = [item.groups["subtask"] for item in items]
    graded = mme_answers(right, names, [item.cluster for item in items])
    parts = [part for part, members in _PARTS.items() if set(members) & set(names)]

    def values(weights: FloatArray) -> list[float]:
        scores = graded.scores(weights)
        return [sum(scores.get(name, 0.0) for name in _PARTS[part]) for part in parts]

    corpus = Corpus(tuple(parts), values)
    heads = [items[place] for place in graded.first]
    scores = (
        *corpus_scores(corpus, items),
        mean_score("accuracy", right, items),
        mean_score("accuracy_plus", graded.all_right.tolist(), heads),
    )
    failures = sum(t is not None and p is None for t, p in zip(answers.texts, parsed, strict=True))
    return Grade(scores, right, failures, _notes(set(names)), corpus)


def load(path: Path) -> dict[str, Prediction]:
    """Read a folder of ``SUBTASK.txt`` (or one such file), or JSON rows.

    Raises:
        DataError: no such files, a line without four cells, or two answers to a question.
    """
    texts = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    if not texts:
        raise DataError("holds no SUBTASK.txt", file=str(path))
    found: dict[str, Prediction] = {}
    for file in texts:
        for row, key, answer in _results(file) if file.suffix == ".txt" else _result_rows(file):
            if key in found:
                raise row.error(None, f"a second answer to {key!r}; expected one per question")
            found[key] = answer
    return found


def _notes(names: set[str]) -> tuple[str, ...]:
    """Which sums lack subtasks."""
    return tuple(
        f"{part} is the sum of {len(names & set(members))} of {len(members)} subtasks"
        for part, members in _PARTS.items()
        if names & set(members) and not set(members) <= names
    )


def _texts(folder: Path) -> list[Path]:
    """The text files of the subtasks below a folder, or of the folder of one subtask itself."""
    folders = [folder] if folder.name in SUBTASKS else [folder / name for name in SUBTASKS]
    return [
        file
        for subtask in folders
        for file in sorted([*subtask.glob("*.txt"), *(subtask / _QUESTIONS).glob("*.txt")])
    ]


def _items_of_text(path: Path, prompt: str) -> Iterator[Item]:
    folder = path.parent.parent if path.parent.name == _QUESTIONS else path.parent
    places = (path.parent, folder / _IMAGES)
    candidates = [place / f"{path.stem}{ending}" for place in places for ending in _ENDINGS]
    image = next((file for file in candidates if file.is_file()), candidates[0])
    for row in _lines(path):
        yield _item(row, folder.name, str(image), prompt)


def _lines(path: Path) -> Iterator[Row]:
    for number, line in _numbered(path):
        question, _, answer = line.rpartition("\t")
        said = {"question": question.strip(), "answer": answer.strip()}
        yield Row(str(path), number, said, unit="line")


def _numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers."""
    check_regular(path)
    try:
        lines = split_lines(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", file=str(path)) from error
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _rows(path: Path, prompt: str) -> Iterator[Item]:
    for row in record_rows(open_document(path)):
        name = PurePosixPath(row.text("question_id"))
        image = written_image(row, "question_id", str(name))
        subtask = row.text("category") if "category" in row.value else name.parts[0]
        yield _item(row, subtask, image, prompt)


def _item(row: Row, subtask: str, image: str, prompt: str) -> Item:
    if subtask not in SUBTASKS:
        raise row.error("category", f"expected one of {', '.join(SUBTASKS)}, got {subtask!r}")
    question = row.text("question")
    return Item(
        id=_key(subtask, image, question),
        image=image,
        prompt=prompt.format(question=question),
        references=(one_of(row, "answer", ("Yes", "No", "yes", "no")),),
        cluster=f"{subtask}/{Path(image).stem}",
        groups={"subtask": subtask},
        candidates=("Yes", "No"),
    )


def _results(path: Path) -> Iterator[tuple[Row, str, str]]:
    for number, line in _numbered(path):
        cells = line.split("\t", _CELLS - 1)
        row = Row(str(path), number, {}, unit="line")
        if len(cells) != _CELLS:
            raise row.error(None, f"expected image, question, label and answer, got {line!r}")
        image, question, _, answer = cells
        yield row, _key(path.stem, image.strip(), question.strip()), answer


def _result_rows(path: Path) -> Iterator[tuple[Row, str, str]]:
    for row in result_rows(path):
        if is_own(row):
            yield row, row.text("id"), row_text(row, "prediction")
            continue
        name = PurePosixPath(row.text("question_id"))
        subtask = row.text("category") if "category" in row.value else name.parts[0]
        yield row, _key(subtask, str(name), row.text("question")), row_text(row, "answer")


def _key(subtask: str, image: str, question: str) -> str:
    """The id of a question: ``SUBTASK/IMAGE/QUESTION``, the image's name without its ending."""
    return f"{subtask}/{PurePosixPath(image).stem}/{question}"


BENCHMARK = Benchmark(
    name="mme",
    description="yes/no questions in 14 subtasks, perception and cognition (MME)",
    metric="perception",
    files=FILES,
    result_format="SUBTASK.txt with lines IMAGE <tab> QUESTION <tab> LABEL <tab> ANSWER, or "
    'JSON lines {"question_id", "question", "answer"}',
    locate=locate,
    read=read,
    grade=grade,
    constant=majority_candidate,
    load=load,
)

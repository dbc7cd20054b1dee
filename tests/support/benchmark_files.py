"""Tiny files of the benchmarks that come as parquet, table or JSON, in their published layouts."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

Rows = Sequence[Mapping[str, Any]]


def picture(shade: int = 0) -> bytes:
    """A PNG file of a few pixels; each shade is another picture."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 90, 200)).save(stream, "PNG")
    return stream.getvalue()


def encoded(shade: int = 0) -> str:
    return base64.b64encode(picture(shade)).decode()


def embedded(shade: int = 0, path: str | None = None) -> dict[str, Any]:
    """An image as `datasets` embeds it."""
    return {"bytes": picture(shade), "path": path}


def parquet(path: Path, rows: Rows) -> Path:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), path)
    return path


def lines(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def table(path: Path, rows: Rows, delimiter: str = "\t") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def image_file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture())
    return path


# CV-Bench: two questions of ADE20K, one of COCO, two of Omni3D

_CV = [
    ("2D", "Count", "ADE20K", ["1", "2", "0"], "(B)"),
    ("2D", "Relation", "ADE20K", ["left", "right"], "(A)"),
    ("2D", "Count", "COCO", ["3", "4", "5"], "(C)"),
    ("3D", "Depth", "Omni3D", ["chair", "desk"], "(A)"),
    ("3D", "Distance", "Omni3D", ["books", "lamp"], "(B)"),
]


def _cv_rows() -> list[dict[str, Any]]:
    rows = []
    for number, (kind, task, source, choices, answer) in enumerate(_CV):
        question = f"How is it in picture {number}?"
        listed = "\n".join(f"({'ABC'[k]}) {text}" for k, text in enumerate(choices))
        row = {"idx": number, "type": kind, "task": task, "question": question}
        row |= {"choices": choices, "answer": answer, "source": source}
        row["prompt"] = f"{question} Select from the following choices.\n{listed}"
        rows.append({**row, "filename": f"img/{kind}/{number}.png"})
    return rows


def cv_bench(folder: Path) -> None:
    rows = [{**row, "image": embedded(row["idx"])} for row in _cv_rows()]
    parquet(folder / "test.parquet", rows)


def cv_bench_lines(folder: Path) -> None:
    lines(folder / "test.jsonl", _cv_rows())
    for row in _cv_rows():
        image_file(folder / row["filename"])


# MMVP: rows 1 and 2, and the pair whose answers are swapped in the release

_MMVP = [
    (1, "Are the wings open or closed?", "(a) Open (b) Closed", "(a)"),
    (2, "Are the wings open or closed?", "(a) Open (b) Closed", "(b)"),
    (99, "Does the elephant have long or short tusks?", "(a) Long (b) Short", "(a)"),
    (100, "Does the elephant have long or short tusks?", "(a) Long (b) Short", "(b)"),
]


def mmvp(folder: Path) -> None:
    keys = ("lndex", "Question", "Options", "Correct Answer")
    rows = [dict(zip(keys, row, strict=True)) for row in _MMVP]
    table(folder / "Questions.csv", rows, ",")
    for number, *_ in _MMVP:
        image_file(folder / "MMVP Images" / f"{number}.jpg")


def mmvp_corrected(folder: Path) -> None:
    """The copy of the benchmark that is corrected already."""
    keys = ("Index", "Question", "Options", "Correct Answer")
    rows = [dict(zip(keys, row, strict=True)) | {"image": embedded(row[0])} for row in _MMVP]
    rows[2]["Correct Answer"], rows[3]["Correct Answer"] = "(b)", "(a)"
    parquet(folder / "data" / "train-00000-of-00001.parquet", rows)


# NaturalBench: a group of yes and no, a group of A and B


def naturalbench(folder: Path) -> None:
    rows = []
    for number, (kind, words) in enumerate(
        [("yes_no", ("Yes", "No")), ("multiple_choice", ("A", "B"))]
    ):
        row: dict[str, Any] = {"Index": number, "Question_Type": kind, "Source": "Flickr30K"}
        for image in (0, 1):
            row[f"Image_{image}"] = embedded(2 * number + image, "same.jpg")
        for question in (0, 1):
            row[f"Question_{question}"] = f"Question {question}?"
            for image in (0, 1):
                row[f"Image_{image}_Question_{question}"] = words[question ^ image]
        rows.append(row)
    parquet(folder / "data" / "train-00000-of-00001.parquet", rows)


# BLINK: a task of one question with two images, a task of two questions with one


def blink(folder: Path) -> None:
    def row(task: str, number: int, answer: str, images: int) -> dict[str, Any]:
        found = {"idx": f"val_{task}_{number}", "sub_task": task, "question": "Which one?"}
        found |= {"choices": ["the first", "the second", "the third"], "answer": answer}
        listed = "(A) the first\n(B) the second\n(C) the third"
        found["prompt"] = f"Look closely. Which one? Select from the following.\n{listed}"
        shown = {f"image_{k}": None for k in range(1, 5)}
        for place in range(images):
            shown[f"image_{place + 1}"] = embedded(10 * number + place, "picture.jpg")
        return {**found, **shown}

    parquet(folder / "Jigsaw/val-00000-of-00001.parquet", [row("Jigsaw", 1, "(B)", 2)])
    counting = [row("Counting", 1, "(A)", 1), row("Counting", 2, "(C)", 1)]
    parquet(folder / "Counting/val-00000-of-00001.parquet", counting)


# MMStar: one axis with two questions, one with one


def mmstar(folder: Path) -> None:
    def row(index: int, axis: str, answer: str) -> dict[str, Any]:
        question = f"What is {index}?\nOptions: A: a red, old hat, B: {index} cats, C: a dog, D: no"
        found = {"index": index, "question": question, "image": picture(index), "answer": answer}
        found["category"] = axis.split("/")[0]
        source = {"source": "MMBench", "split": "dev", "image_path": "x.jpg"}
        return {**found, "l2_category": axis.split("/")[1], "meta_info": source}

    rows = [row(0, "math/geometry", "A"), row(1, "math/geometry", "B"), row(2, "math/numeric", "D")]
    parquet(folder / "mmstar.parquet", rows)


def mmstar_table(folder: Path) -> None:
    row = {"index": 0, "question": "What is 0?", "A": "a red, old hat", "B": "0 cats", "C": "a dog"}
    row |= {"D": "no", "answer": "A", "category": "math", "l2_category": "geometry"}
    table(folder / "MMStar.tsv", [{**row, "image": encoded()}])


# V*, AI2D, HR-Bench


def vstar(folder: Path) -> None:
    ask = "Answer with the option's letter from the given choices directly."
    kinds = ("direct_attributes", "relative_position")
    rows = []
    for number, (kind, label) in enumerate([(kinds[0], "C"), (kinds[1], "A"), (kinds[0], "B")]):
        listed = "(A) red\n(B) blue\n(C) tan"
        image = f"{kind}/sa_{number}.jpg"
        row = {"text": f"What is the colour of glove {number}?\n{listed}\n{ask}", "label": label}
        rows.append({**row, "category": kind, "question_id": number, "image": image})
        image_file(folder / image)
    lines(folder / "test_questions.jsonl", rows)


def ai2d(folder: Path) -> None:
    row = {"question": "What eats grass?", "options": ["fox", "hare", "owl", "tree"], "answer": "1"}
    other = {"question": "What is at A?", "options": ["sun", "moon", "sea", "sand"], "answer": "3"}
    rows = [{**row, "image": embedded(1)}, {**other, "image": embedded(2)}]
    for place, chosen in enumerate(rows):
        parquet(folder / f"data/test-{place:05d}-of-00002.parquet", [chosen])


def hr_rows() -> list[dict[str, Any]]:
    """Two images with one question and one set of options, in four orders each, and a third."""
    rows = []
    for image, category in ((0, "single"), (1, "single"), (2, "cross")):
        texts = ["red", "blue", "tan", "grey"] if image < 2 else ["left", "right", "up", "down"]
        for turn in range(4):
            turned = texts[turn:] + texts[:turn]
            row = {"index": 4 * image + turn, "question": "How is it?", "answer": "ADCB"[turn]}
            row |= dict(zip("ABCD", turned, strict=True))
            rows.append({**row, "category": category, "cycle_category": str(turn)})
    return rows


def hr_bench(folder: Path) -> None:
    rows = [{**row, "image": encoded(row["index"] // 4)} for row in hr_rows()]
    parquet(folder / "hr_bench_4k.parquet", rows)


def hr_bench_table(folder: Path) -> None:
    rows = [{**row, "image": encoded(row["index"] // 4)} for row in hr_rows()]
    table(folder / "hr_bench_8k.tsv", rows)


FILES: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "ai2d": (ai2d, "test"),
    "blink": (blink, "val"),
    "cv-bench": (cv_bench, "test"),
    "hr-bench-4k": (hr_bench, "test"),
    "hr-bench-8k": (hr_bench_table, "test"),
    "mmstar": (mmstar, "val"),
    "mmvp": (mmvp, "train"),
    "naturalbench": (naturalbench, "train"),
    "vstar": (vstar, "test"),
}
"""Benchmark -> what writes its files into a folder, and their split."""

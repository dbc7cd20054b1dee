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


# DocVQA, InfographicVQA, ChartQA, OCRBench, VizWiz


def docvqa(folder: Path) -> None:
    rows = [
        {
            "questionId": 49,
            "question": "Who?",
            "image": "documents/a_1.png",
            "answers": ["ITC", "itc ltd"],
        },
        {"questionId": 50, "question": "When?", "image": "documents/a_1.png", "answers": ["1998"]},
    ]
    image_file(folder / "documents" / "a_1.png")
    content = {"dataset_name": "SP-DocVQA", "dataset_split": "val", "data": rows}
    (folder / "val_v1.0_withQT.json").write_text(json.dumps(content))


def docvqa_parquet(folder: Path) -> None:
    row = {"questionId": "49", "question": "Who?", "question_types": ["layout"], "docId": 4}
    row |= {"image": embedded(), "answers": ["ITC", "itc ltd"], "data_split": "val"}
    parquet(folder / "DocVQA" / "validation-00000-of-00001.parquet", [row])


def infovqa(folder: Path) -> None:
    rows = [
        {"questionId": 1, "question": "How many?", "image_local_name": "7.jpeg", "answers": ["9%"]},
        {
            "questionId": 2,
            "question": "Which?",
            "image_local_name": "7.jpeg",
            "answers": ["left", "l"],
        },
    ]
    image_file(folder / "images" / "7.jpeg")
    content = {"dataset_name": "infographicVQA", "data": rows}
    (folder / "infographicsVQA_val_v1.0_withQT.json").write_text(json.dumps(content))


def chartqa(folder: Path) -> None:
    """The release: two files of a split, images in the folder ``png``."""
    human = [{"imgname": "1.png", "query": "How high?", "label": "100"}]
    made = [
        {"imgname": "2.png", "query": "Which?", "label": "Germany"},
        {"imgname": "2.png", "query": "What share?", "label": "8%"},
    ]
    for name, rows in (("human", human), ("augmented", made)):
        path = folder / "test" / f"test_{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(rows))
    for number in (1, 2):
        image_file(folder / "test" / "png" / f"{number}.png")


def chartqa_parquet(folder: Path) -> None:
    row = {"type": "human_test", "question": "How high?", "answer": "100", "image": embedded()}
    parquet(folder / "data" / "test-00000-of-00001.parquet", [row])


_OCR = [
    ("IIIT5K", "Regular Text Recognition", "CENTRE"),
    ("IIIT5K", "Regular Text Recognition", "５０ km"),
    ("ESTVQA", "Scene Text-centric VQA", ["No. 12", "12"]),
    ("HME100k", "Handwritten Mathematical Expression Recognition", "x ^ { 2 } + Y"),
]


def ocrbench(folder: Path) -> None:
    rows = [
        {"dataset_name": name, "type": kind, "id": place, "question": "What is written?"}
        | {"answers": answers, "image_path": f"{name}/{place}.png"}
        for place, (name, kind, answers) in enumerate(_OCR)
    ]
    (folder / "OCRBench.json").parent.mkdir(parents=True, exist_ok=True)
    (folder / "OCRBench.json").write_text(json.dumps(rows))
    for row in rows:
        image_file(folder / str(row["image_path"]))


def ocrbench_parquet(folder: Path) -> None:
    rows = [
        {"dataset": name, "question_type": kind, "question": "What is written?"}
        | {"answer": [answers] if isinstance(answers, str) else answers, "image": embedded()}
        for name, kind, answers in _OCR
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)


_VIZWIZ = [
    ("unanswerable", ["unanswerable"] * 7 + ["no"] * 3),
    ("other", ["basil"] * 8 + ["basil leaves"] * 2),
]


def vizwiz(folder: Path) -> None:
    rows = []
    for place, (kind, answers) in enumerate(_VIZWIZ):
        row = {"image": f"VizWiz_val_{place:08d}.jpg", "question": "What is this?"}
        said = [{"answer": text, "answer_confidence": "yes"} for text in answers]
        rows.append({**row, "answers": said, "answer_type": kind, "answerable": place})
        image_file(folder / "val" / row["image"])
    (folder / "val.json").write_text(json.dumps(rows))


def vizwiz_parquet(folder: Path) -> None:
    rows = [
        {"question_id": f"VizWiz_val_{place:08d}", "image": embedded(), "question": "What is this?"}
        | {"answers": answers, "category": kind}
        for place, (kind, answers) in enumerate(_VIZWIZ)
    ]
    parquet(folder / "data" / "val-00000-of-00001.parquet", rows)


# counting


def countbenchqa(folder: Path) -> None:
    rows = [
        {
            "image": embedded(count),
            "text": f"{count} cats",
            "question": "How many?",
            "number": count,
        }
        for count in (3, 3, 10)
    ]
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)


def pixmo_count(folder: Path) -> None:
    """The release has no images, only where they were and their hashes."""
    rows = []
    for place, count in enumerate((2, 5, 7)):
        sha = f"{place:064x}"
        row = {"image_url": f"https://example.com/{place}.jpg", "image_sha256": sha}
        rows.append({**row, "count": count, "label": "people"})
        image_file(folder / "images" / f"{sha}.jpg")
    parquet(folder / "data" / "test-00000-of-00001.parquet", rows)


def tallyqa(folder: Path) -> None:
    rows = [
        {"answer": 4, "question": "How many lights?", "issimple": True, "question_id": 30},
        {"answer": 1, "question": "How many men with hats?", "issimple": False, "question_id": 31},
    ]
    image_file(folder / "VG_100K_2" / "24.jpg")
    said = {"image": "VG_100K_2/24.jpg", "image_id": 924, "data_source": "amt"}
    (folder / "test.json").write_text(json.dumps([{**row, **said} for row in rows]))


# RealWorldQA, HallusionBench, ScienceQA, MMMU


def realworldqa(folder: Path) -> None:
    letter = "Please answer directly with only the letter of the correct option and nothing else."
    word = "Please answer directly with a single word or number."
    rows = [
        {"question": f"Where is it?\n\nA. Left.\nB. Right.\nC. Ahead.\n{letter}", "answer": "C"},
        {"question": f"How many lanes?\n{word}", "answer": "2"},
        {"question": f"Uphill or downhill?\n{word}", "answer": "Downhill"},
    ]
    files = [{**row, "image": embedded(place)} for place, row in enumerate(rows)]
    parquet(folder / "data" / "test-00000-of-00001.parquet", files)


_HALLUSION = [  # category, set, figure, question, visual input, answer
    ("VD", "0", "0", "0", "1", "1"),
    ("VD", "0", "1", "0", "2", "0"),
    ("VD", "0", "0", "1", "1", "0"),
    ("VD", "0", "1", "1", "2", "0"),
    ("VS", "1", "0", "0", "0", "1"),  # without a figure
    ("VS", "1", "1", "0", "1", "1"),
]


def hallusion_bench(folder: Path) -> None:
    rows = []
    for category, number, figure, question, visual, answer in _HALLUSION:
        row = {"category": category, "subcategory": "chart", "set_id": number, "figure_id": figure}
        row |= {"question_id": question, "visual_input": visual, "gt_answer": answer}
        name = None if visual == "0" else f"./{category}/chart/{number}_{figure}.png"
        rows.append({**row, "question": "Is it so?", "gt_answer_details": "x", "filename": name})
        image_file(folder / category / "chart" / f"{number}_{figure}.png")
    (folder / "HallusionBench.json").write_text(json.dumps(rows))


def _science(image: str | None, answer: int, hint: str, grade: str) -> dict[str, Any]:
    row = {"question": "Which is it?", "choices": ["ice", "steam", "water"], "answer": answer}
    row |= {"hint": hint, "image": image, "grade": grade, "subject": "natural science"}
    return {**row, "task": "closed choice", "topic": "physics", "split": "test"}


def scienceqa(folder: Path) -> None:
    """The release: one file of all splits, images in folders of their own."""
    problems = {
        "4": _science("image.png", 2, "Look at the picture.", "grade2"),
        "5": _science("image.png", 0, "", "grade8"),
        "6": _science(None, 1, "", "grade8"),
    }
    for name in ("4", "5"):
        image_file(folder / "test" / name / "image.png")
    (folder / "problems.json").write_text(json.dumps(problems))


def scienceqa_parquet(folder: Path) -> None:
    rows = [_science(None, 2, "Look.", "grade2"), _science(None, 0, "", "grade8")]
    files = [{**row, "image": embedded(place)} for place, row in enumerate(rows)]
    for row in files:
        del row["split"]
    parquet(folder / "data" / "test-00000-of-00001.parquet", files)


def mmmu(folder: Path) -> None:
    def row(subject: str, number: int, question: str, options: str, answer: str) -> dict[str, Any]:
        kind = "open" if options == "[]" else "multiple-choice"
        found = {"id": f"validation_{subject}_{number}", "question": question, "options": options}
        shown = {f"image_{k}": embedded(10 * number + k, "x.png") for k in (1, 2, 3)}
        return {**found, "answer": answer, "question_type": kind, "subfield": "x", **shown}

    art = [
        row("Art", 1, "Compare <image 2> and <image 1>.", "['oil', 'ink', 'lead']", "B"),
        row("Art", 2, "Which?", "['<image 1>', '<image 3>']", "A"),
    ]
    parquet(folder / "Art/validation-00000-of-00001.parquet", art)
    math = [
        row("Math", 1, "What is x in <image 1>?", "[]", "8.25"),
        row("Math", 2, "Name <image 1>.", "[]", "['a cone', 'cone']"),
    ]
    parquet(folder / "Math/validation-00000-of-00001.parquet", math)


FILES: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "ai2d": (ai2d, "test"),
    "blink": (blink, "val"),
    "chartqa": (chartqa, "test"),
    "countbenchqa": (countbenchqa, "test"),
    "cv-bench": (cv_bench, "test"),
    "docvqa": (docvqa, "val"),
    "hallusion-bench": (hallusion_bench, "test"),
    "hr-bench-4k": (hr_bench, "test"),
    "hr-bench-8k": (hr_bench_table, "test"),
    "infovqa": (infovqa, "val"),
    "mmmu": (mmmu, "validation"),
    "mmstar": (mmstar, "val"),
    "mmvp": (mmvp, "train"),
    "naturalbench": (naturalbench, "train"),
    "ocrbench": (ocrbench, "test"),
    "pixmo-count": (pixmo_count, "test"),
    "realworldqa": (realworldqa, "test"),
    "scienceqa": (scienceqa, "test"),
    "tallyqa": (tallyqa, "test"),
    "vizwiz": (vizwiz, "val"),
    "vstar": (vstar, "test"),
}
"""Benchmark -> what writes its files into a folder, and their split."""

"""GVTBench's rows of questions about objects; shared by `counting` and `identification`.

    [{"image_id", "text_in": question, "text_out": answer, "n_obj_exist": objects in the image}]

The files have no ids: the k-th question on an image is ``IMAGE_ID#k``, in the order of the file.
Results are GVT's rows ``{"image_id", "pred"}`` in that order, or rows with these ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from manyeyes.data.containers.documents import open_document
from manyeyes.data.containers.rows import Row
from manyeyes.evaluation.benchmarks.contract import Answers, Benchmark, Grade
from manyeyes.evaluation.benchmarks.files import record_rows, written_image
from manyeyes.evaluation.benchmarks.measures import most_frequent
from manyeyes.evaluation.benchmarks.results import is_own, result_rows, row_text, unique_id
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item

RESULT_FORMAT = '[{"image_id": ..., "pred": "..."}] in the order of the questions'
_OBJECTS = ((9, "1-9"), (19, "10-19"))
_MANY = "20+"


def gvt_benchmark(
    name: str,
    description: str,
    task: str,
    read_one: Callable[[Path, str], list[Item]],
    grade: Callable[[Answers], Grade],
    variants: Iterable[str],
) -> Benchmark:
    """A task ("oc", "mci") of GVTBench; splits are the sources of images, coco and vcr."""
    folders = ("", "GVTBench/", "annotations/")
    return Benchmark(
        name=name,
        description=description,
        variants=tuple(variants),
        files=tuple(f"{folder}{{split}}_{task}.json" for folder in folders),
        holds="GVTBench questions",
        result_format=RESULT_FORMAT,
        read_one=read_one,
        grade=grade,
        constant=constant_answer,
        load=load_gvt,
    )


def read_gvt(
    path: Path, prompt: str, groups: Callable[[Row, str], Mapping[str, str]]
) -> list[Item]:
    """One item per row; ``groups`` checks a row's answer and gives its breakdowns."""
    seen: Counter[str] = Counter()
    items = []
    for row in record_rows(open_document(path)):
        image_id = row.identity("image_id")
        seen[str(image_id)] += 1
        answer = row.text("text_out")
        items.append(
            Item(
                id=f"{image_id}#{seen[str(image_id)]}",
                image=written_image(row, "image_id", _image(image_id)),
                prompt=prompt.format(question=row.text("text_in")),
                references=(answer,),
                cluster=str(image_id),
                groups={**groups(row, answer), **_objects(row)},
            )
        )
    return items


def load_gvt(path: Path) -> dict[str, Prediction]:
    """GVT's rows in the order of the questions, or rows with ``id`` and ``pred``."""
    found: dict[str, Prediction] = {}
    seen: Counter[str] = Counter()
    for row in result_rows(path):
        if is_own(row):
            found[unique_id(row, "id", found)] = row_text(row, "prediction")
        elif "id" in row.value:
            found[unique_id(row, "id", found)] = row_text(row, "pred")
        else:
            image_id = str(row.identity("image_id"))
            seen[image_id] += 1
            found[f"{image_id}#{seen[image_id]}"] = row_text(row, "pred")
    return found


def constant_answer(items: Sequence[Item], counted: Sequence[Item], box_style: str) -> list[str]:
    """The most frequent answer everywhere (ties: first in the alphabet)."""
    return [_most_frequent(counted)[0]] * len(items)


def constant_note(items: Sequence[Item]) -> str:
    """How often the best constant answer is right; models have been reported below it."""
    answer, number = _most_frequent(items)
    return f"the constant answer {answer!r} is right in {100 * number / len(items):.2f} %"


def _most_frequent(items: Sequence[Item]) -> tuple[str, int]:
    counts = Counter(item.references[0] for item in items)
    answer = most_frequent(counts)
    return answer, counts[answer]


def _image(image_id: str | int) -> str:
    """COCO val2017 by number; VCR's rows hold the path of the image."""
    return f"{image_id:012d}.jpg" if isinstance(image_id, int) else f"vcr1images/{image_id}"


def _objects(row: Row) -> dict[str, str]:
    """How many objects the image holds, in GVT's three ranges; {} where the row does not say."""
    if "n_obj_exist" not in row.value:
        return {}
    number = row.value["n_obj_exist"]
    if isinstance(number, bool) or not isinstance(number, int):
        raise row.error("n_obj_exist", f"expected a whole number, got {number!r}")
    return {"objects": next((name for limit, name in _OBJECTS if number <= limit), _MANY)}

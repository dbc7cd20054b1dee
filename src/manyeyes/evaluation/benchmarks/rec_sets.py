"""One box per expression, right at IoU 0.5: RefCOCO, RefCOCO+, RefCOCOg, and a world's own lines.

The official files (lichengunc/refer) are ``refs(unc).p`` (RefCOCO and +), ``refs(umd).p`` or
``refs(google).p`` (g) with ``instances.json`` placed them; the split is the one that each reference
names (val, testA, testB, test). Shikra's JSON lines ``{img_path, expression, bbox}`` hold one split
a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from manyeyes.data.readers.prompts import REC_PROMPT
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.grounding import (
    box_loader,
    constant_box,
    expression_items,
    grade_boxes,
    load_expressions,
    with_instances,
)
from manyeyes.evaluation.scorers.rec import REC_VARIANTS
from manyeyes.inference.questions import Item


def _read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per expression; image sizes that are not written are read when they are needed."""
    return expression_items(load_expressions(paths), prompt)


def _benchmark(
    name: str, description: str, id_key: str, files: tuple[str, ...], result_format: str
) -> Benchmark:
    return Benchmark(
        name=name,
        description=description,
        variants=tuple(REC_VARIANTS),
        prompt=REC_PROMPT,
        answer="boxes",
        files=files,
        holds="referring expressions",
        result_format=result_format,
        locate=with_instances(files),
        read=_read,
        grade=grade_boxes,
        constant=constant_box,
        load=box_loader(id_key),
    )


def _refcoco(name: str, title: str, owners: Sequence[str]) -> Benchmark:
    """One of the three; ``owners`` are the split owners of its pickles, the usual one first."""
    folders = (f"{name}/", f"annotations/{name}/", "")
    return _benchmark(
        name,
        f"{title}: box for a referring expression, right at IoU 0.5",
        "sent_id",
        (
            *(f"{folder}refs({owner}).p" for owner in owners for folder in folders),
            *(f"REC_{name}_{owner}_{{split}}.jsonl" for owner in owners),
            f"{name}_{{split}}.jsonl",
        ),
        '[{"sent_id": ..., "answer": "[x1,y1,x2,y2]" or [x1, y1, x2, y2] in pixels}]',
    )


REC_SETS: Mapping[str, Benchmark] = {
    "rec": _benchmark(
        "rec",
        "box for a referring expression, right at IoU 0.5 (RefCOCO-style JSON lines)",
        "question_id",
        ("annotations/refs_{split}.jsonl", "refs_{split}.jsonl"),
        'JSON lines {"question_id": ..., "answer": "[x1,y1,x2,y2]"}',
    ),
    "refcoco": _refcoco("refcoco", "RefCOCO", ("unc", "google")),
    "refcoco+": _refcoco("refcoco+", "RefCOCO+", ("unc", "google")),
    "refcocog": _refcoco("refcocog", "RefCOCOg", ("umd", "google")),
}

"""RefCOCO, RefCOCO+ and RefCOCOg: one box per sentence, right at IoU 0.5 (lichengunc/refer).

The official files are ``refs(unc).p`` (RefCOCO and +), ``refs(umd).p`` or ``refs(google).p`` (g)
with ``instances.json`` beside them; the split is the one that each reference names (val, testA,
testB, test). Shikra's JSON lines ``{img_path, expression, bbox}`` hold one split a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from manyeyes.data.containers.pickles import SUFFIXES
from manyeyes.data.readers.prompts import REC_PROMPT
from manyeyes.errors import UsageError
from manyeyes.evaluation.benchmarks.contract import Benchmark
from manyeyes.evaluation.benchmarks.files import Source, expect_files, find_file, load_samples
from manyeyes.evaluation.benchmarks.grounding import (
    box_loader,
    constant_box,
    expression_items,
    grade_boxes,
)
from manyeyes.evaluation.scorers.rec import REC_VARIANTS
from manyeyes.inference.questions import Item

PROMPT = REC_PROMPT


def read(paths: Sequence[Path], prompt: str) -> list[Item]:
    """One item per sentence of all splits; its id is ``sent_id``.

    A pickle may be followed by its instances; else they are looked for beside it.
    """
    if paths and paths[0].name.lower().endswith(SUFFIXES):
        if len(paths) > 2:
            raise UsageError(f"expected a pickle and its instances.json, got {len(paths)} files")
        instances = paths[1] if len(paths) == 2 else None
        return expression_items(
            load_samples(paths[0], "refcoco_pickle", annotations=instances), prompt
        )
    (path,) = expect_files(paths, "referring expressions")
    return expression_items(load_samples(path, "refcoco"), prompt)


def _benchmark(name: str, title: str, owners: Sequence[str]) -> Benchmark:
    """One of the three; ``owners`` are the split owners of its pickles, the usual one first."""
    folders = (f"{name}/", f"annotations/{name}/", "")
    files = (
        *(f"{folder}refs({owner}).p" for owner in owners for folder in folders),
        *(f"REC_{name}_{owner}_{{split}}.jsonl" for owner in owners),
        f"{name}_{{split}}.jsonl",
    )

    def locate(source: Source) -> list[Path]:
        found = find_file(source, files, f"{title} expressions")
        return [found, found.with_name("instances.json")] if found.suffix == ".p" else [found]

    return Benchmark(
        name=name,
        description=f"{title}: box for a referring expression, right at IoU 0.5",
        metric="accuracy",
        variants=tuple(REC_VARIANTS),
        prompt=PROMPT,
        answer="boxes",
        files=files,
        result_format='[{"sent_id": ..., "answer": "[x1,y1,x2,y2]" or [x1, y1, x2, y2] in pixels}]',
        locate=locate,
        read=read,
        grade=grade_boxes,
        constant=constant_box,
        load=box_loader("sent_id"),
    )


REFCOCO = _benchmark("refcoco", "RefCOCO", ("unc", "google"))
REFCOCO_PLUS = _benchmark("refcoco+", "RefCOCO+", ("unc", "google"))
REFCOCOG = _benchmark("refcocog", "RefCOCOg", ("umd", "google"))

"""The benchmarks by name. To add one: a file with a ``BENCHMARK``, and a line in the table."""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.errors import UsageError, nearest
from manyeyes.evaluation.benchmarks import (
    aokvqa,
    caption,
    coco_caption,
    coco_detection,
    coda,
    counting,
    exact,
    flickr30k_caption,
    flickr30k_entities,
    gqa,
    iconqa,
    identification,
    mmbench,
    mme,
    nocaps,
    okvqa,
    pointqa,
    pope,
    rec,
    refcoco,
    reg,
    seed_bench,
    textcaps,
    textvqa,
    visdial,
    visual7w,
    vqa,
    vqav2,
    vsr,
)
from manyeyes.evaluation.benchmarks.contract import Benchmark

BENCHMARKS: Mapping[str, Benchmark] = {
    "aokvqa": aokvqa.BENCHMARK,
    "caption": caption.BENCHMARK,
    "coco-caption": coco_caption.BENCHMARK,
    "coco-detection": coco_detection.BENCHMARK,
    "coda": coda.BENCHMARK,
    "counting": counting.BENCHMARK,
    "exact": exact.BENCHMARK,
    "flickr30k-caption": flickr30k_caption.BENCHMARK,
    "flickr30k-entities": flickr30k_entities.BENCHMARK,
    "gqa": gqa.BENCHMARK,
    "iconqa": iconqa.BENCHMARK,
    "identification": identification.BENCHMARK,
    "mmbench": mmbench.BENCHMARK,
    "mme": mme.BENCHMARK,
    "nocaps": nocaps.BENCHMARK,
    "okvqa": okvqa.BENCHMARK,
    "pointqa": pointqa.BENCHMARK,
    "pope": pope.BENCHMARK,
    "rec": rec.BENCHMARK,
    "refcoco": refcoco.REFCOCO,
    "refcoco+": refcoco.REFCOCO_PLUS,
    "refcocog": refcoco.REFCOCOG,
    "reg": reg.BENCHMARK,
    "seed-bench": seed_bench.BENCHMARK,
    "textcaps": textcaps.BENCHMARK,
    "textvqa": textvqa.BENCHMARK,
    "visdial": visdial.BENCHMARK,
    "visual7w": visual7w.BENCHMARK,
    "vqa": vqa.BENCHMARK,
    "vqav2": vqav2.BENCHMARK,
    "vsr": vsr.BENCHMARK,
}


def get_benchmark(name: str) -> Benchmark:
    """Look a benchmark up; UsageError with the nearest known name if there is none."""
    if name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise UsageError(f"unknown benchmark {name!r}{nearest(name, BENCHMARKS)}; known: {known}")
    return BENCHMARKS[name]


__all__ = ["BENCHMARKS", "Benchmark", "get_benchmark"]

"""VQAv2 (Goyal et al. 2017): open questions about COCO images, ten human answers each.

Splits are train2014 and val2014; the answers of the test splits are not public. Variants: see
`scorers.vqa`; "official" is GT-Vision-Lab/VQA's ``vqaEval.py``.
"""

from __future__ import annotations

from manyeyes.evaluation.benchmarks.vqa_pairs import PairFiles, vqa_benchmark

FILES = PairFiles(
    questions=(
        "v2_OpenEnded_mscoco_{split}_questions.json",
        "annotations/v2_OpenEnded_mscoco_{split}_questions.json",
    ),
    annotations=(
        "v2_mscoco_{split}_annotations.json",
        "annotations/v2_mscoco_{split}_annotations.json",
    ),
)

BENCHMARK = vqa_benchmark("vqav2", "open questions on COCO images (VQAv2)", FILES)

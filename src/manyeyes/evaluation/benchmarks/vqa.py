"""VQA accuracy over any pair of question and annotation files in VQAv2's layout."""

from __future__ import annotations

from manyeyes.evaluation.benchmarks.vqa_pairs import GENERIC, vqa_benchmark

BENCHMARK = vqa_benchmark("vqa", "VQA accuracy against human answers (VQAv2 files)", GENERIC)

"""Formats that samples are written in. To add one: a module with ``write``, and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.data.writers import exchanges, llava, messages, parquet
from manyeyes.data.writers.contract import ImagePlaces, Writer

WRITERS: Mapping[str, Writer] = {
    "llava": Writer("LLaVA JSON or JSON lines", (".json", ".jsonl"), llava.write),
    "messages": Writer("messages as JSON or JSON lines", (".json", ".jsonl"), messages.write),
    "parquet": Writer("messages and images as parquet", (".parquet",), parquet.write, True),
    "question_answer": Writer(
        "one question and answer a row",
        (".json", ".jsonl"),
        exchanges.write_question_answer,
        whole=False,
    ),
    "refcoco": Writer(
        "one referring expression a row", (".jsonl",), exchanges.write_refcoco, whole=False
    ),
    "vqa": Writer(
        "VQA questions, annotations beside them", (".json",), exchanges.write_vqa, whole=False
    ),
}
"""Known formats by name."""

__all__ = ["WRITERS", "ImagePlaces", "Writer"]

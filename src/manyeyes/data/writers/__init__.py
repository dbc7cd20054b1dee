"""Formats that samples are written in. To add one: a module with ``write``, and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.data.writers import llava, messages, parquet
from manyeyes.data.writers.contract import ImagePlaces, Writer

WRITERS: Mapping[str, Writer] = {
    "llava": Writer("LLaVA JSON or JSON lines", (".json", ".jsonl"), llava.write),
    "messages": Writer("messages as JSON or JSON lines", (".json", ".jsonl"), messages.write),
    "parquet": Writer("messages and images as parquet", (".parquet",), parquet.write, True),
}
"""Known formats by name."""

__all__ = ["WRITERS", "ImagePlaces", "Writer"]

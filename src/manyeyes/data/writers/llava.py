"""LLaVA: ``{id, image, conversations: [{from, value}]}``; a system text stands under ``system``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from manyeyes.data.writers.contract import ImagePlaces, extra_keys, write_json
from manyeyes.records import Sample

_NAMES = {"user": "human", "assistant": "gpt"}


def row(sample: Sample, places: ImagePlaces) -> dict[str, Any]:
    """One record; ``image`` is a path, or a list of several."""
    found = extra_keys(sample)
    images = [places.path(image) for image in sample.images]
    if images:
        found["image"] = images[0] if len(images) == 1 else images
    if sample.turns and sample.turns[0].role == "system":
        found["system"] = sample.turns[0].text
    found["conversations"] = [
        {"from": _NAMES[turn.role], "value": turn.text}
        for turn in sample.turns
        if turn.role != "system"
    ]
    return found


def write(samples: Iterable[Sample], path: Path, places: ImagePlaces) -> None:
    """Write all samples as a JSON list or as JSON lines."""
    write_json((row(sample, places) for sample in samples), path)

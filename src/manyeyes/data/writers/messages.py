"""Messages: ``{id, images: [path], messages: [{role, content}]}``, content with ``<image>``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from manyeyes.data.writers.contract import ImagePlaces, extra_keys, write_json
from manyeyes.records import Sample


def row(sample: Sample, places: ImagePlaces) -> dict[str, Any]:
    """One record; ``images`` is left out where there are none."""
    found = extra_keys(sample)
    if sample.images:
        found["images"] = [places.path(image) for image in sample.images]
    found["messages"] = [{"role": turn.role, "content": turn.text} for turn in sample.turns]
    return found


def write(samples: Iterable[Sample], path: Path, places: ImagePlaces) -> None:
    """Write all samples as a JSON list or as JSON lines."""
    write_json((row(sample, places) for sample in samples), path)

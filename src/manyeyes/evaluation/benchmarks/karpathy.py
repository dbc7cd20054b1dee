"""Karpathy's split files as captioning items; shared by `coco-caption` and `flickr30k-caption`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.files import iter_samples
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.captions import caption_item
from manyeyes.inference.questions import Item
from manyeyes.records import Sample

_TOGETHER = {"restval": "train"}
"""COCO's "restval" belongs to the training split, as is the custom."""


def read_karpathy(path: Path, prompt: str) -> list[Item]:
    """One item per image of every split, with all its sentences as references.

    Ids are COCO's (``cocoid``) or Karpathy's (``imgid``) where there are none.
    """
    samples: dict[str, Sample] = {}
    for sample in iter_samples(path, format="karpathy", options=SourceOptions(".")):
        samples.setdefault(str(sample.meta["image_id"]), sample)
    if not samples:
        raise DataError("holds no rows", file=str(path))
    splits = {identity: _split(sample) for identity, sample in samples.items()}
    counts = Counter(splits.values())
    return [
        caption_item(
            identity,
            sample.images[0],
            sample.meta["references"],
            prompt,
            images=counts[splits[identity]],
            split=splits[identity],
        )
        for identity, sample in samples.items()
    ]


def _split(sample: Sample) -> str | None:
    split = sample.meta["split"]
    return None if split is None else _TOGETHER.get(str(split), str(split))

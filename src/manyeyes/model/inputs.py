"""The model's keyword arguments: made of training rows, and sorted by who reads them.

Readers are encoders, fusion, language model and detection loss. Shapes: B samples, T positions, I
images of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from manyeyes.conversation.fusion_text import TextReader
from manyeyes.conversation.task_types import routes_of
from manyeyes.errors import UsageError
from manyeyes.losses.detection import ObjectTargets
from manyeyes.model.text_rows import TextRows
from manyeyes.perception.object_texts import join_objects
from manyeyes.perception.targets import TARGETS, target_batch
from manyeyes.records import IGNORE, FusionText

PIXELS, FEATURES, NOISE, TILES = VISUAL = ("pixel_values_", "features_", "noise_", "tile_")

Texts = dict[str, FusionText]
"""Texts that the fusion reads, by kind: question, caption, perception."""


def batch_of(
    rows: Sequence[Mapping[str, Tensor]],
    text_rows: TextRows,
    reader: TextReader | None,
    *,
    routed: bool,
) -> dict[str, Tensor]:
    """Pad rows of ``encode`` on the right into ``[B, T]``; pixels and features are ``[I, ...]``,
    of tiles ``[J, ...]``."""
    batch = text_rows.batch(rows)
    batch["image_counts"] = torch.cat([row["image_counts"] for row in rows])
    if routed:
        batch["routes"] = torch.cat([row["routes"] for row in rows])
    for key in rows[0]:
        if key.startswith((PIXELS, FEATURES, TILES)):
            batch[key] = torch.cat([row[key] for row in rows])
    batch |= target_batch(rows)
    batch |= join_objects(rows)
    if reader is not None:
        texts = [row[f"{reader.kind}_ids"] for row in rows]
        batch |= reader.inputs(texts, batch["image_counts"].tolist())
    return batch


def split_visual(inputs: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Separate pixels, tiles, stored features and noise from other arguments; drop empty ones."""
    visual = {k: v for k, v in inputs.items() if k.startswith(VISUAL) and len(v)}
    rest = {k: v for k, v in inputs.items() if not k.startswith(VISUAL)}
    return visual, rest


def take_texts(inputs: dict[str, Any]) -> Texts:
    """Take the texts that a fusion reads out of keyword arguments: ``<kind>_ids``, ``_mask``."""
    texts: Texts = {}
    for kind in ("question", "caption", "perception"):
        ids, mask = inputs.pop(f"{kind}_ids", None), inputs.pop(f"{kind}_mask", None)
        if ids is not None and len(ids):
            texts[kind] = FusionText(ids, torch.ones_like(ids) if mask is None else mask)
    return texts


def without_image_tokens(labels: Tensor, image_tokens: Sequence[int] | None) -> Tensor:
    """Return labels in which image tokens, which no vocabulary holds, are not supervised.

    A copy of ``input_ids`` may so serve as labels, as for other models.
    """
    if not image_tokens:
        return labels
    ids = torch.tensor(list(image_tokens), device=labels.device)
    return labels.masked_fill(torch.isin(labels, ids), IGNORE)


def take_targets(inputs: dict[str, Any]) -> ObjectTargets | None:
    """Take a detector's targets out of keyword arguments."""
    found = [inputs.pop(name, None) for name in TARGETS]
    return None if any(part is None for part in found) else ObjectTargets(*found)


def with_stop(ends: int | Sequence[int] | None, more: int) -> list[int]:
    """Return the tokens that end an answer, ``more`` among them."""
    known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return known if more in known else [*known, more]


def routes_for(task: str | Sequence[str], input_ids: Tensor, *, routed: bool) -> Tensor:
    """Return the routes ``[B]`` of task types that a caller gives for ``input_ids`` ``[B, T]``.

    Raises:
        UsageError: an unknown task type, or one for a model that does not route.
    """
    if not routed:
        raise UsageError(
            f"task={task!r}: this model does not route by task type (its bridge has no "
            "`adapters` with a router)"
        )
    return torch.tensor(routes_of(task, [""] * len(input_ids)), device=input_ids.device)

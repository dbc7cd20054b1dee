"""The micro-batch that costs are counted for: one image and one conversation in each sample.

Ids, masks and labels are real numbers, because a model looks at them; pixels and stored features
are made by whoever asks, and may be without memory.

Shapes: B samples, T positions, I = B images, O objects of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from manyeyes.layers.attention.packed import KEYWORD as PACKED
from manyeyes.model.inputs import FEATURES, PIXELS
from manyeyes.model.pictures.tiles import GRIDS, VIEWS
from manyeyes.perception.targets import UNKNOWN
from manyeyes.recipes import StageRecipe
from manyeyes.records import IGNORE

TEXT_TOKENS = 128
"""Tokens of a sample's conversation, those of the answer among them."""
ANSWER_TOKENS = 32
"""Tokens of them that are supervised."""
OBJECTS = 20
"""Objects that a text is about in each image."""
OBJECT_TOKENS = 8
"""Tokens of the text about an object."""
_WORD = 5
"""Some token; none has a meaning of its own."""

Make = Callable[[Sequence[int], torch.dtype], Tensor]
"""Returns a tensor of that shape and type for what encoders give or read."""


def assumed_batch(
    model: Any, stage: StageRecipe, samples: int, make: Make, *, packing: bool, stored: torch.dtype
) -> dict[str, Any]:
    """Return ``model``'s keyword arguments for a micro-batch of ``samples``.

    ``packing``: as ``training.packing`` makes it. ``stored``: what stored features are in.
    """
    batch = _packed(model, samples) if packing else _texts(model, samples)
    batch |= _images(model, stage, samples, make, stored)
    batch |= _fusion_texts(model.config, samples)
    if model.config.routed:
        batch["routes"] = torch.zeros(samples, dtype=torch.long)
    if model.fusion.plan.refines is not None:
        batch |= {
            "target_counts": torch.full((samples,), UNKNOWN),
            "target_classes": torch.zeros(samples, 0, dtype=torch.long),
            "target_boxes": torch.zeros(samples, 0, 4),
        }
    return batch


def _row(model: Any) -> list[int]:
    """Ids of one sample: its image, of as many tiles as there may be, then its conversation."""
    ids = model.image_token_ids
    image = [ids.image] * int(model.config.visual_tokens)
    if getattr(model.bridge, "start_end", False):
        image = [ids.start, *image, ids.end]
    return [*image, *[_WORD] * TEXT_TOKENS]


def _texts(model: Any, samples: int) -> dict[str, Tensor]:
    row = _row(model)
    labels = [IGNORE] * (len(row) - ANSWER_TOKENS) + [_WORD] * ANSWER_TOKENS
    batch = {"image_counts": torch.ones(samples, dtype=torch.long)}
    if model.config.text_config.is_encoder_decoder:
        row, labels = row[:-ANSWER_TOKENS], labels[-ANSWER_TOKENS:]
        batch["attention_mask"] = torch.ones(samples, len(row), dtype=torch.long)
    ids = torch.tensor([row] * samples)
    return {**batch, "input_ids": ids, "labels": torch.tensor([labels] * samples)}


def _packed(model: Any, samples: int) -> dict[str, Any]:
    """The same texts in one row, see ``training.packing``."""
    batch = _texts(model, samples)
    length = batch["input_ids"].shape[1]
    return {
        "input_ids": batch["input_ids"].reshape(1, -1),
        "labels": batch["labels"].reshape(1, -1),
        "position_ids": torch.arange(length).repeat(samples)[None],
        "image_counts": torch.tensor([samples]),
        PACKED: [length] * samples,
    }


def _images(
    model: Any, stage: StageRecipe, samples: int, make: Make, stored: torch.dtype
) -> dict[str, Tensor]:
    """Pixels for every encoder that the fusion reads, or what was stored of a frozen one."""
    found, tiles = {}, model.tiles
    for name, rule in model.config.pixel_transforms().items():
        encoder = model.encoders[name]
        if not encoder.spec.fused:
            continue
        learns = any(parameter.requires_grad for parameter in encoder.parameters())
        tiled = tiles is not None and name in tiles.encoders
        if tiled:
            seen = samples * tiles.layout.tiles(tiles.layout.largest)
            found[f"{PIXELS}{name}"] = make([seen, 3, *rule.size], torch.float32)
        elif stage.cache_features and not learns and not encoder.changes:
            size = [*encoder.packed_size()]
            if model.fusion.plan.averaged:
                size[0] = 1
            found[f"{FEATURES}{name}"] = make([samples, *size], encoder.packed_dtype(stored))
        else:
            found[f"{PIXELS}{name}"] = make([samples, 3, *rule.size], torch.float32)
    if tiles is not None:
        found[GRIDS] = torch.tensor([tiles.layout.largest] * samples)
        found[VIEWS] = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * samples)
    return found


def _fusion_texts(config: Any, samples: int) -> dict[str, Tensor]:
    """Texts that the fusion reads, as long as it can."""
    found: dict[str, Tensor] = {}
    if config.reader is not None:
        found |= _text(config.reader.kind, (samples, config.reader.length))
    if config.fusion_plan.object_texts:
        found |= _text("perception", (samples, OBJECTS, OBJECT_TOKENS))
    return found


def _text(kind: str, shape: Sequence[int]) -> dict[str, Tensor]:
    ids = torch.full(tuple(shape), _WORD)
    return {f"{kind}_ids": ids, f"{kind}_mask": torch.ones_like(ids)}

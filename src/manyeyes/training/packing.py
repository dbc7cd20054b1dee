"""Packing: the texts of a micro-batch in one row, one after the other, without any padding.

Which samples a micro-batch holds stays as it is, so order, resuming and loss do too: each text
reads itself alone (``layers.attention.packed``), and the loss is over the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from manyeyes.errors import RecipeError
from manyeyes.language import parse_language
from manyeyes.layers.attention.packed import FAMILIES, KEYWORD
from manyeyes.recipes import StageRecipe
from manyeyes.recipes.training_fields import GROUPED, STRATEGY
from manyeyes.records import IGNORE

Rows = Sequence[Mapping[str, Tensor]]


def packs(stage: StageRecipe, config: Any) -> bool:
    """Return whether a stage packs: as it says, and with ``auto`` wherever the model can.

    ``config``: the model's ``ManyEyesConfig``.

    Raises:
        RecipeError: it asks for what the model cannot: says why, and what to do instead.
    """
    reason = _why_not(config)
    if stage.packing is True and reason:
        raise RecipeError(
            f"stages.{stage.name}.packing: {reason}; use training.{STRATEGY}: {GROUPED} instead"
        )
    return bool(stage.packing) and not reason


def _why_not(config: Any) -> str | None:
    """Why the texts of a model cannot stand in one row; None = they can."""
    family = config.text_config.model_type
    if parse_language(config.language).idle:
        return "this stage is built without its language model"
    if config.text_config.is_encoder_decoder:
        return "an encoder-decoder model reads every prompt by itself"
    if config.given.prompts:
        return "the bridge's prompts belong to whole rows"
    if config.routed:
        return "the bridge's adapters are chosen for whole rows"
    if family not in FAMILIES:
        return f"it is known to work with {', '.join(FAMILIES)}, and this is a {family!r}"
    return None


def packed(collate: Callable[[Rows], dict[str, Any]]) -> Callable[[Rows], dict[str, Any]]:
    """Return ``collate`` with all texts of a batch in one row.

    ``input_ids``, ``labels`` and ``position_ids`` are ``[1, N]``, ``image_counts`` ``[1]``;
    ``packed_lengths`` lists the lengths of the texts. The first token of a text is not predicted.
    """

    def pack(rows: Rows) -> dict[str, Any]:
        batch = collate(rows)
        lengths = [len(row["input_ids"]) for row in rows]
        labels = torch.cat([row["labels"] for row in rows])
        firsts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
        labels[firsts] = IGNORE
        batch["input_ids"] = torch.cat([row["input_ids"] for row in rows])[None]
        batch["labels"] = labels[None]
        batch["position_ids"] = torch.cat([torch.arange(length) for length in lengths])[None]
        batch["image_counts"] = batch["image_counts"].sum()[None]
        return {**batch, KEYWORD: lengths}

    return pack

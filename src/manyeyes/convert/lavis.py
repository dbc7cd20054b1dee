"""BLIP-2, InstructBLIP and EVA ViT-g checkpoints of LAVIS (``.pth``).

A Q-Former becomes a folder of weights that a stage can start from; a vision encoder in the file
becomes a Hugging Face folder of its own. Language models in the file are left out: they are frozen,
and have checkpoints of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Blip2VisionConfig, Blip2VisionModel

from manyeyes.checkpoints.light import WEIGHTS
from manyeyes.checkpoints.weight_names import our_tensors
from manyeyes.convert.state_dicts import read_pth
from manyeyes.errors import CheckpointError
from manyeyes.files import written_folder

VISION_FOLDER = "vision"
EVA_HEADS = 16

_TOWER: tuple[tuple[str, str], ...] = (
    (r"cls_token", "embeddings.class_embedding"),
    (r"pos_embed", "embeddings.position_embedding"),
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embedding.\1"),
    (r"blocks\.(\d+)\.norm([12])\.(\w+)", r"encoder.layers.\1.layer_norm\2.\3"),
    (r"blocks\.(\d+)\.attn\.qkv\.weight", r"encoder.layers.\1.self_attn.qkv.weight"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"encoder.layers.\1.self_attn.projection.\2"),
    (r"blocks\.(\d+)\.mlp\.(fc[12]\.\w+)", r"encoder.layers.\1.mlp.\2"),
)
_USED_BLOCKS = 39
"""Of the 40 of ``eva_vit_g.pth``: BLIP-2 leaves out the last, and the norm and head behind it."""


@dataclass(frozen=True)
class Converted:
    """What was found: tensors of the fusion, the vision encoder if any, and what was left out."""

    fusion: dict[str, Tensor]
    vision: Blip2VisionModel | None
    left_out: tuple[str, ...]


def convert(file: Path, *, heads: int = EVA_HEADS) -> Converted:
    """Read a ``.pth`` file of LAVIS; ``heads``: attention heads of its vision encoder.

    Raises:
        CheckpointError: not a checkpoint of plain tensors, or nothing in it is known.
    """
    content = read_pth(file)
    state: Any = content.get("model", content)
    if not isinstance(state, dict):
        raise CheckpointError(f"{file}: 'model' holds a {type(state).__name__}")
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    fusion = our_tensors(tensors, "lavis")
    inside = {name.removeprefix("visual_encoder."): x for name, x in tensors.items()}
    tower = _tower(inside)
    if not fusion and not tower:
        raise CheckpointError(
            f"{file}: holds neither a Q-Former nor an EVA vision encoder of LAVIS"
        )
    known = {*_known(tensors)}
    left_out = tuple(sorted(name for name in tensors if name not in known))
    norm = (fusion.get("fusion.ln_vision.weight"), fusion.get("fusion.ln_vision.bias"))
    return Converted(fusion, _vision(tower, heads, norm) if tower else None, left_out)


def write(converted: Converted, folder: Path) -> None:
    """Write ``model.safetensors`` (the fusion) and ``vision/`` as ``folder``.

    Raises:
        WriteError: it cannot be written; nothing half-written stays.
    """
    with written_folder(folder) as aside:
        if converted.fusion:
            save_file({k: v.contiguous() for k, v in converted.fusion.items()}, aside / WEIGHTS)
        if converted.vision is not None:
            converted.vision.save_pretrained(aside / VISION_FOLDER)


def _known(tensors: Mapping[str, Tensor]) -> list[str]:
    return [
        name
        for name in tensors
        if our_tensors({name: tensors[name]}, "lavis")
        or _tower({name.removeprefix("visual_encoder."): tensors[name]})
        or name.endswith((".q_bias", ".v_bias"))
    ]


def _tower(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the vision encoder's tensors by the names of ``transformers``."""
    found = {}
    for name, tensor in tensors.items():
        block = re.match(r"blocks\.(\d+)\.", name)
        if block is not None and int(block[1]) >= _USED_BLOCKS:
            continue
        for pattern, target in _TOWER:
            match = re.fullmatch(pattern, name)
            if match is not None:
                found[match.expand(target)] = tensor
        if name.endswith("attn.q_bias"):
            value = tensors.get(name.replace("q_bias", "v_bias"), torch.zeros_like(tensor))
            joined = torch.cat([tensor, torch.zeros_like(tensor), value])
            number = name.split(".")[1]
            found[f"encoder.layers.{number}.self_attn.qkv.bias"] = joined  # keys have no bias
    return found


def _vision(
    tower: Mapping[str, Tensor], heads: int, norm: tuple[Tensor | None, Tensor | None]
) -> Blip2VisionModel:
    """Build the encoder with the sizes of its tensors.

    Raises:
        CheckpointError: tensors are missing or of sizes that do not fit together.
    """
    try:
        width, _, patch, _ = tower["embeddings.patch_embedding.weight"].shape
        side = int((tower["embeddings.position_embedding"].shape[1] - 1) ** 0.5)
        blocks = {name.split(".")[2] for name in tower if name.startswith("encoder.layers.")}
        config = Blip2VisionConfig(
            hidden_size=width,
            intermediate_size=tower["encoder.layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=len(blocks),
            num_attention_heads=heads,
            image_size=side * patch,
            patch_size=patch,
            layer_norm_eps=1e-6,
            qkv_bias=True,
        )
        model = Blip2VisionModel(config)
        weight, bias = norm
        last = {
            "post_layernorm.weight": torch.ones(width) if weight is None else weight,
            "post_layernorm.bias": torch.zeros(width) if bias is None else bias,
        }
        nn_state = {name: tensor.float() for name, tensor in {**tower, **last}.items()}
        model.load_state_dict(nn_state)
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the file's vision encoder is incomplete: {reason}") from error
    return model

"""LLaMA-Adapter V2's released multimodal checkpoints (OpenGVLab/LLaMA-Adapter).

A file holds what was trained (``model``) and a few switches (``config``): CLIP and LLaMA-1 are not
in it and must be at hand as Hugging Face checkpoints. Its queries' biases are permuted as
``transformers`` permutes the rotary projections; all else is copied as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manyeyes.convert.state_dicts import read_pth, renamed, rotated
from manyeyes.errors import CheckpointError
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.recipes import load_recipe, model_config

RECIPE = "llama-adapter-v2/paper"

_FUSION = {
    "visual_query.weight": "fusion.queries.weight",
    "clip_proj.": "fusion.scene_proj.0.",
    "clip_proj_norm.": "fusion.scene_proj.1.",
    "visual_blocks.": "fusion.visual_blocks.",
    "visual_proj.": "fusion.mlp_v.0.",
    "visual_proj_norm.": "fusion.mlp_v.1.",
    "adapter_query.weight": "bridge.queries.weight",
    "llama.norm.weight": "language_model.model.norm.weight",
}
_LAYER = {
    "attention.wq.bias": "self_attn.q_proj.bias",
    "attention.wo.bias": "self_attn.o_proj.bias",
    "feed_forward.w1.bias": "mlp.gate_proj.bias",
    "feed_forward.w2.bias": "mlp.down_proj.bias",
    "feed_forward.w3.bias": "mlp.up_proj.bias",
    "attention_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
}
_GATES = ("attention.gate", "attention.new_gate")
_IN_LAYER = re.compile(r"llama\.layers\.(\d+)\.(.+)")
_BASE = re.compile(
    r"clip\.|llama\.(tok_embeddings|output|rope)|llama\.layers\.\d+\.\w+\.(w[qkvo123]\.weight|inner)"
)


@dataclass
class Released:
    """A file's tensors under our names; gates by layer; names of base weights left out."""

    tensors: dict[str, Tensor]
    gates: dict[int, Tensor]
    scales: dict[int, Tensor]
    left_out: list[str] = field(default_factory=list)


def read_released(file: Path) -> Released:
    """Read and sort a released checkpoint.

    Raises:
        CheckpointError: damaged, of another kind, or with LoRA weights.
    """
    content = read_pth(file)
    state = content.get("model", content)
    if not isinstance(state, dict) or "adapter_query.weight" not in state:
        raise CheckpointError(f"{file}: holds no 'adapter_query.weight': not LLaMA-Adapter V2's")
    lora = [name for name in state if ".lora_" in name]
    if lora:
        raise CheckpointError(
            f"{file}: holds LoRA weights ({lora[0]!r}, ...), which this conversion does not carry "
            "over; convert the BIAS or CAPTION checkpoint"
        )
    tensors, rest = renamed(state, _our_name)
    gates: dict[str, dict[int, Tensor]] = {name: {} for name in _GATES}
    left_out = []
    for name in rest:
        layer = _IN_LAYER.fullmatch(name)
        if layer is not None and layer[2] in gates:
            gates[layer[2]][int(layer[1])] = state[name]
        elif _BASE.match(name):
            left_out.append(name)
        else:
            raise CheckpointError(f"{file}: unknown tensor {name!r}")
    if not gates[_GATES[0]]:
        raise CheckpointError(f"{file}: holds no gates ('llama.layers.*.attention.gate')")
    return Released(tensors, gates[_GATES[0]], gates[_GATES[1]], left_out)


def model_block(
    released: Released, *, language: str | None, clip: str | None, bgr: bool
) -> dict[str, Any]:
    """Return the recipe's model block with the file's sizes and the given base checkpoints."""
    block: dict[str, Any] = load_recipe(RECIPE).model
    queries, width = released.tensors["fusion.queries.weight"].shape
    numbers = re.compile(r"fusion\.visual_blocks\.(\d+)\.")
    depths = {int(m[1]) for name in released.tensors if (m := numbers.match(name))}
    layers = len(released.tensors["bridge.queries.weight"]) // queries
    encoder = {**block["encoders"][0], "bgr": bgr}
    if clip is not None:
        encoder = {**encoder, "checkpoint": clip, "levels": [-1], "image_size": None}
        encoder.pop("backbone")
    own = dict(block["language"])
    if language is not None:
        own = {"checkpoint": language, "added_biases": own["added_biases"]}
    if not any(re.match(r"language_model\..*\.bias", name) for name in released.tensors):
        own["added_biases"] = []
    fusion = {"queries": queries, "width": width, "depth": len(depths)}
    bridge = {"layers": layers, "gate_scale": bool(released.scales)}
    return {
        **block,
        "encoders": [encoder],
        "fusion": {**block["fusion"], **fusion},
        "bridge": {**block["bridge"], **bridge},
        "language": own,
    }


def convert(
    file: Path, *, language: str | None = None, clip: str | None = None, bgr: bool = False
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor, Released]:
    """Return model, processor and what was read from a released ``.pth`` file.

    ``language``, ``clip``: checkpoints of LLaMA-1 and CLIP; None = those of the recipe. ``bgr``:
    feed images in OpenCV's channel order, as the released models were trained.

    Raises:
        CheckpointError: a file of another kind, or one that does not fit the base checkpoints.
    """
    released = read_released(file)
    config: ManyEyesConfig = model_config(
        model_block(released, language=language, clip=clip, bgr=bgr)
    )
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    fill(model, released, file)
    return model, processor, released


@torch.no_grad()
def fill(model: ManyEyesForConditionalGeneration, released: Released, file: Path) -> None:
    """Copy a file's tensors into the model that its sizes gave.

    Raises:
        CheckpointError: a tensor the model lacks, of another shape, or that the file lacks.
    """
    text = model.config.text_config
    tensors = dict(released.tensors)
    rows: Mapping[str, Mapping[int, Tensor]] = {
        "bridge.gates": released.gates,
        "bridge.gate_scales": released.scales,
    }
    for name, by_layer in rows.items():
        if by_layer:
            if sorted(by_layer) != list(range(text.num_hidden_layers)):
                raise CheckpointError(
                    f"{file}: gates of layers {sorted(by_layer)}, but the language model has "
                    f"{text.num_hidden_layers} layers"
                )
            tensors[name] = torch.stack([by_layer[n].flatten() for n in sorted(by_layer)])
    if "bridge.gate_scales" in tensors:
        tensors["bridge.gate_scales"] = tensors["bridge.gate_scales"].flatten()
    own = model.state_dict()
    missing = [n for n in own if n.startswith(("fusion.", "bridge.")) and n not in tensors]
    if missing:
        raise CheckpointError(f"{file}: lacks the tensor that becomes {missing[0]!r}")
    for name, tensor in tensors.items():
        if name not in own or own[name].shape != tensor.shape:
            found = tuple(own[name].shape) if name in own else "nothing of that name"
            raise CheckpointError(
                f"{file}: {tuple(tensor.shape)} for {name!r}, but the model over these base "
                f"checkpoints has {found}"
            )
        if name.endswith("q_proj.bias"):
            tensor = rotated(tensor, text.num_attention_heads)
        own[name].copy_(tensor)
    model.mark_trained(tensors)


def _our_name(name: str) -> str | None:
    for theirs, ours in _FUSION.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    layer = _IN_LAYER.fullmatch(name)
    if layer is not None and layer[2] in _LAYER:
        return f"language_model.model.layers.{layer[1]}.{_LAYER[layer[2]]}"
    return None

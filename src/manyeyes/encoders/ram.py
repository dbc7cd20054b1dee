"""RAM, the Recognize Anything Model: a Swin tower and a head that asks for every tag (LION §4.1).

    image ─Swin, norm→ 144 tokens, their mean before them ─image_proj→ what the head reads
    embedding of a tag ─wordvec_proj, ReLU→ a query ─2 x (cross-attention, FFN), fc→ its logit

The head is that of Query2Label, without self-attention: tags do not see each other. Weights are
read from the published ``.pth``; the captioning half of the file is left out. Shapes: I images,
N tokens, W width of the tower, C tags, E width of tag embeddings, D width of the head.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SwinConfig, SwinModel

from manyeyes.checkpoints.pth import read_pth
from manyeyes.encoders.contract import PixelTransform
from manyeyes.encoders.spec import NORMALIZATIONS
from manyeyes.encoders.tagging import Tagger, TaggerSpec, read_lines
from manyeyes.errors import CheckpointError
from manyeyes.layers.attention.cross import BlockShape, CrossAttentionBlock

SWIN_L = {
    "image_size": 384,
    "patch_size": 4,
    "embed_dim": 192,
    "depths": (2, 2, 18, 2),
    "num_heads": (6, 12, 24, 48),
    "window_size": 12,
}
"""The published tower, ``ram_swin_large_14m``."""

HEADS = 4

_UNUSED = re.compile(
    r"(?!visual_encoder\.|tagging_head\.|label_embed$|image_proj\.|wordvec_proj\.|fc\.)"
    r"|tagging_head\.embeddings\.|tagging_head\.encoder\.layer\.\d+\.attention\."
    r"|.*(relative_position_index|attn_mask)$"
)
"""Tensors that tagging does not need: the captioning half, the head's embeddings and
self-attention, and tables that are computed."""

_TOWER = (
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"patch_embed\.norm\.(\w+)", r"embeddings.norm.\1"),
    (r"layers\.(\d+)\.downsample\.(\S+)", r"encoder.layers.\1.downsample.\2"),
    (r"(\S+)\.norm1\.(\w+)", r"\1.layernorm_before.\2"),
    (r"(\S+)\.norm2\.(\w+)", r"\1.layernorm_after.\2"),
    (r"(\S+)\.attn\.proj\.(\w+)", r"\1.attention.o_proj.\2"),
    (
        r"(\S+)\.attn\.relative_position_bias_table",
        r"\1.attention.relative_position_bias.relative_position_bias_table",
    ),
    (r"norm\.(\w+)", r"layernorm.\1"),
)
_HEAD = (
    (r"crossattention\.self\.(query|key|value)\.(\w+)", r"cross.change.\1.\2"),
    (r"crossattention\.output\.dense\.(\w+)", r"cross.change.out.\1"),
    (r"crossattention\.output\.LayerNorm\.(\w+)", r"cross.norm.\1"),
    (r"intermediate\.dense\.(\w+)", r"ffn.change.0.\1"),
    (r"output\.dense\.(\w+)", r"ffn.change.2.\1"),
    (r"output\.LayerNorm\.(\w+)", r"ffn.norm.\1"),
)


class RamTagger(Tagger):
    """Swin tower and tagging head; sizes that the tensors show are taken from ``state``.

    Raises:
        CheckpointError: the number of names is not that of the tag embeddings.
    """

    def __init__(self, spec: TaggerSpec, names: list[str], state: dict[str, Tensor]) -> None:
        super().__init__(spec, names)
        classes, embedding = state["label_embed"].shape
        if classes != len(names):
            raise CheckpointError(
                f"tagger.tags: {spec.tags!r} holds {len(names)} tags, the checkpoint {classes}"
            )
        config = SwinConfig(**{**SWIN_L, **spec.backbone})
        width = len(state["wordvec_proj.weight"]) if "wordvec_proj.weight" in state else embedding
        context, tower = state["image_proj.weight"].shape
        layers = {key.split(".")[1] for key in state if key.startswith("blocks.")}
        inner = len(state["blocks.0.ffn.change.0.weight"])
        shape = BlockShape(width=width, context=context, inner=width, heads=HEADS, ffn=inner)
        self.swin: Any = SwinModel(config, add_pooling_layer=False)
        self.image_proj = nn.Linear(tower, context)
        self.label_embed = nn.Parameter(torch.empty(classes, embedding))
        projected = "wordvec_proj.weight" in state
        self.wordvec_proj = nn.Linear(embedding, width) if projected else nn.Identity()
        self.blocks = nn.ModuleList(CrossAttentionBlock(shape) for _ in layers)
        self.fc = nn.Linear(width, 1)
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, spec: TaggerSpec) -> RamTagger:
        if spec.tags is None:
            raise CheckpointError("tagger.tags: RAM needs the file of its tag list")
        content = read_pth(Path(spec.checkpoint))
        state = our_tensors(content.get("model", content), spec.checkpoint)
        tagger = cls(spec, read_lines(spec.tags, "tagger.tags"), state)
        missing, unexpected = tagger.load_state_dict(state, strict=False)
        if missing or unexpected:
            raise CheckpointError(
                f"{spec.checkpoint}: does not fit RAM's tower: {len(missing)} weights missing, "
                f"{len(unexpected)} unknown, e.g. {[*missing, *unexpected][0]!r}"
            )
        return tagger.float()

    @property
    def transform(self) -> PixelTransform:
        side = int(self.swin.config.image_size)
        return PixelTransform((side, side), *NORMALIZATIONS["imagenet"], "bilinear")

    def logits(self, pixels: Tensor) -> Tensor:
        states_INW = self.swin(pixel_values=pixels).last_hidden_state
        mean_I1W = states_INW.mean(dim=1, keepdim=True)
        seen = self.image_proj(torch.cat([mean_I1W, states_INW], dim=1))
        queries_CD = torch.relu(self.wordvec_proj(self.label_embed))
        asked = queries_CD.expand(len(seen), -1, -1)
        for block in self.blocks:
            asked = block(asked, seen)
        logits: Tensor = self.fc(asked).squeeze(-1)
        return logits


def our_tensors(state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return RAM's tensors for tagging under the names of ``RamTagger``.

    Raises:
        CheckpointError: a tensor that RAM does not have, or essential ones are missing.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.replace("vision_multi", "tagging_head")
        if not _UNUSED.match(name):
            found |= _renamed(name, tensor, where)
    for key in ("label_embed", "image_proj.weight", "fc.weight", "blocks.0.ffn.change.0.weight"):
        if key not in found:
            raise CheckpointError(f"{where}: is no checkpoint of RAM: {key!r} is missing")
    return found


def _renamed(name: str, tensor: Tensor, where: str) -> dict[str, Tensor]:
    if name.startswith(("label_embed", "image_proj.", "wordvec_proj.", "fc.")):
        return {name: tensor}
    place, _, rest = name.partition(".")
    if place == "visual_encoder":
        joined = re.fullmatch(r"(\S+)\.attn\.qkv\.(\w+)", rest)
        if joined:
            prefix = _in_encoder(joined[1])
            parts = zip("qkv", tensor.chunk(3), strict=True)
            return {
                f"swin.{prefix}.attention.{letter}_proj.{joined[2]}": part for letter, part in parts
            }
        return {f"swin.{_in_encoder(_first(_TOWER, rest, name, where))}": tensor}
    block = re.fullmatch(r"tagging_head\.encoder\.layer\.(\d+)\.(\S+)", name)
    if block:
        return {f"blocks.{block[1]}.{_first(_HEAD, block[2], name, where)}": tensor}
    raise CheckpointError(f"{where}: {name!r} is no tensor of RAM")


def _in_encoder(name: str) -> str:
    return name if not name.startswith("layers.") else f"encoder.{name}"


def _first(rules: tuple[tuple[str, str], ...], name: str, whole: str, where: str) -> str:
    """Rename by the first rule that fits; what no rule names, as an MLP's layers, stays."""
    for pattern, target in rules:
        found = re.fullmatch(pattern, name)
        if found:
            return found.expand(target)
    if re.fullmatch(r"layers\.\d+\.blocks\.\d+\.mlp\.fc[12]\.\w+", name):
        return name
    raise CheckpointError(f"{where}: {whole!r} is no tensor of RAM")

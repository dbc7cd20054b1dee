"""The image towers of SAM, SAM 2 and SAM 3, and their necks.

SAM and SAM 3 are ViTs with one grid for all blocks; SAM 2's Hiera halves it three times. A neck
turns the tower's states into maps of 256 channels for the mask decoder: its level 0 is the tower's
last state, level i its i-th map, the finest first.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from torch import Tensor
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    Sam2VisionConfig,
    Sam2VisionModel,
    Sam3VisionConfig,
    Sam3VisionModel,
    SamVisionConfig,
    SamVisionModel,
)

from manyeyes.encoders.contract import GridEncoder, side_of
from manyeyes.encoders.maps import MapEncoder, MapSize
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.layers.patches import resample_grid


class SamEncoder(GridEncoder):
    """``SamVisionModel``: no class token; level i is the output of block i, before the neck.

    At other sizes than its own, the learned positions are resampled (bicubic) and the relative
    ones by ``transformers``.
    """

    model_class = SamVisionModel
    config_class = SamVisionConfig
    normalization = "imagenet"
    resize = "bilinear"

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(state.flatten(1, 2) for state in sam_states(self.backbone, pixels))


def sam_states(backbone: Any, pixels: Tensor) -> list[Tensor]:
    """Run SAM's tower at any size: L + 1 states ``[I, h, w, D]``."""
    tower = backbone.vision_encoder
    states = tower.patch_embed.projection(pixels).permute(0, 2, 3, 1)
    if tower.pos_embed is not None:
        states = states + _resampled(tower.pos_embed, (states.shape[1], states.shape[2]))
    found = [states]
    for layer in tower.layers:
        found.append(layer(found[-1]))
    return found


def _resampled(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    own = positions.shape[1], positions.shape[2]
    if own == grid:
        return positions
    return resample_grid(positions.flatten(1, 2), own, grid, "bicubic").unflatten(1, grid)


class Sam2Encoder(MapEncoder):
    """``Sam2VisionModel``: level i is the output of block i of its Hiera, before the neck."""

    model_class: ClassVar[type[PreTrainedModel]] = Sam2VisionModel
    config_class: ClassVar[type[PreTrainedConfig]] = Sam2VisionConfig
    normalization = "imagenet"
    resize = "bilinear"
    interpolates = False

    @classmethod
    def own_image_size(cls, config: PreTrainedConfig) -> int:
        return side_of(config.backbone_config.image_size)

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        return hiera_maps(config.backbone_config)

    @classmethod
    def depth(cls, config: PreTrainedConfig) -> int:
        return sum(config.backbone_config.blocks_per_stage)

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.output(pixels).hidden_states
        return tuple(state.permute(0, 3, 1, 2) for state in found)


def hiera_maps(config: PreTrainedConfig) -> tuple[MapSize, ...]:
    """Return width and stride of the embedding and of every block of a Hiera."""
    stride, found = side_of(config.patch_stride), [(int(config.hidden_size), 0)]
    stages = zip(config.blocks_per_stage, config.embed_dim_per_stage, strict=True)
    for stage, (blocks, width) in enumerate(stages):
        if 0 < stage <= config.num_query_pool_stages:
            stride *= side_of(config.query_stride)
        found += [(int(width), stride)] * blocks
    found[0] = found[0][0], found[1][1]
    return tuple(found)


class Sam3Encoder(GridEncoder):
    """``Sam3VisionModel``: no class token; level i is the output of block i, before the neck.

    Its rotary positions are computed for one size, so the tower is built for the one that the
    recipe asks for.
    """

    model_class: ClassVar[type[PreTrainedModel]] = Sam3VisionModel
    config_class: ClassVar[type[PreTrainedConfig]] = Sam3VisionConfig
    normalization = "half"
    resize = "bilinear"
    interpolates = False

    @classmethod
    def prepare(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PreTrainedConfig:
        config = copy.deepcopy(config)
        config.backbone_config.image_size = cls.image_size(spec, config)
        return config

    @classmethod
    def tower(cls, config: PreTrainedConfig) -> PreTrainedConfig:
        return config.backbone_config

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.output(pixels).hidden_states
        return tuple(state.flatten(1, 2) for state in found)


class SamNeckEncoder(SamEncoder, MapEncoder):
    """SAM's image embedding: one map of 256 channels at the tower's stride, level 1."""

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        stride = side_of(config.patch_size)
        return ((int(config.hidden_size), stride), (int(config.output_channels), stride))

    @classmethod
    def depth(cls, config: PreTrainedConfig) -> int:
        return int(config.num_hidden_layers)

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        last = sam_states(self.backbone, pixels)[-1]
        return last.permute(0, 3, 1, 2), self.backbone.vision_encoder.neck(last)


class Sam2NeckEncoder(Sam2Encoder):
    """SAM 2's feature pyramid: maps of 256 channels at strides 4, 8 and 16, levels 1 to 3."""

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        tower = hiera_maps(config.backbone_config)
        strides = sorted({stride for _, stride in tower})[: int(config.num_feature_levels)]
        return (tower[-1], *((int(config.fpn_hidden_size), stride) for stride in strides))

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.backbone(pixel_values=pixels)
        return found.last_hidden_state.permute(0, 3, 1, 2), *found.fpn_hidden_states


class Sam3NeckEncoder(Sam3Encoder, MapEncoder):
    """SAM 3's neck: the last state at 4, 2, 1 and 1/2 times its resolution, levels 1 to 4."""

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        patch, width = side_of(cls.tower(config).patch_size), int(config.fpn_hidden_size)
        maps = [(width, patch / scale) for scale in config.scale_factors]
        return ((int(cls.tower(config).hidden_size), patch), *maps)

    @classmethod
    def depth(cls, config: PreTrainedConfig) -> int:
        return int(cls.tower(config).num_hidden_layers)

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        found = self.backbone(pixel_values=pixels)
        patch = side_of(self.tower(self.backbone.config).patch_size)
        grid = pixels.shape[-2] // patch, pixels.shape[-1] // patch
        last = found.last_hidden_state.transpose(1, 2).unflatten(2, grid)
        return last, *found.fpn_hidden_states

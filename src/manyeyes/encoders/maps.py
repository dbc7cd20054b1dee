"""Encoders whose levels are feature maps, of a width and a stride of their own.

Shapes: I images, D width, h rows, w columns of one map.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from manyeyes.encoders.contract import EncoderCost, GridEncoder, GridShape
from manyeyes.encoders.levels import parse_levels
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.errors import PartError
from manyeyes.layers.patches import join_tiles, resample_grid
from manyeyes.records import GridFeatures

MapSize = tuple[int, float]
"""Width of a map, and its stride: the side in pixels of the square that one place stands for."""


class MapEncoder(GridEncoder):
    """Feature maps of chosen levels, on one grid.

    The grid is the coarsest of the chosen maps', or ``resample``. Maps of one width stay levels of
    their own; maps of different widths become one level, joined along channels (Cambrian-1's
    multi-stage ConvNeXt), which carries the index of the last.

    Raises:
        PartError: a final norm asked of another level than the last.
    """

    uniform = False

    def __init__(self, spec: EncoderSpec, config: PreTrainedConfig) -> None:
        super().__init__(spec, config)
        self.check_norm(spec, config, self.levels)

    @classmethod
    def check_norm(cls, spec: EncoderSpec, config: PreTrainedConfig, levels: Sequence[int]) -> None:
        """Raise ``PartError`` if a final norm is asked of levels that it does not belong to."""
        last = cls.num_blocks(config)
        if spec.final_norm and tuple(levels) != (last,):
            raise PartError(
                f"encoder {spec.name!r}: its final norm belongs to level {last} alone, but levels "
                f"are {list(levels)}"
            )

    @classmethod
    @abstractmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        """Return width and stride of every level, 0 first."""

    @classmethod
    def num_blocks(cls, config: PreTrainedConfig) -> int:
        return len(cls.maps(config)) - 1

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return 0

    @classmethod
    def patch_size(cls, config: PreTrainedConfig) -> int:
        """Stride of the coarsest map, which divides all sizes."""
        return int(max(stride for _, stride in cls.maps(config)))

    @classmethod
    def shape(cls, spec: EncoderSpec, config: PreTrainedConfig) -> GridShape:
        maps = cls.maps(config)
        levels = parse_levels(spec.levels, len(maps) - 1, spec.name)
        side = int(cls.image_size(spec, config) / max(maps[level][1] for level in levels))
        side *= spec.tiles
        width, joined = _joined([maps[level][0] for level in levels])
        return GridShape(width, spec.resample or (side, side), levels[-1:] if joined else levels)

    @classmethod
    def width(cls, spec: EncoderSpec, config: PreTrainedConfig) -> int:
        return cls.shape(spec, config).width

    @classmethod
    def level_widths(
        cls, spec: EncoderSpec, config: PreTrainedConfig, levels: Sequence[int]
    ) -> list[int]:
        maps = cls.maps(config)
        return [maps[level][0] for level in levels]

    @classmethod
    def cost(cls, spec: EncoderSpec, config: PreTrainedConfig) -> EncoderCost:
        """As of a transformer on the last map but one, where most of the weights lie."""
        *_, (width, stride), _ = cls.maps(config)
        tokens = int(cls.image_size(spec, config) / stride) ** 2
        given, depth = cls.shape(spec, config).num_patches, cls.depth(config)
        return EncoderCost(tokens, given, width, depth, spec.tiles**2)

    @classmethod
    def depth(cls, config: PreTrainedConfig) -> int:
        """Blocks of all stages."""
        return sum(config.depths)

    def select(self, states: Sequence[Tensor], grid: tuple[int, int]) -> GridFeatures:
        """Return the chosen maps, each ``[I, D, h, w]`` of a tile, on one grid of the picture."""
        chosen = [states[level] for level in self.levels]
        tiles = self.spec.tiles
        own = [(state.shape[-2] * tiles, state.shape[-1] * tiles) for state in chosen]
        grid = self.spec.resample or min(own)
        mode, levels = self.spec.resample_mode, []
        for i, (state, size) in enumerate(zip(chosen, own, strict=True)):
            places = state.flatten(2).transpose(1, 2)
            places = self.last_norm(places) if self.spec.final_norm else places
            places = self.feature_norm(places, i)
            places = join_tiles(places, (state.shape[-2], state.shape[-1]), tiles)
            levels.append(places if size == grid else resample_grid(places, size, grid, mode))
        if _joined([level.shape[-1] for level in levels])[1]:
            return GridFeatures((torch.cat(levels, dim=-1),), self.levels[-1:], grid)
        return GridFeatures(tuple(levels), self.levels, grid)


def _joined(widths: Sequence[int]) -> tuple[int, bool]:
    """Return the width of a level of maps of ``widths``, and whether they are joined to one."""
    return (widths[0], False) if len(set(widths)) == 1 else (sum(widths), True)

"""What every encoder is: pixels in, features out; grid encoders give patches of chosen levels.

Level i is entry i of the backbone's ``hidden_states``: 0 is the embedding output, i the output of
block i (COMM's "layer i"). Shapes: I images, N patches, R prefix tokens, D width, L blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from manyeyes.checkpoints import hub
from manyeyes.encoders.levels import parse_levels
from manyeyes.encoders.spec import NORMALIZATIONS, EncoderSpec
from manyeyes.errors import PartError, RecipeError
from manyeyes.layers.feature_norm import FeatureNorm
from manyeyes.layers.patches import cut_tiles, join_tiles, resample_grid
from manyeyes.records import Features, GridFeatures


@dataclass(frozen=True)
class GridShape:
    """What a fusion must know of an encoder before it is built."""

    width: int
    grid: tuple[int, int]
    level_indices: tuple[int, ...]
    num_prefix: int = 0
    """Class and register tokens that are handed on beside the patches."""

    @property
    def num_patches(self) -> int:
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class ObjectShape:
    """What a fusion must know of a detector before it is built.

    ``width``: of its descriptors. ``num_queries``: the objects it gives. ``num_classes``: of its
    logits. ``aligned``: see ``ObjectFeatures``.
    """

    width: int
    num_queries: int
    num_classes: int = 0
    aligned: bool = True


Shape = GridShape | ObjectShape


@dataclass(frozen=True)
class EncoderCost:
    """tokens: that pass its blocks at once. given: that it hands on. width, blocks: of its
    transformer. tiles: how often it runs for one picture."""

    tokens: int
    given: int
    width: int
    blocks: int
    tiles: int = 1


@dataclass(frozen=True)
class PixelTransform:
    """How an image becomes this encoder's pixels: resize to ``size`` (height, width), normalise.

    ``bgr``: the channels come in the order blue, green, red; mean and std apply in that order.
    ``geometry``: how the image becomes square for this encoder; empty = as the recipe says.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: str
    bgr: bool = False
    geometry: str = ""


class Encoder(nn.Module, ABC):
    """A model of ``transformers``, its ``backbone``, behind the contract. Subclasses name a family.

    Raises:
        PartError: an option or a size that the backbone cannot take.
    """

    model_class: ClassVar[type[PreTrainedModel]]
    config_class: ClassVar[type[PreTrainedConfig]]
    normalization: ClassVar[str]
    resize: ClassVar[str] = "bicubic"

    def __init__(self, spec: EncoderSpec, config: PreTrainedConfig) -> None:
        super().__init__()
        self.spec = spec
        self.backbone: Any = self.build(self.prepare(spec, config))

    @classmethod
    def build(cls, config: PreTrainedConfig) -> PreTrainedModel:
        """Return a backbone with random weights."""
        return cls.model_class(config)

    @classmethod
    def read_config(cls, spec: EncoderSpec) -> PreTrainedConfig:
        """Return the backbone's configuration, from the recipe or from the checkpoint."""
        return hub.load_config(spec.checkpoint, cls.config_class, spec.backbone)

    @classmethod
    def prepare(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return the configuration to build with; families switch off what is never read."""
        return config

    @classmethod
    @abstractmethod
    def image_size(cls, spec: EncoderSpec, config: PreTrainedConfig) -> int:
        """Side of the square input in pixels, of one tile where there are several."""

    @classmethod
    @abstractmethod
    def shape(cls, spec: EncoderSpec, config: PreTrainedConfig) -> Shape:
        """Return what a fusion must know, without building the backbone."""

    @classmethod
    @abstractmethod
    def cost(cls, spec: EncoderSpec, config: PreTrainedConfig) -> EncoderCost:
        """Return what an estimate of memory and time needs."""

    @classmethod
    def transform(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PixelTransform:
        """Return the resize and normalisation rule of this encoder."""
        name = cls.normalization if spec.normalization == "own" else spec.normalization
        size = cls.image_size(spec, config) * spec.tiles
        return PixelTransform((size, size), *NORMALIZATIONS[name], cls.resize, spec.bgr)

    def pretrained_parts(self) -> dict[str, Any]:
        """Return the modules that the checkpoint holds, by attribute name."""
        return {"backbone": self.backbone}

    @property
    def changes(self) -> bool:
        """Whether features of one image differ from step to step in training, even if frozen."""
        return False

    def gradients(self) -> torch.set_grad_enabled:
        """Return the context in which a graph is built only if the backbone is trained."""
        trained = any(parameter.requires_grad for parameter in self.backbone.parameters())
        return torch.set_grad_enabled(torch.is_grad_enabled() and trained)

    @abstractmethod
    def packed_size(self) -> tuple[int, ...]:
        """Shape of one image's features as one tensor, in a feature store.

        Raises:
            RecipeError: they have no fixed shape.
        """

    def packed_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype to store features in, where training computes in ``dtype``."""
        return dtype

    @abstractmethod
    def pack(self, features: Any) -> Tensor:
        """Return features of I images as one tensor ``[I, *packed_size()]``."""

    @abstractmethod
    def unpack(self, packed: Tensor) -> Features:
        """Return the features that ``pack`` made ``packed`` from."""

    @abstractmethod
    def forward(
        self, pixels: Tensor, *, training: bool = False, noise: Tensor | None = None
    ) -> Features:
        """Return the features of ``pixels`` ``[I, 3, height, width]``.

        ``training`` and ``noise`` concern families that hide patches: see ``MaeEncoder``.
        """


class GridEncoder(Encoder):
    """A ViT-type encoder: patch features of chosen levels.

    ``interpolates``: the backbone takes ``interpolate_pos_encoding``, without which it refuses
    sizes other than its own. ``uniform``: all levels have one width and grid.

    Raises:
        PartError: a level the backbone does not have, or a size it cannot take.
    """

    interpolates: ClassVar[bool] = True
    uniform: ClassVar[bool] = True

    def __init__(self, spec: EncoderSpec, config: PreTrainedConfig) -> None:
        levels = parse_levels(spec.levels, self.num_blocks(config), spec.name)
        super().__init__(spec, config)
        self.levels = levels
        widths = self.level_widths(spec, config, levels)
        self.feature_norm = FeatureNorm(spec.feature_norm, widths)

    @classmethod
    def tower(cls, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return the part of the configuration that describes the blocks."""
        return config

    @classmethod
    def num_blocks(cls, config: PreTrainedConfig) -> int:
        return int(cls.tower(config).num_hidden_layers)

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        """Number of tokens before the patches (class token, registers)."""
        return 1

    @classmethod
    def own_image_size(cls, config: PreTrainedConfig) -> int:
        return side_of(cls.tower(config).image_size)

    @classmethod
    def patch_size(cls, config: PreTrainedConfig) -> int:
        """Side in pixels of the square that one patch covers."""
        return side_of(cls.tower(config).patch_size)

    @classmethod
    def image_size(cls, spec: EncoderSpec, config: PreTrainedConfig) -> int:
        """Side of the square input in pixels."""
        size, patch = spec.image_size or cls.own_image_size(config), cls.patch_size(config)
        if size % patch:
            raise PartError(
                f"encoder {spec.name!r}: image_size {size} is not a multiple of its patch size "
                f"{patch}"
            )
        return size

    @classmethod
    def shape(cls, spec: EncoderSpec, config: PreTrainedConfig) -> GridShape:
        """Return width, grid and levels without building the backbone."""
        side = cls.image_size(spec, config) // cls.patch_size(config) * spec.tiles
        levels = parse_levels(spec.levels, cls.num_blocks(config), spec.name)
        prefix = cls.num_prefix_tokens(config) * spec.tiles**2 if spec.keep_prefix else 0
        grid = spec.resample or (side, side)
        return GridShape(cls.width(spec, config), grid, levels, prefix)

    @classmethod
    def width(cls, spec: EncoderSpec, config: PreTrainedConfig) -> int:
        """Width of the features it gives."""
        return int(cls.tower(config).hidden_size)

    @classmethod
    def level_widths(
        cls, spec: EncoderSpec, config: PreTrainedConfig, levels: Sequence[int]
    ) -> list[int]:
        """Width of each of ``levels``, before any of them are joined."""
        return [cls.width(spec, config)] * len(levels)

    @classmethod
    def cost(cls, spec: EncoderSpec, config: PreTrainedConfig) -> EncoderCost:
        side = cls.image_size(spec, config) // cls.patch_size(config)
        tokens = side * side + cls.num_prefix_tokens(config)
        width = int(cls.tower(config).hidden_size)
        times = spec.tiles**2
        return EncoderCost(tokens, tokens * times, width, cls.num_blocks(config), times)

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Run the backbone: pixels ``[I, 3, height, width]`` → L + 1 states ``[I, R + N, D]``."""
        return tuple(self.output(pixels).hidden_states)

    def output(self, pixels: Tensor) -> Any:
        """Return the backbone's output for ``pixels``, with all hidden states."""
        how = {"interpolate_pos_encoding": True} if self.interpolates else {}
        return self.backbone(pixel_values=pixels, output_hidden_states=True, **how)

    def last_norm(self, states: Tensor) -> Tensor:
        """Apply the backbone's final LayerNorm (only families that have one)."""
        raise RecipeError(f"encoders.{self.spec.name}.final_norm: {self.spec.family} has none")

    @property
    def published_size(self) -> int:
        """Its parameters as its authors count them, where ``transformers`` holds others."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self, pixels: Tensor, *, training: bool = False, noise: Tensor | None = None
    ) -> GridFeatures:
        """Return the chosen levels of ``pixels`` ``[I, 3, height, width]`` as grid features.

        ``training`` and ``noise`` concern families that hide patches: see ``MaeEncoder``.
        """
        pixels = cut_tiles(pixels, self.spec.tiles)
        with self.gradients():
            states = self.hidden_states(pixels.to(self.backbone.dtype))
        return self.select(states, self.grid(pixels))

    def packed_size(self) -> tuple[int, ...]:
        shape = self.shape(self.spec, self.backbone.config)
        return len(shape.level_indices), shape.num_prefix + shape.num_patches, shape.width

    def pack(self, features: GridFeatures) -> Tensor:
        """Return ``[I, levels, R + N, D]``, prefix tokens first."""
        levels = torch.stack(features.levels, dim=1)
        prefix = [torch.stack(features.prefix, dim=1)] if features.prefix else []
        return torch.cat([*prefix, levels], dim=2)

    def unpack(self, packed: Tensor) -> GridFeatures:
        shape = self.shape(self.spec, self.backbone.config)
        levels = packed.unbind(dim=1)
        patches = tuple(level[:, shape.num_prefix :] for level in levels)
        prefix = tuple(level[:, : shape.num_prefix] for level in levels) if shape.num_prefix else ()
        merged = len(levels) < len(shape.level_indices)  # averaged before they were stored
        return GridFeatures(patches, () if merged else shape.level_indices, shape.grid, prefix)

    def grid(self, pixels: Tensor) -> tuple[int, int]:
        """Return rows and columns of patches of ``pixels``, which are those of one tile."""
        patch = self.patch_size(self.backbone.config)
        return pixels.shape[-2] // patch, pixels.shape[-1] // patch

    def select(self, states: Sequence[Tensor], grid: tuple[int, int]) -> GridFeatures:
        """Cut the chosen levels out of all hidden states: prefix apart, patches resampled.

        ``grid``: of one tile, of which ``states`` has ``spec.tiles``² for every picture.
        """
        tiles, prefix = self.spec.tiles, self.num_prefix_tokens(self.backbone.config)
        chosen = [states[level] for level in self.levels]
        if self.spec.final_norm:
            chosen = [self.last_norm(state) for state in chosen]
        chosen = [self.feature_norm(state, i, prefix) for i, state in enumerate(chosen)]
        patches = tuple(join_tiles(state[:, prefix:], grid, tiles) for state in chosen)
        grid = grid[0] * tiles, grid[1] * tiles
        if self.spec.resample is not None and self.spec.resample != grid:
            mode = self.spec.resample_mode
            patches = tuple(resample_grid(x, grid, self.spec.resample, mode) for x in patches)
            grid = self.spec.resample
        kept: tuple[Tensor, ...] = ()
        if self.spec.keep_prefix:
            kept = tuple(join_tiles(state[:, :prefix], (1, prefix), tiles) for state in chosen)
        return GridFeatures(patches, self.levels, grid, kept)


def side_of(size: Any) -> int:
    """Return the side of a square that a configuration gives as one number or as two."""
    return int(size[0] if isinstance(size, list | tuple) else size)

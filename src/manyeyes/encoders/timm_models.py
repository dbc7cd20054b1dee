"""Any model of ``timm`` that gives features of its blocks or stages, by its name there.

Nothing is known of such a model beforehand, so it is run on the meta device at the recipe's size
before any weight is read. Shapes: I images, D width, R prefix tokens, h rows, w columns of a map.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from manyeyes.checkpoints import hub
from manyeyes.encoders.contract import EncoderCost, GridEncoder, GridShape, PixelTransform
from manyeyes.encoders.levels import parse_levels
from manyeyes.encoders.maps import MapEncoder, MapSize
from manyeyes.encoders.spec import EncoderSpec, check_declared
from manyeyes.errors import PartError, UsageError, nearest
from manyeyes.records import GridFeatures

MODEL_TYPE = "timm_wrapper"
OTHER_SIZES: tuple[Mapping[str, Any], ...] = (
    {},
    {"dynamic_img_size": True},
    {"strict_img_size": False},
)
"""Arguments with which models of ``timm`` take other sizes than their own, tried in this order."""


@dataclass(frozen=True)
class Layout:
    """What a model gives for one image.

    ``maps``: width, rows and columns of every level from 1 on. ``prefix``: tokens before the
    patches. ``weights``: their number. ``arguments``: those that the model needs at this size.
    """

    maps: tuple[tuple[int, int, int], ...]
    prefix: int
    weights: int
    arguments: Mapping[str, Any]

    @property
    def alike(self) -> bool:
        """Whether all levels have one width and grid, as those of a ViT."""
        return len(set(self.maps)) == 1


class TimmEncoder(MapEncoder):
    """``TimmWrapperModel``: level i is the i-th of what ``forward_intermediates`` gives.

    That is the output of block i of a ViT, or the map of stage i. There is no level 0.

    Raises:
        UsageError: ``timm`` is not installed.
        PartError: a name that ``timm`` does not know, a model that gives no such features, a size
            that it cannot take, or a grid or prefix other than the recipe counts on.
    """

    normalization = "none"

    @classmethod
    def read_config(cls, spec: EncoderSpec) -> PreTrainedConfig:
        _check_installed()
        if spec.backbone:
            fields = {**spec.backbone, "model_type": MODEL_TYPE}
        else:
            _check_published(spec)
            fields = {}
        config = hub.load_config(spec.checkpoint, None, fields)
        if config.model_type != MODEL_TYPE:
            raise PartError(
                f"encoder {spec.name!r}: {spec.checkpoint!r} is no checkpoint of timm, whose "
                "config.json has pretrained_cfg"
            )
        _check_known(spec, config.architecture)
        config.num_labels = 0
        return config

    @classmethod
    def build(cls, config: PreTrainedConfig) -> PreTrainedModel:
        return AutoModel.from_config(config, trust_remote_code=False)

    @classmethod
    def prepare(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PreTrainedConfig:
        """Return the configuration with the arguments that the recipe's size needs."""
        ready = copy.deepcopy(config)
        ready.model_args = {**(config.model_args or {}), **cls._layout(spec, config).arguments}
        return ready

    @classmethod
    def own_image_size(cls, config: PreTrainedConfig) -> int:
        size = (config.model_args or {}).get("img_size") or _published(config)["input_size"][-2:]
        sides = {size} if isinstance(size, int) else set(size)
        if len(sides) > 1:
            raise PartError(f"{config.architecture} of timm wants no square image: {list(size)}")
        return int(sides.pop())

    @classmethod
    def maps(cls, config: PreTrainedConfig) -> tuple[MapSize, ...]:
        size = cls.own_image_size(config)
        found = _layout(_key(config), size).maps
        return ((3, 1), *((width, size / rows) for width, rows, _ in found))

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return _layout(_key(config), cls.own_image_size(config)).prefix

    @classmethod
    def shape(cls, spec: EncoderSpec, config: PreTrainedConfig) -> GridShape:
        found, layout = super().shape(spec, config), cls._layout(spec, config)
        if 0 in parse_levels(spec.levels, cls.num_blocks(config), spec.name):
            raise PartError(
                f"encoder {spec.name!r}: timm gives no embedding, so levels begin with 1"
            )
        grids = {(rows * spec.tiles, columns * spec.tiles) for _, rows, columns in layout.maps}
        if spec.resample is None and found.grid not in grids:
            raise PartError(
                f"encoder {spec.name!r}: {config.architecture} of timm gives maps of "
                f"{sorted(grids)}, none of them {found.grid}; say resample: [rows, columns]"
            )
        check_declared(spec, config.architecture, found.grid, layout.prefix)
        return replace(found, num_prefix=layout.prefix * spec.tiles**2 if spec.keep_prefix else 0)

    @classmethod
    def _layout(cls, spec: EncoderSpec, config: PreTrainedConfig) -> Layout:
        try:
            return _layout(_key(config), cls.image_size(spec, config))
        except PartError as error:
            raise PartError(f"encoder {spec.name!r}: {error}") from error

    @classmethod
    def check_norm(cls, spec: EncoderSpec, config: PreTrainedConfig, levels: Sequence[int]) -> None:
        if not cls._layout(spec, config).alike:
            super().check_norm(spec, config, levels)

    @classmethod
    def cost(cls, spec: EncoderSpec, config: PreTrainedConfig) -> EncoderCost:
        """As of a transformer of as many weights, on the last map but one (the last of a ViT)."""
        layout = cls._layout(spec, config)
        width, rows, columns = layout.maps[-2:][0]
        tokens = rows * columns + layout.prefix
        blocks = max(1, round(layout.weights / (12 * width**2)))
        given = cls.shape(spec, config).num_patches
        return EncoderCost(tokens, given, width, blocks, spec.tiles**2)

    @classmethod
    def transform(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PixelTransform:
        """Return what the model was published with; ``normalization`` overrules it."""
        rule, published = super().transform(spec, config), _published(config)
        if published["interpolation"] in ("bicubic", "bilinear"):
            rule = replace(rule, resample=published["interpolation"])
        if spec.normalization != "own":
            return rule
        red, green, blue = published["mean"]
        mean = (float(red), float(green), float(blue))
        red, green, blue = published["std"]
        return replace(rule, mean=mean, std=(float(red), float(green), float(blue)))

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the pixels, then all levels: maps ``[I, D, h, w]``, or ``[I, R + N, D]``."""
        levels = [
            level
            if prefix is None
            else torch.cat([prefix, level.flatten(2).transpose(1, 2)], dim=1)
            for level, prefix in _run(self.backbone, pixels)
        ]
        return pixels, *levels

    def last_norm(self, states: Tensor) -> Tensor:
        norm = getattr(self.backbone.timm_model, "norm", None)
        if norm is None or isinstance(norm, nn.Identity):
            return super().last_norm(states)
        normed: Tensor = norm(states)
        return normed

    def select(self, states: Sequence[Tensor], grid: tuple[int, int]) -> GridFeatures:
        if self.num_prefix_tokens(self.backbone.config):
            return GridEncoder.select(self, states, grid)
        return super().select(states, grid)


def _run(model: Any, pixels: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """Return the map ``[I, D, h, w]`` of every level and the tokens ``[I, R, D]`` before it."""
    inner = model.timm_model
    if not hasattr(inner, "forward_intermediates"):
        name = model.config.architecture
        raise PartError(f"{name} of timm gives no features of its blocks or stages")
    known = inspect.signature(inner.forward_intermediates).parameters
    how = {"return_prefix_tokens": True} if "return_prefix_tokens" in known else {}
    found = model(pixel_values=pixels, output_hidden_states=True, do_pooling=False, **how)
    return [tuple(x) if isinstance(x, tuple | list) else (x, None) for x in found.hidden_states]


@functools.lru_cache(maxsize=64)
def _layout(key: str, size: int) -> Layout:
    """Run a model of this configuration on the meta device, and return what it gives.

    Raises:
        PartError: it cannot be run on an image of this size, or gives no features of its blocks.
    """
    config: Any = _config(key)
    refusals = []
    for arguments in OTHER_SIZES:
        try:
            model = _on_meta(config, arguments)
            with torch.no_grad():
                found = _run(model, torch.empty(1, 3, size, size, device="meta"))
        except PartError:
            raise
        except Exception as error:  # every model refuses sizes and arguments in its own way
            refusals.append(error)
            continue
        prefix = found[0][1]
        maps = tuple((m.shape[1], m.shape[2], m.shape[3]) for m, _ in found)
        weights = sum(parameter.numel() for parameter in model.parameters())
        return Layout(maps, 0 if prefix is None else prefix.shape[1], weights, arguments)
    raise PartError(
        f"{config.architecture} of timm cannot be run on an image of {size} x {size} pixels: "
        f"{hub.one_line(refusals[0])}"
    ) from refusals[0]


def _on_meta(config: PreTrainedConfig, arguments: Mapping[str, Any]) -> Any:
    config = copy.deepcopy(config)
    config.model_args = {**(config.model_args or {}), **arguments}
    with torch.device("meta"):
        return AutoModel.from_config(config, trust_remote_code=False).eval()


def _key(config: PreTrainedConfig) -> str:
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


def _config(key: str) -> PreTrainedConfig:
    return AutoConfig.for_model(**json.loads(key))


def _published(config: PreTrainedConfig) -> Mapping[str, Any]:
    """Return size and normalisation of the checkpoint, or those of the architecture in ``timm``."""
    import timm

    known = timm.get_pretrained_cfg(config.architecture)
    return {
        **(known.to_dict() if known else {}),
        **(getattr(config, "pretrained_cfg", None) or {}),
    }


def _check_installed() -> None:
    try:
        import timm  # noqa: F401
    except (ImportError, RuntimeError) as error:  # a torchvision of another build raises the second
        raise UsageError(
            f"family timm needs the extra: pip install 'manyeyes[timm]' ({hub.one_line(error)})"
        ) from error


def _check_known(spec: EncoderSpec, name: str) -> None:
    import timm

    if not timm.is_model(name):
        known = timm.list_models()
        raise PartError(
            f"encoder {spec.name!r}: timm {timm.__version__} has no model {name!r}"
            f"{nearest(name.partition('.')[0], known)}"
        )


def _check_published(spec: EncoderSpec) -> None:
    """Refuse the name of a model of ``timm`` that does not exist, or stands without ``timm/``."""
    name = spec.checkpoint.removeprefix("timm/")
    if "/" in name or Path(spec.checkpoint).is_dir():
        return
    _check_known(spec, name)
    if name == spec.checkpoint:
        raise PartError(
            f"encoder {spec.name!r}: {name!r} is a model of timm; say checkpoint: timm/{name}, or "
            "the path of its folder"
        )

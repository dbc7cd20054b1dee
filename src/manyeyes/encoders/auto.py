"""Any vision model of ``transformers`` with hidden states of patches, by its ``model_type``.

Nothing is known of such a model beforehand, so what its configuration says is compared with what it
does, before any weight is read: once on the meta device for shapes, once with a single block for
the order of patches.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from manyeyes.checkpoints import hub
from manyeyes.encoders.contract import GridEncoder, GridShape, PixelTransform
from manyeyes.encoders.spec import EncoderSpec, check_declared
from manyeyes.errors import PartError


@dataclass(frozen=True)
class Layout:
    """What a model gives for one image: levels 0..``blocks`` of ``prefix`` tokens and patches."""

    blocks: int
    width: int
    prefix: int


class AutoEncoder(GridEncoder):
    """A model that ``AutoModel`` builds; of a model with text, its ``vision_config``.

    Raises:
        PartError: no vision model, no hidden states of patches, other shapes or another order of
            patches than its configuration and the recipe say, or no ``normalization`` declared.
    """

    normalization = "none"

    @classmethod
    def read_config(cls, spec: EncoderSpec) -> PreTrainedConfig:
        config = hub.load_config(spec.checkpoint, None, spec.backbone)
        config = getattr(config, "vision_config", config)
        if type(config) not in AutoModel._model_mapping:
            raise PartError(
                f"encoder {spec.name!r}: AutoModel builds no model of type {config.model_type!r}"
            )
        for key in ("image_size", "patch_size", "hidden_size", "num_hidden_layers"):
            if getattr(config, key, None) is None:
                raise PartError(
                    f"encoder {spec.name!r}: the configuration of {config.model_type!r} has no "
                    f"{key}, so it is no model of patches on one grid that family auto can read"
                )
        return config

    @classmethod
    def build(cls, config: PreTrainedConfig) -> PreTrainedModel:
        return AutoModel.from_config(config, trust_remote_code=False)

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return _layout(_key(config), cls.own_image_size(config), cls.patch_size(config)).prefix

    @classmethod
    def shape(cls, spec: EncoderSpec, config: PreTrainedConfig) -> GridShape:
        found = super().shape(spec, config)
        cls._check(spec, config)
        return found

    @classmethod
    def _check(cls, spec: EncoderSpec, config: PreTrainedConfig) -> None:
        size, patch = cls.image_size(spec, config), cls.patch_size(config)
        try:
            layout = _layout(_key(config), size, patch)
            _check_order(_key(config), size, patch, layout.prefix)
        except PartError as error:
            raise PartError(f"encoder {spec.name!r}: {error}") from error
        side = size // patch * spec.tiles
        check_declared(spec, config.model_type, (side, side), layout.prefix)

    @classmethod
    def transform(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PixelTransform:
        if spec.normalization == "own":
            raise PartError(
                f"encoder {spec.name!r}: family auto knows no normalisation of its own; say "
                "normalization: clip, imagenet, half or none"
            )
        return super().transform(spec, config)

    def output(self, pixels: Tensor) -> Any:
        return _run(self.backbone, pixels)


def _run(model: Any, pixels: Tensor) -> Any:
    known = inspect.signature(model.forward).parameters
    how = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}
    return model(pixel_values=pixels, output_hidden_states=True, **how)


def _key(config: PreTrainedConfig) -> str:
    return json.dumps(config.to_dict(), sort_keys=True, default=str)


def _config(key: str) -> Any:
    fields = json.loads(key)
    return AutoConfig.for_model(fields.pop("model_type"), **fields)


@functools.lru_cache(maxsize=64)
def _layout(key: str, size: int, patch: int) -> Layout:
    """Run a model of this configuration on the meta device, and return what it gives.

    Raises:
        PartError: it cannot be run on an image, or gives something else than patches.
    """
    config = _config(key)
    kind = repr(config.model_type)
    try:
        with torch.device("meta"), torch.no_grad():
            model = AutoModel.from_config(config, trust_remote_code=False).eval()
            found = _run(model, torch.empty(1, 3, size, size)).get("hidden_states")
    except Exception as error:  # every model refuses inputs in its own way
        raise PartError(
            f"{kind} cannot be run on an image of {size} x {size} pixels: {hub.one_line(error)}"
        ) from error
    if not found:
        raise PartError(f"{kind} returns no hidden states")
    shapes = {tuple(state.shape) for state in found}
    if len(shapes) > 1 or len(found[0].shape) != 3:
        raise PartError(
            f"{kind} gives no tokens of one grid, but {sorted(shapes)}; the families of feature "
            "maps (convnext, swin) say how such a model is read"
        )
    blocks, (_, tokens, width) = len(found) - 1, found[0].shape
    said = int(config.num_hidden_layers), int(config.hidden_size)
    if (blocks, width) != said:
        raise PartError(f"{kind} gives {blocks} blocks of width {width}, its configuration {said}")
    prefix = tokens - (size // patch) ** 2
    if prefix < 0:
        raise PartError(
            f"{kind} gives {tokens} tokens at {size} pixels, fewer than the {(size // patch) ** 2} "
            f"patches of {patch} pixels that its configuration declares"
        )
    return Layout(blocks, width, prefix)


@functools.lru_cache(maxsize=64)
def _check_order(key: str, size: int, patch: int, prefix: int) -> None:
    """Find the token that a change of one patch changes in the embedding.

    Raises:
        PartError: it is not where raster order after ``prefix`` tokens has it.
    """
    config = copy.deepcopy(_config(key))
    config.num_hidden_layers = 1
    columns = size // patch
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModel.from_config(config, trust_remote_code=False).float().eval()
        pixels = torch.zeros(2, 3, size, size)
        pixels[1, :, :patch, -patch:] = 1.0  # row 0, last column
        first, second = _run(model, pixels).hidden_states[0]
    place = int((first - second).abs().amax(dim=-1).argmax())
    if place != prefix + columns - 1:
        raise PartError(
            f"{config.model_type!r} has other tokens among or after its patches: the patch in row "
            f"0, column {columns - 1} is token {place}, not {prefix + columns - 1}"
        )

"""Whole feature bundles at once: choose images, join those of all processes, cast."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from manyeyes.layers.ranks import gather_rows
from manyeyes.records import FeatureBundle, Features, GridFeatures, ObjectFeatures


def map_images(bundle: FeatureBundle, function: Callable[[Tensor], Tensor]) -> FeatureBundle:
    """Apply ``function`` to every tensor of ``bundle``; all of them have images as first axis."""
    return {name: _map(features, function) for name, features in bundle.items()}


def choose_images(bundle: FeatureBundle, index_J: Tensor) -> FeatureBundle:
    """Return the features of the images ``index_J`` ``[J]``, everything of an image together."""
    return map_images(bundle, lambda x: x[index_J])


def gather_images(bundle: FeatureBundle) -> FeatureBundle:
    """Return the features of all processes' images, in rank order."""
    return map_images(bundle, gather_rows)


def _map(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and any(isinstance(item, Tensor) for item in value):
        return tuple(_map(item, function) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _map(getattr(value, f.name), function) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value


__all__ = ["Features", "choose_images", "gather_images", "map_images"]


def cast_features(features: Features, dtype: torch.dtype) -> Features:
    """Return features with what learns from them in ``dtype``; boxes and scores keep theirs."""
    if isinstance(features, ObjectFeatures):
        return dataclasses.replace(features, queries=features.queries.to(dtype))
    if not isinstance(features, GridFeatures):
        return features

    def cast(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(tensor.to(dtype) for tensor in tensors)

    return dataclasses.replace(features, levels=cast(features.levels), prefix=cast(features.prefix))

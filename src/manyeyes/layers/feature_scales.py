"""Whether encoders speak equally loud: the size of their features at the first batch.

Where one encoder's features are many times as large as another's, a projector over both learns
from the larger ones alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from manyeyes.records import FeatureBundle, GridFeatures

MOST = 10.0
"""Ratio of sizes above which there is a warning (ours)."""


def watch_scales(fusion: nn.Module, warn: Callable[[str], None]) -> None:
    """Compare after the first batch that ``fusion`` reads, and leave it as it was.

    Compared are the features of its encoders, and what becomes of each before they are joined: the
    outputs of those of its modules that stand in a ``ModuleDict`` by the encoders' names, the last
    one of each.
    """
    found: dict[str, float] = {}
    branches: dict[str, float] = {}
    handles = [
        module.register_forward_hook(lambda _m, _i, out, n=name: _measure(branches, n, out))
        for name, module in _branches(fusion)
    ]

    def finish(_module: nn.Module, inputs: tuple[FeatureBundle, ...], _output: Any) -> None:
        found.update(feature_scales(inputs[0]))
        for handle in handles:
            handle.remove()
        for what, sizes in (("features", found), ("features after alignment", branches)):
            text = imbalance(what, {name: sizes[name] for name in sizes if name in found})
            if text:
                warn(text)

    handles.append(fusion.register_forward_hook(finish))


def feature_scales(bundle: FeatureBundle) -> dict[str, float]:
    """Return the root mean square of every encoder's patch features, over all levels."""
    grids = {name: f for name, f in bundle.items() if isinstance(f, GridFeatures)}
    return {
        name: (sum(_square(level) for level in f.levels) / len(f.levels)) ** 0.5
        for name, f in grids.items()
    }


def imbalance(what: str, sizes: Mapping[str, float]) -> str | None:
    """Return what to say of ``sizes`` by encoder; None where they are alike."""
    if len(sizes) < 2:
        return None
    small, large = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[large] <= MOST * sizes[small]:
        return None
    ratio = f"{sizes[large] / sizes[small]:.0f} times" if sizes[small] else "infinitely"
    return (
        f"the {what} of encoder {large!r} are {ratio} as large as those of {small!r} (root mean "
        f"square {sizes[large]:.3g} and {sizes[small]:.3g}); what is learned from both follows the "
        f"larger ones. `feature_norm: rms` (or layer, standardize) under both encoders brings them "
        "to one scale"
    )


def _branches(fusion: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for group in fusion.modules():
        if isinstance(group, nn.ModuleDict):
            yield from group.items()


def _measure(sizes: dict[str, float], name: str, output: Any) -> None:
    if isinstance(output, Tensor):
        sizes[name] = _square(output) ** 0.5


def _square(values: Tensor) -> float:
    return float(values.detach().float().square().mean())

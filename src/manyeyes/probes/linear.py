"""Linear probes. Shapes: B pictures, N patches, D width, M rows, F inputs, C classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from manyeyes.probes.fitting import BATCH, descend, standardized, zero_linear
from manyeyes.probes.places import patch_centres

CLASS_RATE = 3e-3
PLACE_RATE = 1e-2


def pooled(patches: Tensor) -> Tensor:
    """Return mean and maximum over the patches: ``[B, N, D]`` -> ``[B, 2 D]``."""
    return torch.cat([patches.mean(dim=1), patches.amax(dim=1)], dim=-1)


def classify(
    inputs: Tensor,
    labels: Sequence[Tensor],
    sizes: Sequence[int],
    unseen: Tensor,
    seed: int,
    *,
    rate: float = CLASS_RATE,
) -> list[Tensor]:
    """Fit one linear classifier per label tensor ``[M]``; return logits on ``unseen``.

    ``inputs`` ``[M, F]``; ``sizes``: the number of classes of each.
    """
    inputs, unseen = standardized(inputs, unseen)
    layer = zero_linear(inputs.shape[1], sum(sizes))

    def loss(batch: Tensor) -> Tensor:
        scores = layer(inputs[batch]).split(list(sizes), dim=1)
        losses = [
            functional.cross_entropy(s, label[batch])
            for s, label in zip(scores, labels, strict=True)
        ]
        return torch.stack(losses).sum()

    descend(layer.parameters(), loss, len(inputs), rate=rate, seed=seed)
    with torch.no_grad():
        return list(layer(unseen).split(list(sizes), dim=1))


def judge(
    inputs: Tensor,
    asked: tuple[Tensor, Tensor],
    labels: Tensor,
    unseen: Tensor,
    seed: int,
    classes: int,
    *,
    rate: float = CLASS_RATE,
) -> Tensor:
    """Fit yes/no questions about classes; return logits ``[M']`` on ``unseen``.

    ``asked``: the class of every row of ``inputs`` ``[M]`` and of ``unseen`` ``[M']``.
    """
    inputs, unseen = standardized(inputs, unseen)
    layer = zero_linear(inputs.shape[1], classes)

    def loss(batch: Tensor) -> Tensor:
        scores = layer(inputs[batch]).gather(1, asked[0][batch, None]).squeeze(1)
        return functional.binary_cross_entropy_with_logits(scores, labels[batch].float())

    descend(layer.parameters(), loss, len(inputs), rate=rate, seed=seed)
    with torch.no_grad():
        return layer(unseen).gather(1, asked[1][:, None]).squeeze(1)


class Locator(nn.Module):
    """Where the named thing is: the expected place under the softmax of one score per patch.

    ``sized``: also its width and height, as the same expectation of two more linear maps, added to
    ``usual`` ``[2]``, the mean size.
    """

    def __init__(self, width: int, classes: int, *, usual: Tensor | None = None) -> None:
        super().__init__()
        self.scores = zero_linear(width, classes)
        self.sizes = None if usual is None else zero_linear(width, 2 * classes)
        self.usual = usual

    def forward(self, patches: Tensor, named: Tensor) -> Tensor:
        """Return (x, y) or (x, y, width, height) in 0..1 of the picture, ``[M, 2 or 4]``."""
        count = patches.shape[1]
        scores = self.scores(patches).gather(2, named[:, None, None].expand(-1, count, 1))
        weights = scores.squeeze(2).softmax(dim=1)
        centre = weights @ patch_centres(count)
        if self.sizes is None or self.usual is None:
            return centre
        sizes = self.sizes(patches).unflatten(2, (-1, 2))
        own = sizes.gather(2, named[:, None, None, None].expand(-1, count, 1, 2)).squeeze(2)
        expected = (weights[:, :, None] * own).sum(dim=1)
        return torch.cat([centre, self.usual + expected], dim=1)


def locate(
    patches: Tensor, picture: Tensor, named: Tensor, truth: Tensor, seed: int, classes: int
) -> Locator:
    """Fit a locator to places ``[M, 2]``, or to boxes (x, y, width, height) ``[M, 4]``, in 0..1."""
    usual = truth[:, 2:].mean(dim=0) if truth.shape[1] == 4 else None
    probe = Locator(patches.shape[2], classes, usual=usual)

    def loss(batch: Tensor) -> Tensor:
        found = probe(patches[picture[batch]], named[batch])
        return (found - truth[batch]).norm(dim=1).mean()

    descend(probe.parameters(), loss, len(picture), rate=PLACE_RATE, seed=seed, batch=BATCH // 4)
    return probe

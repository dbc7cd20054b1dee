"""Rows of feature bundles: every tensor follows its image."""

from __future__ import annotations

import torch

from manyeyes.inference.encoded_images import take_images
from manyeyes.records import GridFeatures, Masking, ObjectFeatures, TagFeatures


def numbered(*shape: int) -> torch.Tensor:
    """A tensor whose entries are the number of their image."""
    return torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)).expand(*shape)


def test_images_are_chosen_in_order_and_repeated() -> None:
    masking = Masking(numbered(3, 4), numbered(3, 4))
    found = take_images(
        {
            "grid": GridFeatures((numbered(3, 4, 2),), (1,), (2, 2), (numbered(3, 1, 2),), masking),
            "plain": GridFeatures((numbered(3, 4, 2),), (1,), (2, 2)),
            "objects": ObjectFeatures(
                numbered(3, 5, 2), numbered(3, 5, 4), numbered(3, 5, 2), ("cup",)
            ),
            "tags": TagFeatures((("a",), ("b",), ("c",)), ((0.1,), (0.2,), (0.3,))),
        },
        torch.tensor([2, 0, 2]),
    )
    grid, plain, objects, tags = found.values()
    assert isinstance(grid, GridFeatures) and isinstance(plain, GridFeatures)
    assert isinstance(objects, ObjectFeatures) and isinstance(tags, TagFeatures)
    assert grid.masking is not None and plain.masking is None
    tensors = [*grid.levels, *grid.prefix, grid.masking.hidden, grid.masking.restore]
    tensors += [*plain.levels, objects.queries, objects.boxes, objects.logits]
    for tensor in tensors:
        assert tensor.flatten(1)[:, 0].tolist() == [2, 0, 2]
    assert (tags.names, tags.scores) == ((("c",), ("a",), ("c",)), ((0.3,), (0.1,), (0.3,)))
    assert objects.labels == ("cup",)

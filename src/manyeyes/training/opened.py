"""Opening a stage's images before it begins, each by one of the run's processes."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from torch import distributed

from manyeyes.data.opened_images import open_images
from manyeyes.training.arguments import rank, world_size

logger = logging.getLogger(__name__)


def open_together(paths: Iterable[str]) -> dict[str, str]:
    """Return `open_images` of the paths, which must be the same ones in every process."""
    every = list(paths)
    if every and rank() == 0:
        logger.info("opening %d images", len(every))
    mine = open_images(every[rank() :: world_size()])
    if world_size() == 1:
        return mine
    shares: list[dict[str, str]] = [{} for _ in range(world_size())]
    distributed.all_gather_object(shares, mine)
    found = {path: reason for share in shares for path, reason in share.items()}
    return {path: found[path] for path in every if path in found}

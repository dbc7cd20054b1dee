"""Random state of a checkpoint: one file per process, without which nothing repeats exactly."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from manyeyes.data.counters import mixed_seed
from manyeyes.errors import CheckpointError

logger = logging.getLogger(__name__)


def draw_apart(seed: int, rank: int) -> None:
    """Let process ``rank`` draw dropout of its own; the first one draws as a single process does.

    What all processes must draw alike comes from `layers.ranks.shared_generator`.
    """
    if rank:
        torch.manual_seed(mixed_seed(seed, rank))


def random_state_file(rank: int, ranks: int) -> str:
    """Return the name under which ``transformers.Trainer`` keeps a process's random state."""
    return "rng_state.pth" if ranks == 1 else f"rng_state_{rank}.pth"


def continues_random_state(checkpoint: Path, written_by: int, rank: int, ranks: int) -> bool:
    """Tell whether process ``rank`` of ``ranks`` goes on with the random numbers of ``checkpoint``.

    ``written_by``: the number of processes that wrote it. With another number of them only the
    first can, see ``as_the_first``; the others begin anew from the stage's seed. The log says so.

    Raises:
        CheckpointError: as many processes as now wrote it, but the file is not there.
    """
    if written_by != ranks:
        logger.warning(
            "%s was written by %d process(es), this run has %d: random numbers go on in the first "
            "process alone, so with dropout weights will not be those of an uninterrupted run",
            checkpoint,
            written_by,
            ranks,
        )
        return False
    path = checkpoint / random_state_file(rank, ranks)
    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing, so the run cannot go on with the same random numbers; bring the "
            "file back, or remove this checkpoint to continue from an earlier one"
        )
    return True


@contextmanager
def as_the_first(checkpoint: Path, written_by: int, ranks: int) -> Iterator[Path | None]:
    """Give a folder with the first process's random state under its name in a run of ``ranks``.

    What all processes draw alike (masks, negatives) goes on from it. None: the file is not there.
    """
    written = checkpoint / random_state_file(0, written_by)
    if not written.is_file():
        yield None
        return
    with TemporaryDirectory() as folder:
        shutil.copy(written, Path(folder) / random_state_file(0, ranks))
        yield Path(folder)

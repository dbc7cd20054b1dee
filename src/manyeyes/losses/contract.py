"""What every objective is: named intermediates of one forward pass in, one scalar out.

Shape letters: S supervised positions of the batch, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from manyeyes.errors import PartError

Trace = Mapping[str, Tensor]
"""Named intermediates of one forward pass."""


@dataclass(frozen=True)
class Objective:
    """One term of a stage's loss.

    ``needs`` names the intermediates that ``function`` reads. ``per`` says how micro-batches and
    ranks are averaged: a ``"token"`` objective returns the sum over supervised tokens, which the
    trainer divides by their number in the whole optimizer step; a ``"batch"`` objective returns a
    mean over its micro-batch, which the trainer averages over micro-batches and ranks (contrastive
    terms have no smaller unit).
    """

    name: str
    needs: tuple[str, ...]
    per: Literal["token", "batch"]
    function: Callable[[Trace], Tensor]

    def __call__(self, trace: Trace) -> Tensor:
        """Return the scalar for ``trace``.

        Raises:
            PartError: the model does not produce an intermediate this objective reads.
        """
        missing = [name for name in self.needs if name not in trace]
        if missing:
            raise PartError(
                f"objective {self.name!r} reads {', '.join(missing)}, which this model does not "
                f"produce (it produces: {', '.join(sorted(trace)) or 'nothing'})"
            )
        return self.function(trace)

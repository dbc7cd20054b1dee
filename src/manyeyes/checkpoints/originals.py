"""Which tensors of a part are still those of the checkpoint that it was loaded from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from manyeyes.checkpoints import hub, light
from manyeyes.errors import CheckpointError

_LOG = logging.getLogger(__name__)


class Originals:
    """Compares live tensors with the checkpoints of their parts, and remembers what was equal.

    A checkpoint is read only where a live tensor is not known to equal it by its own fingerprint.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def changed(
        self, part: str, module: Any, reference: Mapping[str, Any], held: Mapping[str, Tensor]
    ) -> set[str]:
        """Return those of ``held``, named as in the whole model, that differ from the checkpoint.

        ``module``: the part. ``reference``: its checkpoint and fingerprint. A tensor in another
        dtype than the checkpoint's is equal if the checkpoint's value in that dtype is. If the
        checkpoint cannot be read or is another by now, all that is not known counts as changed.
        """
        seen = {n: x for n, x in held.items() if not isinstance(x, DTensor) and not x.is_meta}
        digests = {name: hub.fingerprint({"": tensor}) for name, tensor in seen.items()}
        doubtful = [name for name in seen if self._known.get(name) != digests[name]]
        if not doubtful:
            return set()
        try:
            with torch.random.fork_rng(devices=[]):  # loading draws some, saving must not
                loaded = hub.load_pretrained(
                    module.__class__, reference["checkpoint"], module.config
                )
            original = light.referenced_state(part, reference, loaded)
        except CheckpointError as error:
            _LOG.warning("%s is stored, because its checkpoint is not at hand: %s", part, error)
            return set(doubtful)
        equal = {name for name in doubtful if _equal(seen[name], original.get(name))}
        self._known |= {name: digests[name] for name in equal}
        return set(doubtful) - equal


def _equal(live: Tensor, original: Tensor | None) -> bool:
    if original is None or original.shape != live.shape:
        return False
    return torch.equal(live.detach().cpu(), original.to(live.dtype))

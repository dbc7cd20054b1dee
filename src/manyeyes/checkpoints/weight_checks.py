"""What may not be loaded: weights that are missing, that nothing takes, or that are no numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from manyeyes.errors import CheckpointError


def check_names(where: str, missing: Collection[str], unexpected: Collection[str] = ()) -> None:
    """Check that every tensor of a model was found, and every tensor found is one of the model.

    Raises:
        CheckpointError: names ``where``, the first such tensor and how many there are.
    """
    for names, said in ((missing, "lacks"), (unexpected, "holds what the model does not have:")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                f"{where} {said} {sorted(names)[0]!r}{more}; weights and configuration do not "
                "belong together, or a file is damaged: copy or download the checkpoint again"
            )


def check_finite(where: str, tensors: Mapping[str, Tensor]) -> None:
    """Check that no weight is NaN or infinite.

    Raises:
        CheckpointError: names ``where``, the first such tensor and how many there are.
    """
    wrong = [name for name in sorted(tensors) if not _is_finite(tensors[name])]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{where}: NaN or infinite values in {wrong[0]!r}{more}; the file is damaged, or its "
            "training went wrong: take an earlier checkpoint"
        )


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_meta or not tensor.is_floating_point() or tensor.element_size() < 2:
        return True
    return bool(torch.isfinite(tensor).all())

"""Reconstruction of hidden patches (MAE's own loss), from features that the fusion has changed.

Shape letters: I images, N patches, P pixel values of a patch.
"""

from __future__ import annotations

from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.losses.contract import Objective, Trace


def reconstruction_loss(predicted_INP: Tensor, target_INP: Tensor, hidden_IN: Tensor) -> Tensor:
    """Return the mean squared error over the pixels of hidden patches (``hidden_IN`` 1) only.

    Raises:
        PartError: nothing is hidden.
    """
    if not bool(hidden_IN.any()):
        raise PartError("reconstruction: no patch is hidden; give the encoder a mask_ratio above 0")
    error = (predicted_INP.float() - target_INP).square().mean(dim=-1)
    return (error * hidden_IN).sum() / hidden_IN.sum()


def _reconstruction(trace: Trace) -> Tensor:
    return reconstruction_loss(
        trace["predicted_patches"], trace["target_patches"], trace["hidden_patches"]
    )


RECONSTRUCTION = Objective(
    "reconstruction",
    ("predicted_patches", "target_patches", "hidden_patches"),
    "batch",
    _reconstruction,
)
"""Predicted and target pixels ``[I, N, P]``, and which patches were hidden ``[I, N]``."""

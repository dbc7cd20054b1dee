"""CLIP's image tower.

Hidden states are taken before ``post_layernorm``, which only feeds the pooled output.
"""

from __future__ import annotations

from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from manyeyes.encoders.contract import GridEncoder


class ClipEncoder(GridEncoder):
    """``CLIPVisionModel``: one class token, then patches. Source: CLIP; COMM §1.1."""

    model_class = CLIPVisionModel
    config_class = CLIPVisionConfig
    normalization = "clip"

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.post_layernorm(states)

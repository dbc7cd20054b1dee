"""MLCD (arXiv 2407.17331): a CLIP-type tower with rotary positions, of LLaVA-OneVision 1.5."""

from __future__ import annotations

from torch import Tensor
from transformers import MLCDVisionConfig, MLCDVisionModel

from manyeyes.encoders.contract import GridEncoder


class MlcdEncoder(GridEncoder):
    """``MLCDVisionModel``: one class token, then patches, of any multiple of the patch size."""

    model_class = MLCDVisionModel
    config_class = MLCDVisionConfig
    normalization = "clip"
    interpolates = False

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.post_layernorm(states)

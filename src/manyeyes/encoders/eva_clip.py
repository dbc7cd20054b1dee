"""EVA-CLIP ViT-g/14 as BLIP-2, InstructBLIP, X-Former and LION use it: 39 blocks, no final norm.

``Blip2VisionModel`` ends in ``post_layernorm``, which is LAVIS's ``ln_vision``: trained with the
Q-Former, not part of the frozen encoder. The fusion owns it, so levels are taken before it.
"""

from __future__ import annotations

from torch import Tensor
from transformers import Blip2VisionConfig, Blip2VisionModel

from manyeyes.encoders.contract import GridEncoder


class EvaClipEncoder(GridEncoder):
    """One class token, then patches."""

    model_class = Blip2VisionModel
    config_class = Blip2VisionConfig
    normalization = "clip"

    @property
    def published_size(self) -> int:
        """Without biases of keys, which are always zero, and without the fusion's norm."""
        norm = sum(parameter.numel() for parameter in self.backbone.post_layernorm.parameters())
        keys = sum(layer.self_attn.qkv.bias.numel() // 3 for layer in self.backbone.encoder.layers)
        return super().published_size - norm - keys

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.post_layernorm(states)

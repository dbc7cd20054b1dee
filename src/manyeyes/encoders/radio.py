"""C-RADIO (arXiv 2412.07679): one ViT distilled from CLIP-, DINO- and SAM-type teachers."""

from __future__ import annotations

from transformers import PreTrainedConfig, RadioConfig, RadioModel

from manyeyes.encoders.contract import GridEncoder


class RadioEncoder(GridEncoder):
    """``RadioModel``: class and register tokens, then patches; it has no final norm.

    Pixels stay in 0..1: the model normalises them by itself. Its features are of another scale
    than CLIP's or DINO's; see ``feature_norm``.
    """

    model_class = RadioModel
    config_class = RadioConfig
    normalization = "none"
    interpolates = False

    @classmethod
    def num_prefix_tokens(cls, config: PreTrainedConfig) -> int:
        return int(config.num_cls_tokens) + int(config.num_registers)

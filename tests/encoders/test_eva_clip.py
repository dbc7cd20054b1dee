"""EVA-CLIP through ``Blip2VisionModel``: its last norm stays out; its weights are found."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

from manyeyes.checkpoints import hub
from manyeyes.encoders import ENCODERS, parse_encoder

VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}


def blip2(folder: Path) -> Blip2ForConditionalGeneration:
    text = OPTConfig(
        vocab_size=20, hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=2,
        word_embed_proj_dim=8,
    )  # fmt: skip
    qformer = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
               "intermediate_size": 8, "encoder_hidden_size": 16, "vocab_size": 20}  # fmt: skip
    config = Blip2Config(vision_config=VISION, qformer_config=qformer, text_config=text.to_dict())
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    return model


@torch.no_grad()
def test_the_tower_of_a_whole_blip2_checkpoint(tmp_path: Path) -> None:
    model = blip2(tmp_path)
    spec = parse_encoder(
        {
            "name": "eva",
            "family": "eva_clip",
            "checkpoint": str(tmp_path),
            "levels": [-1],
            "keep_prefix": True,
        }
    )
    encoder = ENCODERS["eva_clip"](spec, ENCODERS["eva_clip"].read_config(spec)).eval()
    loaded = hub.load_pretrained(type(encoder.backbone), str(tmp_path), encoder.backbone.config)
    encoder.backbone.load_state_dict(loaded.state_dict())
    pixels = torch.randn(2, 3, 16, 16)
    features = encoder(pixels)
    states = torch.cat([features.prefix[0], features.levels[0]], dim=1)
    assert states.shape == (2, 17, 16)
    expected = model.vision_model(pixels).last_hidden_state
    assert not torch.allclose(states, expected)
    normed = model.vision_model.post_layernorm(states)
    torch.testing.assert_close(normed, expected, rtol=1e-5, atol=1e-5)

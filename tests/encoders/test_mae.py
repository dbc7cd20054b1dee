"""The masked autoencoder: masks, the frozen decoder, targets. X-Former §3.4, §10.8, §10.14."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from manyeyes.checkpoints import hub
from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.encoders.mae import MaeEncoder
from manyeyes.errors import CheckpointError, PartError, RecipeError
from manyeyes.records import Masking

CONFIG: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "decoder_hidden_size": 8,
    "decoder_intermediate_size": 16,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
}
READS_BACK: dict[str, Any] = {"final_norm": True, "keep_prefix": True, "decoder": True}


def build(backbone: dict[str, Any] | None = None, **spec: Any) -> MaeEncoder:
    torch.manual_seed(0)
    fields = {"name": "mae", "family": "mae", "levels": [-1], "backbone": backbone or CONFIG}
    parsed = parse_encoder({**fields, **spec})
    encoder = ENCODERS["mae"](parsed, ENCODERS["mae"].read_config(parsed))
    assert isinstance(encoder, MaeEncoder)
    return encoder.eval()


def pixels(images: int = 3) -> Tensor:
    return torch.randn(images, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def whole(encoder: MaeEncoder, *, normalized: bool = False) -> ViTMAEForPreTraining:
    """The same weights as the model of ``transformers`` that computes the loss itself."""
    config = ViTMAEConfig(**CONFIG, mask_ratio=0.5, norm_pix_loss=normalized)
    model = ViTMAEForPreTraining(config).eval()
    model.vit.load_state_dict(encoder.backbone.state_dict())
    assert encoder.decoder is not None
    model.decoder.load_state_dict(encoder.decoder.decoder.state_dict())
    return model


def states(encoder: MaeEncoder, noise: Tensor) -> tuple[Tensor, Masking]:
    features = encoder(pixels(), training=True, noise=noise)
    assert features.masking is not None
    return torch.cat([features.prefix[0], features.levels[0]], dim=1), features.masking


@pytest.mark.parametrize("normalized", [False, True])
def test_reconstruction_equals_the_loss_of_transformers(normalized: bool) -> None:
    encoder = build({**CONFIG, "norm_pix_loss": normalized}, mask_ratio=0.5, **READS_BACK)
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(2))
    reference = whole(encoder, normalized=normalized)(pixels(), noise=noise)
    local, masking = states(encoder, noise)
    predicted = encoder.reconstruct(local, masking)
    torch.testing.assert_close(predicted, reference.logits, rtol=1e-5, atol=1e-5)
    error = (predicted - encoder.target(pixels())).square().mean(dim=-1)
    loss = (error * masking.hidden).sum() / masking.hidden.sum()
    torch.testing.assert_close(loss, reference.loss, rtol=1e-5, atol=1e-6)


def test_the_target_is_row_column_channel() -> None:
    target = build(**READS_BACK).target(pixels())
    assert target.shape == (3, 16, 48)
    expected = pixels()[0, :, 4:8, 8:12].permute(1, 2, 0).flatten()  # row 1, column 2
    assert torch.equal(target[0, 6], expected)


def test_half_of_the_patches_are_seen() -> None:
    encoder = build(mask_ratio=0.5, keep_prefix=True)
    features = encoder(pixels(), training=True)
    assert features.levels[0].shape == (3, 8, 16)
    assert features.masking is not None
    assert features.masking.hidden.sum(dim=1).tolist() == [8.0] * 3


def test_the_mask_follows_the_seed_in_training() -> None:
    encoder = build(mask_ratio=0.5)
    hidden = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masking = encoder(pixels(), training=True).masking
        assert masking is not None
        hidden.append(masking.hidden)
    assert torch.equal(hidden[0], hidden[1]) and not torch.equal(hidden[0], hidden[2])
    assert not torch.equal(hidden[0][0], hidden[0][1])  # one draw per image


def test_evaluation_sees_everything_by_default_and_one_mask_if_asked() -> None:
    assert build(mask_ratio=0.5)(pixels()).masking is None
    encoder = build(eval_mask_ratio=0.5)
    batch, alone = encoder(pixels()), encoder(pixels()[1:2])
    torch.testing.assert_close(batch.levels[0][1:2], alone.levels[0], rtol=1e-5, atol=1e-6)


def test_random_weights_have_positions() -> None:
    encoder = build(**READS_BACK)
    assert encoder.decoder is not None
    tables = (
        encoder.backbone.embeddings.position_embeddings,
        encoder.decoder.decoder.decoder_pos_embed,
    )
    for table in tables:
        assert len(torch.unique(table[0, 1:], dim=0)) == 16


def test_a_decoder_of_the_other_target_type_is_refused() -> None:
    with pytest.raises(PartError, match=r"target is 'raw', but .* predicts normalized pixels"):
        build({**CONFIG, "norm_pix_loss": True}, target="raw", **READS_BACK)
    assert build({**CONFIG, "norm_pix_loss": True}, target="normalized", **READS_BACK).normalizes


def test_a_decoder_needs_its_input() -> None:
    with pytest.raises(PartError, match="set final_norm: true and keep_prefix: true"):
        build(decoder=True)
    with pytest.raises(PartError, match="set decoder: true"):
        build().reconstruct(torch.zeros(1, 9, 16), Masking(torch.zeros(1, 16), torch.zeros(1, 16)))


@pytest.mark.parametrize("ratio", [1.0, -0.1])
def test_an_impossible_ratio_is_named(ratio: float) -> None:
    with pytest.raises(RecipeError, match=r"encoders.mae.mask_ratio: .* not in 0 <= r < 1"):
        build(mask_ratio=ratio)


def test_a_checkpoint_without_decoder_is_named(tmp_path: Path) -> None:
    encoder = build(**READS_BACK)
    encoder.backbone.save_pretrained(tmp_path)
    assert encoder.decoder is not None
    with pytest.raises(CheckpointError, match=r"lacks 'decoder\.\S+' and \d+ more"):
        hub.load_pretrained(type(encoder.decoder), str(tmp_path), encoder.decoder.config)


def test_encoder_and_decoder_load_from_one_checkpoint(tmp_path: Path) -> None:
    encoder = build(**READS_BACK)
    whole(encoder).save_pretrained(tmp_path)
    for part in encoder.pretrained_parts().values():
        loaded = hub.load_pretrained(type(part), str(tmp_path), part.config).state_dict()
        assert all(torch.equal(value, loaded[name]) for name, value in part.state_dict().items())

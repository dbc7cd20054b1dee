"""Masked autoencoding (He et al. 2022): three quarters of the patches hidden, raw pixels predicted.

Raw pixels rather than per-patch normalised ones, because the world's patches are largely flat and
normalisation would take their colour away. Shapes: B pictures, N patches.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from manyeyes.model.precision import CPU, autocast
from manyeyes.world.pretrain.export import save_part
from manyeyes.world.pretrain.loop import PartObjective, step_generator
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.sizes import HEADS, LAYERS, PATCH, PATCHES, WIDTH
from manyeyes.world.sample import IMAGE_SIZE


class MaeObjective(PartObjective):
    """ViT encoder on the visible quarter, small decoder, mean squared error on the hidden rest."""

    learning_rate = 1.5e-3

    def __init__(self, seed: int, images_per_step: int = 64) -> None:
        super().__init__()
        self.seed, self.images_per_step = seed, images_per_step
        torch.manual_seed(seed)
        self.network = ViTMAEForPreTraining(mae_config())
        self.network.set_attn_implementation("eager")
        set_positions(self.network)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Return the reconstruction error of step ``step``'s batch on hidden patches."""
        pixels = picture_batch(
            scene_batch("train", step, self.images_per_step, self.seed), "imagenet"
        )
        noise = torch.rand(len(pixels), PATCHES, generator=step_generator(self.seed, step))
        with autocast(CPU):
            out = self.network(pixel_values=pixels, noise=noise)
        error = (out.logits.float() - self.network.patchify(pixels)).square().mean(dim=-1)
        return (error * out.mask).sum() / out.mask.sum(), {}

    def export(self, folder: Path) -> None:
        """Write the ``ViTMAEForPreTraining`` with its decoder."""
        save_part(self.network, folder, "ViTImageProcessor", "imagenet")


@torch.no_grad()
def set_positions(network: ViTMAEForPreTraining) -> None:
    """Fill both fixed position tables with sines; a network built from its configuration has zeros.

    transformers 5.23 leaves them zero unless weights are loaded, and without positions the decoder
    can only predict the mean of what it sees.
    """
    encoder, decoder = network.vit.embeddings, network.decoder
    encoder.position_embeddings.copy_(sine_positions(WIDTH))
    decoder.decoder_pos_embed.copy_(sine_positions(decoder.decoder_pos_embed.shape[-1]))
    decoder.mask_token.normal_(std=0.02)


def sine_positions(width: int) -> Tensor:
    """Return ``[1, 1 + N, width]``: class token zero, then sines of x and y."""
    side = IMAGE_SIZE // PATCH
    omega = 10000.0 ** -(torch.arange(width // 4) / (width // 4))
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [x.flatten()[:, None] * omega, y.flatten()[:, None] * omega]
    table = torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)
    return torch.cat([torch.zeros(1, width), table])[None]


def mae_config() -> ViTMAEConfig:
    """Return the shipped configuration: the common encoder and a decoder of 2 x 96."""
    return ViTMAEConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        decoder_hidden_size=96,
        decoder_intermediate_size=384,
        decoder_num_hidden_layers=2,
        decoder_num_attention_heads=4,
        mask_ratio=0.75,
        norm_pix_loss=False,
        layer_norm_eps=1e-6,
        initializer_range=0.05,
    )

"""Masked autoencoders (arXiv 2111.06377): the encoder on all or some patches, and the decoder.

Shapes: I images, N patches, D width, P pixel values of a patch (row, column, channel).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel
from transformers.models.vit_mae.modeling_vit_mae import (
    ViTMAEDecoder,
    ViTMAEPreTrainedModel,
    build_2d_sinusoidal_position_embedding,
)

from manyeyes.encoders.contract import GridEncoder
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.errors import PartError
from manyeyes.layers.ranks import rows_of_ranks, shared_generator
from manyeyes.records import GridFeatures, Masking

EVAL_SEED = 0
"""Of the one mask that every image gets outside training, if ``eval_mask_ratio`` is not 0."""


class MaeDecoder(ViTMAEPreTrainedModel):
    """The pixel decoder of a ``ViTMAEForPreTraining`` checkpoint."""

    def __init__(self, config: ViTMAEConfig) -> None:
        super().__init__(config)
        image, patch = int(config.image_size), int(config.patch_size)  # type: ignore[arg-type]
        self.decoder = ViTMAEDecoder(config, (image // patch) ** 2)
        self.post_init()
        self.decoder.initialize_weights(self.decoder.decoder_pos_embed.shape[1] - 1)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load as ``transformers`` does, with the loading report.

        Through the whole model, whose checkpoints have other names inside than its class.
        """
        loaded: Any = ViTMAEForPreTraining.from_pretrained(*args, **kwargs)
        whole, report = loaded
        missing = {name for name in report["missing_keys"] if name.startswith("decoder.")}
        own = cls(whole.config)
        own.decoder = whole.decoder
        return own, {**report, "missing_keys": missing}

    def forward(self, states: Tensor, restore: Tensor) -> Tensor:
        """Return predicted pixels ``[I, N, P]`` from encoder states, class token first."""
        return self.decoder(states, restore).logits


class MaeEncoder(GridEncoder):
    """``ViTMAEModel``. Unmasked, patches are in raster order; masked, in that of the mask.

    Without given noise ``transformers`` shuffles the patches even at ratio 0.

    Raises:
        PartError: a decoder that cannot be used as asked.
    """

    model_class = ViTMAEModel
    config_class = ViTMAEConfig
    normalization = "imagenet"

    def __init__(self, spec: EncoderSpec, config: PreTrainedConfig) -> None:
        self.normalizes = _target(spec, bool(getattr(config, "norm_pix_loss", False)))
        super().__init__(spec, config)
        embeddings = self.backbone.embeddings
        if embeddings.position_embeddings.device.type != "meta":
            _fill_positions(embeddings)
        self.decoder = MaeDecoder(self.backbone.config) if spec.decoder else None
        if self.decoder is not None:
            self.decoder.requires_grad_(False)

    def pretrained_parts(self) -> dict[str, Any]:
        parts = super().pretrained_parts()
        return parts if self.decoder is None else {**parts, "decoder": self.decoder}

    @property
    def changes(self) -> bool:
        return self.spec.mask_ratio > 0.0

    def hidden_states(self, pixels: Tensor) -> tuple[Tensor, ...]:
        rows, columns = self.grid(pixels)
        ordered = torch.arange(rows * columns, device=pixels.device, dtype=torch.float32)
        return tuple(self._run(pixels, ordered.expand(len(pixels), -1), 0.0).hidden_states)

    def forward(
        self, pixels: Tensor, *, training: bool = False, noise: Tensor | None = None
    ) -> GridFeatures:
        """Return the chosen levels, at ``mask_ratio`` in training and else ``eval_mask_ratio``.

        ``noise`` ``[I, N]``: the patches of smallest noise stay visible. None = one draw per image
        in training, the same mask for every image otherwise.
        """
        ratio = self.spec.mask_ratio if training else self.spec.eval_mask_ratio
        if not ratio:
            return super().forward(pixels)
        rows, columns = self.grid(pixels)
        if noise is None:
            noise = _noise(len(pixels), rows * columns, training, pixels.device)
        with self.gradients():
            output = self._run(pixels.to(self.backbone.dtype), noise, ratio)
        features = self.select(output.hidden_states, (rows, columns))
        masking = Masking(output.mask, output.ids_restore)
        return GridFeatures(
            features.levels, features.level_indices, features.grid, features.prefix, masking
        )

    def reconstruct(self, states: Tensor, masking: Masking) -> Tensor:
        """Return predicted pixels ``[I, N, P]`` of M' ``[I, 1 + visible, D]``.

        The decoder's parameters are frozen, not its graph: gradients reach ``states``.
        """
        if self.decoder is None:
            raise PartError(
                f"encoder {self.spec.name!r} was built without its decoder; set decoder: true"
            )
        predicted: Tensor = self.decoder(states.to(self.decoder.dtype), masking.restore)
        return predicted

    def target(self, pixels: Tensor) -> Tensor:
        """Return what the decoder should predict, ``[I, N, P]`` in float32 (MAE's own loss)."""
        patch = int(self.backbone.config.patch_size)
        cut = pixels.float().unfold(2, patch, patch).unfold(3, patch, patch)
        patches = cut.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        if not self.normalizes:
            return patches
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
        return (patches - mean) / (variance + 1e-6) ** 0.5

    def last_norm(self, states: Tensor) -> Tensor:
        return self.backbone.layernorm(states)

    def _run(self, pixels: Tensor, noise: Tensor, ratio: float) -> Any:
        self.backbone.config.mask_ratio = ratio
        return self.backbone(
            pixel_values=pixels,
            noise=noise,
            output_hidden_states=True,
            interpolate_pos_encoding=True,
        )


def _noise(images: int, patches: int, training: bool, device: torch.device) -> Tensor:
    """Draw for this process's images; the draw does not depend on how many processes there are."""
    if not training:
        fixed = torch.rand(patches, generator=torch.Generator().manual_seed(EVAL_SEED))
        return fixed.expand(images, -1).to(device)
    first, total = rows_of_ranks(images, device)
    drawn = torch.rand(total, patches, generator=shared_generator(device))
    return drawn[first : first + images].to(device)


def _target(spec: EncoderSpec, checkpoint_normalizes: bool) -> bool:
    """Return whether the decoder predicts normalised pixels; check what the recipe expects."""
    if spec.decoder and not (spec.final_norm and spec.keep_prefix):
        raise PartError(
            f"encoder {spec.name!r}: its decoder reads normalised states with the class token; "
            "set final_norm: true and keep_prefix: true"
        )
    if spec.target == "own":
        return checkpoint_normalizes
    if spec.decoder and (spec.target == "normalized") != checkpoint_normalizes:
        found = "normalized" if checkpoint_normalizes else "raw"
        raise PartError(
            f"encoder {spec.name!r}: target is {spec.target!r}, but the decoder of "
            f"{spec.checkpoint or 'its configuration'!r} predicts {found} pixels (norm_pix_loss "
            f"{str(checkpoint_normalizes).lower()}); a frozen decoder fits one target only. If its "
            "configuration is wrong, write norm_pix_loss under backbone"
        )
    return spec.target == "normalized"


@torch.no_grad()
def _fill_positions(embeddings: Any) -> None:
    """Fill the fixed sine table, which ``transformers`` leaves zero unless weights are loaded."""
    side = int(embeddings.patch_embeddings.num_patches**0.5)
    width = embeddings.position_embeddings.shape[-1]
    table = build_2d_sinusoidal_position_embedding(side, side, width, cls_token=True)
    halves = table.chunk(2, dim=-1)  # MAE has the columns first
    embeddings.position_embeddings.copy_(torch.cat(halves[::-1], dim=-1)[None])

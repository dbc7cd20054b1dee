"""The model as vLLM's Transformers backend asks for it: without a head, images apart from text.

Shapes: I images, K visual tokens per image, R rows per image (K, and two markers where the bridge
has them), H language-model width, T positions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.inputs import PIXELS, take_texts
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.serving.vllm.refusals import check_servable

VISION = ("encoders", "fusion", "bridge")
"""The parts before the language model."""


class HeadlessManyEyes(ManyEyesForConditionalGeneration):
    """Encoders, fusion and bridge beside the bare decoder, ``language_model``.

    Raises:
        PartError: vLLM cannot serve such a model; see ``refusals``.
    """

    _supports_attention_backend = True

    def __init__(self, config: ManyEyesConfig) -> None:
        check_servable(config)
        super().__init__(config)
        self.decoder_prefix: str = self.language_model.base_model_prefix
        self.language_model = self.language_model.base_model

    def get_decoder(self) -> nn.Module:
        """Return the language model without its head."""
        decoder: nn.Module = self.language_model
        return decoder

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """Return the model itself: it has no single encoder of images."""
        return self

    def get_output_embeddings(self) -> nn.Module | None:
        """Return None: the head is vLLM's."""
        return None

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return what the decoder does: hidden states ``[B, T, H]`` first."""
        return self.language_model(input_ids=input_ids, inputs_embeds=inputs_embeds, **kwargs)

    @torch.no_grad()
    def get_image_features(
        self, pixel_values: Tensor, return_dict: bool = True, **others: Tensor
    ) -> BaseModelOutputWithPooling:
        """Return the rows of each image as they stand in the text, ``[I, R, H]``.

        They are the output's ``pooler_output``. ``pixel_values``: of the first encoder that the
        fusion reads; ``others``: of the rest, and the question where the fusion reads it.
        """
        texts = take_texts(others)
        first = next(spec.name for spec in self.config.encoder_specs() if spec.fused)
        pixels: dict[str, Any] = {f"{PIXELS}{first}": pixel_values, **others}
        evidence = self.encode_images(texts.get("question"), **pixels)
        rows: Any = self.bridge.image_rows(evidence.tokens)
        return BaseModelOutputWithPooling(pooler_output=rows)

    def embed_text(self, input_ids: Tensor) -> Tensor:
        """Return token embeddings ``[T, H]`` of ids ``[T]``, the soft prompt at its slots.

        Placeholders of images get the embedding of some token, to be replaced.
        """
        ids = self.image_token_ids
        special = torch.isin(input_ids, torch.tensor(ids, device=input_ids.device))
        embeddings = self.get_input_embeddings()(input_ids.masked_fill(special, 0))
        filled: Tensor = self.bridge.fill_slots(embeddings, input_ids == ids.slot)
        return filled

    def own_name(self, name: str) -> str:
        """Return where a tensor of a saved folder stands in vLLM: under ``model``, or the head."""
        part, _, rest = name.partition(".")
        if part != "language_model":
            return f"model.{name}"
        inner = rest.removeprefix(f"{self.decoder_prefix}.")
        return rest if inner == rest else f"model.language_model.{inner}"

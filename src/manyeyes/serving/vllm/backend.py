"""Our models in vLLM's Transformers backend; written for vLLM 0.32. Only vLLM imports this.

vLLM replaces the layers of the decoder, and leaves the parts before it as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.models.transformers.causal import CausalMixin
from vllm.model_executor.models.transformers.multimodal import (
    MultiModalDummyInputsBuilder,
    MultiModalMixin,
    MultiModalProcessingInfo,
    MultiModalProcessor,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.serving.vllm.headless import VISION
from manyeyes.serving.vllm.processor import PlaceholderProcessor
from manyeyes.serving.vllm.refusals import check_servable


@lru_cache(maxsize=4)
def _processor(folder: str) -> PlaceholderProcessor:
    return PlaceholderProcessor(ManyEyesProcessor.from_pretrained(folder))


class Info(MultiModalProcessingInfo):
    """Hands our processor to vLLM."""

    def get_hf_processor(self, **kwargs: object) -> Any:
        """Return the processor of the served folder."""
        check_servable(self.get_hf_config())
        return _processor(self.model_id)

    def get_supported_mm_processor_kwargs(self) -> dict[str, set[str]]:
        """Return none: ``questions`` is no argument of a part of the processor."""
        return {}


class Reader(MultiModalProcessor):
    """Gives the text of the prompt to fusions that read the question, unless it came with one."""

    def apply(self, inputs: Any, timing_ctx: Any) -> Any:
        """Process a prompt and its images; an image counts as known together with its question."""
        given = dict(inputs.hf_processor_mm_kwargs)
        processor = self.info.get_hf_processor()
        if processor.processor.reads_questions and "questions" not in given:
            given["questions"] = [processor.question(inputs.prompt)]
            inputs = replace(inputs, hf_processor_mm_kwargs=given)
        return super().apply(inputs, timing_ctx)


@MULTIMODAL_REGISTRY.register_processor(
    Reader, info=Info, dummy_inputs=MultiModalDummyInputsBuilder
)
class ServedByVllm(MultiModalMixin, CausalMixin):
    """vLLM's decoder behind our encoders, fusion and bridge."""

    @classmethod
    def get_placeholder_str(cls, modality: str, i: int) -> str | None:
        """Return what stands for an image where a chat template knows only text."""
        return PlaceholderProcessor.image_token

    def recursive_replace(self) -> None:
        """Put vLLM's layers into the decoder alone."""
        parts: Mapping[str, Any] = {name: self.model._modules.pop(name) for name in VISION}
        super().recursive_replace()
        self.model._modules.update(parts)

    def embed_input_ids(
        self,
        input_ids: Tensor,
        multimodal_embeddings: Any = None,
        *,
        is_multimodal: Tensor | None = None,
    ) -> Tensor:
        """Return embeddings ``[T, H]`` of ids ``[T]``, images at the places ``is_multimodal``."""
        embeddings = self.model.embed_text(input_ids)
        if is_multimodal is None or multimodal_embeddings is None or not len(multimodal_embeddings):
            return embeddings
        rows = torch.cat(list(multimodal_embeddings)).to(embeddings.dtype)
        return embeddings.masked_scatter(is_multimodal[:, None].to(embeddings.device), rows)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """Load a folder's tensors, which have the names of the whole model."""
        return super().load_weights(self._renamed(weights))

    def _renamed(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yield parameters by vLLM's names; buffers are put in place here."""
        buffers = dict(self.named_buffers())
        for name, tensor in weights:
            place = self.model.own_name(name)
            if place in buffers:
                buffers[place].copy_(tensor)
            else:
                yield place, tensor

    def _get_tie_word_embeddings(self) -> bool:
        """Whether the head is the embedding, as the language model says and the folder does."""
        untied = any("lm_head" in name for name in self.config.untied or ())
        return bool(self.text_config.tie_word_embeddings) and not untied

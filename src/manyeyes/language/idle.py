"""In place of a language model that a stage does not run: no weights, only errors that say so."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import nn
from transformers import GenerationConfig, PreTrainedConfig

from manyeyes.errors import PartError


class IdleLanguage(nn.Module):
    """Stands where the language model would (``language: {idle: true}``)."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.generation_config = GenerationConfig()

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise ``PartError``."""
        raise PartError(
            "this model was built without its language model (language.idle: true): it can match "
            "images and texts, but not answer. Train its next stage, or set idle: false"
        )

    generate = forward

    def get_input_embeddings(self) -> nn.Module:
        """Return itself, which raises when it is called."""
        return self

    def get_output_embeddings(self) -> None:
        """There are none."""

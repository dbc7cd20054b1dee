"""Which models vLLM can serve: those whose evidence is tokens in the text, and nothing else."""

from __future__ import annotations

from manyeyes.bridge import parse_bridge
from manyeyes.bridge.placeholder import PlaceholderBridge
from manyeyes.errors import PartError
from manyeyes.language import parse_language
from manyeyes.model.configuration import ManyEyesConfig

EXPORT = "manyeyes export MODEL --out DIR --self-contained"
"""Writes a folder that vLLM can load."""


def check_servable(config: ManyEyesConfig) -> None:
    """Raise ``PartError``, with the reason in one sentence, where vLLM cannot serve a model."""
    reason = reason_against(config)
    if reason is not None:
        raise PartError(f"vLLM cannot serve this model: {reason}")


def reason_against(config: ManyEyesConfig) -> str | None:
    """Return why vLLM cannot serve a model of this configuration; None = it can."""
    bridge, options = parse_bridge(config.bridge)
    language = parse_language(config.language)
    if language.idle:
        return "it was built without its language model"
    if config.is_encoder_decoder:
        return "its language model is an encoder-decoder, which vLLM does not run"
    if not issubclass(bridge, PlaceholderBridge):
        return "adapter prompts act inside the attention of its layers, which vLLM replaces"
    if config.given.layers:
        return "its first layers add visual tokens to what they pass on, and vLLM replaces them"
    if config.tiling is not None:
        return "it sees pictures in tiles, and vLLM is told one number of rows for all images"
    if options.adapters is not None:
        return "it has adapters beside its feed-forward layers, which vLLM replaces"
    if language.added_biases:
        return "it has added biases in its layers, which vLLM replaces"
    if config.lora:
        return f"its LoRA is not merged into the weights; {EXPORT} merges it"
    if config.references:
        return f"its folder leaves out the frozen parts; {EXPORT} writes them too"
    return None

"""What vLLM runs in each of its processes, found by the entry point ``vllm.general_plugins``."""

from __future__ import annotations


def register() -> None:
    """Make vLLM's model registry and the Auto classes know our models."""
    from transformers import AutoModel
    from vllm import ModelRegistry

    from manyeyes.model.auto.registration import register as register_auto
    from manyeyes.model.configuration import ManyEyesConfig
    from manyeyes.model.modeling import ManyEyesForConditionalGeneration
    from manyeyes.serving.vllm.headless import HeadlessManyEyes

    register_auto()
    AutoModel.register(ManyEyesConfig, HeadlessManyEyes, exist_ok=True)
    name = ManyEyesForConditionalGeneration.__name__
    if name not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(name, "manyeyes.serving.vllm.backend:ServedByVllm")

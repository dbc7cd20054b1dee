"""Frozen or tuned language models behind one small contract, by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from manyeyes.checkpoints import hub
from manyeyes.checkpoints.trust import trusts_remote_code
from manyeyes.errors import PartError, RecipeError
from manyeyes.language.added_biases import add_biases
from manyeyes.language.contract import LanguageKind, LanguageOutput
from manyeyes.language.decoder_only import DecoderOnly
from manyeyes.language.encoder_decoder import EncoderDecoder
from manyeyes.language.idle import IdleLanguage
from manyeyes.language.positions import check_prompts, position_limit, too_long
from manyeyes.options import check_choice, parse_options

KINDS: dict[str, LanguageKind] = {
    "decoder_only": DecoderOnly(),
    "encoder_decoder": EncoderDecoder(),
}


@dataclass(frozen=True, kw_only=True)
class LanguageSpec:
    """The language model of a recipe."""

    checkpoint: str = ""
    """Hub id, folder or ``world:`` part."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its configuration fields with ``model_type``, so that the architecture is known without any
    file."""
    added_biases: tuple[str, ...] = ()
    """Last names of linear layers that get a zero bias where they have none (LLaMA-Adapter V2)."""
    idle: bool = False
    """Build everything but the language model, for stages that do not run it."""
    kind: str | None = None
    """The key of ``KINDS`` that the recipe is written for. A model of another kind is refused."""
    dropout: bool = False
    """Let a frozen language model's own dropout act in training, as LION's released code does."""

    def __post_init__(self) -> None:
        check_choice("language", "kind", self.kind, (None, *KINDS))


def parse_language(values: Mapping[str, Any]) -> LanguageSpec:
    """Return the checked spec of a ``language:`` block. Raises ``RecipeError``."""
    return parse_options(LanguageSpec, values, "language")


def read_config(spec: LanguageSpec) -> PreTrainedConfig:
    """Return the language model's configuration, from the recipe or the checkpoint."""
    return hub.load_config(spec.checkpoint, None, spec.config)


def restore_config(language: Mapping[str, Any], fields: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the configuration that a saved model holds of its language model.

    A kind that ``transformers`` does not know is read again from the language model's own folder,
    whose code runs where that is trusted.

    Raises:
        CheckpointError: unknown, and its folder is missing or not trusted.
        RecipeError: fields that ``transformers`` refuses.
    """
    kind = fields.get("model_type")
    if not isinstance(kind, str):
        raise RecipeError(f"text_config.model_type: expected the kind of model, got {kind!r}")
    if kind in CONFIG_MAPPING:
        return hub.load_config("text_config", None, fields)
    config = hub.load_config(parse_language(language).checkpoint)
    config.update(dict(fields))
    return config


def check_kind(spec: LanguageSpec, config: PreTrainedConfig) -> None:
    """Raise ``PartError`` unless the language model is of the kind that the recipe asks for."""
    found = "encoder_decoder" if config.is_encoder_decoder else "decoder_only"
    if spec.kind not in (None, found):
        raise PartError(
            f"language: this recipe is for {spec.kind} language models, but "
            f"{spec.checkpoint or config.model_type!r} is {found} ({config.model_type}): choose a "
            "recipe for that kind, or set language.kind: null and check prompt_style and data"
        )


def kind_of(config: PreTrainedConfig) -> LanguageKind:
    """Return how a model of this configuration is driven."""
    return KINDS["encoder_decoder" if config.is_encoder_decoder else "decoder_only"]


def auto_class(config: PreTrainedConfig) -> Any:
    """Return the ``transformers`` Auto class that builds a model of this configuration."""
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def has_own_head(spec: LanguageSpec, config: PreTrainedConfig) -> bool:
    """Return whether the output head of an encoder-decoder has weights of its own by declaration.

    The configurations of T5 and its kin tie it whatever their files say; T5's remember in
    ``scale_decoder_outputs`` what was said.
    """
    said = spec.config.get("tie_word_embeddings", getattr(config, "scale_decoder_outputs", True))
    return bool(config.is_encoder_decoder) and said is False


def build_language(spec: LanguageSpec, config: PreTrainedConfig) -> Any:
    """Return the language model of ``config``, random, or what stands in for an idle one."""
    if spec.idle:
        return IdleLanguage(config)
    return auto_class(config).from_config(config, trust_remote_code=trusts_remote_code())


__all__ = [
    "KINDS",
    "IdleLanguage",
    "LanguageKind",
    "LanguageOutput",
    "LanguageSpec",
    "add_biases",
    "auto_class",
    "build_language",
    "check_kind",
    "check_prompts",
    "has_own_head",
    "kind_of",
    "parse_language",
    "position_limit",
    "read_config",
    "restore_config",
    "too_long",
]

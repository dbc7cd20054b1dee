"""Pixels to features: one file per encoder family, one line per family here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyeyes.encoders.aimv2 import Aimv2Encoder
from manyeyes.encoders.classifier import ClassifierTagger
from manyeyes.encoders.clip import ClipEncoder, ClipProjectedEncoder, MetaClip2Encoder
from manyeyes.encoders.contract import (
    Encoder,
    EncoderCost,
    EncoderSpec,
    GridEncoder,
    GridShape,
    ObjectShape,
    PixelTransform,
    Shape,
)
from manyeyes.encoders.detectors import (
    ConditionalDetrDetector,
    DabDetrDetector,
    DeformableDetrDetector,
    DetectorEncoder,
    DetrDetector,
    DFineDetector,
    RtDetrDetector,
    RtDetrV2Detector,
    YolosDetector,
)
from manyeyes.encoders.dinov2 import Dinov2Encoder, Dinov2RegistersEncoder
from manyeyes.encoders.dinov3 import Dinov3Encoder
from manyeyes.encoders.eva_clip import EvaClipEncoder
from manyeyes.encoders.ijepa import IJepaEncoder
from manyeyes.encoders.mae import MaeEncoder
from manyeyes.encoders.mlcd import MlcdEncoder
from manyeyes.encoders.radio import RadioEncoder
from manyeyes.encoders.ram import RamTagger
from manyeyes.encoders.siglip import Siglip2Encoder, SiglipEncoder
from manyeyes.encoders.tagging import FILE, Tagger, TaggerSpec
from manyeyes.encoders.tipsv2 import Tipsv2Encoder
from manyeyes.options import check_choice, parse_options

ENCODERS: dict[str, type[Encoder]] = {
    "aimv2": Aimv2Encoder,
    "clip": ClipEncoder,
    "clip_projected": ClipProjectedEncoder,
    "conditional_detr": ConditionalDetrDetector,
    "d_fine": DFineDetector,
    "dab_detr": DabDetrDetector,
    "deformable_detr": DeformableDetrDetector,
    "detr": DetrDetector,
    "dinov2": Dinov2Encoder,
    "dinov2_registers": Dinov2RegistersEncoder,
    "dinov3": Dinov3Encoder,
    "eva_clip": EvaClipEncoder,
    "ijepa": IJepaEncoder,
    "mae": MaeEncoder,
    "metaclip_2": MetaClip2Encoder,
    "mlcd": MlcdEncoder,
    "radio": RadioEncoder,
    "rt_detr": RtDetrDetector,
    "rt_detr_v2": RtDetrV2Detector,
    "siglip": SiglipEncoder,
    "siglip2": Siglip2Encoder,
    "tipsv2": Tipsv2Encoder,
    "yolos": YolosDetector,
}


TAGGERS: dict[str, type[Tagger]] = {
    "classifier": ClassifierTagger,
    "ram": RamTagger,
}


def parse_encoder(values: Mapping[str, Any]) -> EncoderSpec:
    """Return the checked spec of one ``encoders:`` entry of a recipe or configuration.

    Raises:
        RecipeError: unknown key or family.
    """
    spec = parse_options(EncoderSpec, values, f"encoders.{values.get('name', '?')}")
    check_choice(f"encoders.{spec.name}", "family", spec.family, tuple(ENCODERS))
    return spec


def parse_tagger(values: Mapping[str, Any]) -> TaggerSpec:
    """Return the checked spec of a ``tagger:`` block.

    Raises:
        RecipeError: unknown key or family, or a value that makes no sense.
    """
    spec = parse_options(TaggerSpec, values, "tagger")
    check_choice("tagger", "family", spec.family, (*TAGGERS, FILE))
    return spec


__all__ = [
    "ENCODERS",
    "FILE",
    "TAGGERS",
    "DetectorEncoder",
    "Encoder",
    "EncoderCost",
    "EncoderSpec",
    "GridEncoder",
    "GridShape",
    "ObjectShape",
    "PixelTransform",
    "Shape",
    "Tagger",
    "TaggerSpec",
    "parse_encoder",
    "parse_tagger",
]

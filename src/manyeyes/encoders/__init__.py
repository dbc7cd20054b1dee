"""Pixels to features: one file per encoder family, one line per family here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyeyes.encoders.aimv2 import Aimv2Encoder
from manyeyes.encoders.auto import AutoEncoder
from manyeyes.encoders.classifier import ClassifierTagger
from manyeyes.encoders.clip import ClipEncoder, ClipProjectedEncoder, MetaClip2Encoder
from manyeyes.encoders.contract import (
    Encoder,
    EncoderCost,
    GridEncoder,
    GridShape,
    ObjectShape,
    PixelTransform,
    Shape,
)
from manyeyes.encoders.convnext import ConvNextEncoder, ConvNextV2Encoder, Dinov3ConvNextEncoder
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
from manyeyes.encoders.dinov2 import DepthAnythingEncoder, Dinov2Encoder, Dinov2RegistersEncoder
from manyeyes.encoders.dinov3 import Dinov3Encoder
from manyeyes.encoders.dpt import DptEncoder
from manyeyes.encoders.eva_clip import EvaClipEncoder
from manyeyes.encoders.ijepa import IJepaEncoder
from manyeyes.encoders.mae import MaeEncoder
from manyeyes.encoders.mlcd import MlcdEncoder
from manyeyes.encoders.radio import RadioEncoder
from manyeyes.encoders.ram import RamTagger
from manyeyes.encoders.sam import (
    Sam2Encoder,
    Sam2NeckEncoder,
    Sam3Encoder,
    Sam3NeckEncoder,
    SamEncoder,
    SamNeckEncoder,
)
from manyeyes.encoders.siglip import Siglip2Encoder, SiglipEncoder
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.encoders.swin import SwinEncoder, SwinV2Encoder
from manyeyes.encoders.tagging import FILE, Tagger, TaggerSpec
from manyeyes.encoders.timm_models import TimmEncoder
from manyeyes.encoders.tipsv2 import Tipsv2Encoder
from manyeyes.encoders.vjepa2 import VJepa2Encoder
from manyeyes.errors import RecipeError
from manyeyes.options import check_choice, names_with_plugins, parse_options

ENCODERS: dict[str, type[Encoder]] = {
    "aimv2": Aimv2Encoder,
    "auto": AutoEncoder,
    "clip": ClipEncoder,
    "clip_projected": ClipProjectedEncoder,
    "conditional_detr": ConditionalDetrDetector,
    "convnext": ConvNextEncoder,
    "convnextv2": ConvNextV2Encoder,
    "d_fine": DFineDetector,
    "dab_detr": DabDetrDetector,
    "deformable_detr": DeformableDetrDetector,
    "depth_anything": DepthAnythingEncoder,
    "detr": DetrDetector,
    "dinov2": Dinov2Encoder,
    "dinov2_registers": Dinov2RegistersEncoder,
    "dinov3": Dinov3Encoder,
    "dinov3_convnext": Dinov3ConvNextEncoder,
    "dpt": DptEncoder,
    "eva_clip": EvaClipEncoder,
    "ijepa": IJepaEncoder,
    "mae": MaeEncoder,
    "metaclip_2": MetaClip2Encoder,
    "mlcd": MlcdEncoder,
    "radio": RadioEncoder,
    "rt_detr": RtDetrDetector,
    "rt_detr_v2": RtDetrV2Detector,
    "sam": SamEncoder,
    "sam2": Sam2Encoder,
    "sam2_neck": Sam2NeckEncoder,
    "sam3": Sam3Encoder,
    "sam3_neck": Sam3NeckEncoder,
    "sam_neck": SamNeckEncoder,
    "siglip": SiglipEncoder,
    "siglip2": Siglip2Encoder,
    "swin": SwinEncoder,
    "swinv2": SwinV2Encoder,
    "timm": TimmEncoder,
    "tipsv2": Tipsv2Encoder,
    "vjepa2": VJepa2Encoder,
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
    names = names_with_plugins(ENCODERS, "manyeyes.encoders", spec.family, _is_encoder)
    check_choice(f"encoders.{spec.name}", "family", spec.family, names)
    if spec.family not in ("auto", "timm") and (spec.grid is not None or spec.prefix is not None):
        raise RecipeError(
            f"encoders.{spec.name}: grid and prefix are declared for families auto and timm; "
            f"{spec.family} knows its own"
        )
    if spec.tiles > 1 and not issubclass(ENCODERS[spec.family], GridEncoder):
        raise RecipeError(f"encoders.{spec.name}.tiles: {spec.family} gives objects, not patches")
    if spec.feature_norm != "none" and not issubclass(ENCODERS[spec.family], GridEncoder):
        raise RecipeError(
            f"encoders.{spec.name}.feature_norm: {spec.family} gives objects, not patches"
        )
    return spec


def _is_encoder(member: object) -> bool:
    return isinstance(member, type) and issubclass(member, Encoder)


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

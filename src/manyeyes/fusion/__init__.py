"""Features to visual evidence: one file per method, one line per method here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manyeyes.errors import RecipeError
from manyeyes.fusion.comm import CommFusion
from manyeyes.fusion.concat import ConcatFusion
from manyeyes.fusion.contract import Fusion, FusionPlan, Shapes, grid_features, object_features
from manyeyes.fusion.cross_attention import CrossAttentionFusion
from manyeyes.fusion.deepseek_hybrid import DeepSeekHybridFusion
from manyeyes.fusion.deepstack import DeepStackFusion
from manyeyes.fusion.interleaved import InterleavedFusion
from manyeyes.fusion.lion import LionFusion
from manyeyes.fusion.llama_adapter_v2 import LlamaAdapterV2Fusion
from manyeyes.fusion.mr_mllm import SharedQueriesFusion
from manyeyes.fusion.qformer import QFormerFusion
from manyeyes.fusion.single import SingleFusion
from manyeyes.fusion.sva import SvaFusion
from manyeyes.fusion.xformer import XFormerFusion
from manyeyes.options import check_choice, names_with_plugins, parse_options

FUSIONS: dict[str, type[Fusion]] = {
    "comm": CommFusion,
    "concat": ConcatFusion,
    "cross_attention": CrossAttentionFusion,
    "deepseek_hybrid": DeepSeekHybridFusion,
    "deepstack": DeepStackFusion,
    "interleaved": InterleavedFusion,
    "lion": LionFusion,
    "llama_adapter_v2": LlamaAdapterV2Fusion,
    "qformer": QFormerFusion,
    "shared_queries": SharedQueriesFusion,
    "single": SingleFusion,
    "sva": SvaFusion,
    "xformer": XFormerFusion,
}


def parse_fusion(values: Mapping[str, Any]) -> tuple[type[Fusion], Any]:
    """Return the fusion class and its checked options for a ``fusion:`` block.

    Raises:
        RecipeError: unknown name, key or value.
    """
    if "name" not in values:
        raise RecipeError(f"fusion: missing key name (one of {', '.join(FUSIONS)})")
    names = names_with_plugins(FUSIONS, "manyeyes.fusions", str(values["name"]), _is_fusion)
    check_choice("fusion", "name", values["name"], names)
    cls = FUSIONS[values["name"]]
    rest = {key: value for key, value in values.items() if key != "name"}
    return cls, parse_options(cls.options_class, rest, "fusion")


def _is_fusion(member: object) -> bool:
    return isinstance(member, type) and issubclass(member, Fusion)


__all__ = [
    "FUSIONS",
    "Fusion",
    "FusionPlan",
    "Shapes",
    "grid_features",
    "object_features",
    "parse_fusion",
]

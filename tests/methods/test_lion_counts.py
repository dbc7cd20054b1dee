"""LION's parameter counts at real size by its recipes (LION §10)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from manyeyes.encoders import GridShape
from manyeyes.fusion import parse_fusion
from manyeyes.layers.adapters.mixture import AdapterMixture, AdapterOptions
from manyeyes.recipes import load_recipe
from manyeyes.records import FusionText, GridFeatures
from manyeyes.study.costs.recipe import inspect_recipe

EVA = GridShape(1408, (16, 16), (19, 29, 39), num_prefix=1)
T5_PLACES = [f"{stack}{index}" for stack in ("encoder", "decoder") for index in range(24)]


@pytest.mark.parametrize(
    ("recipe", "learns", "adapters", "single", "mlp", "projection", "width", "total"),
    [
        ("xl", 281_570_400, 25_761_888, 12_684_336, 19_471_872, 1_574_912, 2048, 2_849_757_184),
        ("xxl", 320_439_392, 51_517_536, 25_365_552, 31_008_256, 3_149_824, 4096, 11_135_332_352),
    ],
)
def test_lion_counts_by_the_recipe(
    recipe: str,
    learns: int,
    adapters: int,
    single: int,
    mlp: int,
    projection: int,
    width: int,
    total: int,
) -> None:
    found = inspect_recipe(load_recipe(f"lion/paper-{recipe}"), memory=False).to_json()
    assert found["trainable_by_stage"]["tags"] == learns
    assert found["trainable_by_stage"]["both"] == learns - width
    assert found["published_sizes"] == {"eva": 985_894_528}
    assert found["visual_tokens"] == 289
    fusion, bridge = (found["parts"][part]["modules"] for part in ("fusion", "bridge"))
    assert bridge == {"mixture": adapters, "soft_prompt": width}
    assert fusion["aggregator"] == 49_069_312
    assert fusion["aggregator_proj"] == mlp and fusion["projector"] == projection
    assert fusion["qformer"] + fusion["text"] == 185_660_160
    assert fusion["query_tokens"] == 24_576
    assert fusion["ln_vision"] + fusion["aggregator_norm"] == 5_632
    stages = found["parts"]["bridge"]["trainable_by_stage"]
    assert stages["image"] == stages["region"] == single
    assert found["parts"]["language"]["trainable"] == found["parts"]["encoders"]["trainable"] == 0
    assert found["parts"]["language"]["total"] == total


def test_flan_t5_base_is_counted_with_its_own_head() -> None:
    inspection = inspect_recipe(load_recipe("lion/small"), memory=False)
    assert inspection.parts["language"].total == 247_577_856


@pytest.mark.parametrize(
    ("width", "one", "place"), [(2048, 264_257, 536_706), (4096, 528_449, 1_073_282)]
)
def test_lion_counts_of_one_place(width: int, one: int, place: int) -> None:
    with torch.device("meta"):
        mixture = AdapterMixture(AdapterOptions(), T5_PLACES[:1], width)
    sizes = {name: p.numel() for name, p in mixture.named_parameters()}
    assert sum(sizes.values()) == place
    assert sum(n for name, n in sizes.items() if name.startswith("adapters.0.")) == one


@torch.no_grad()
@pytest.mark.parametrize(
    ("visual_input", "tokens"), [("all", 289), ("qformer", 32), ("aggregator", 257)]
)
def test_lion_check_01_tokens_at_real_size(visual_input: str, tokens: int) -> None:
    cls, options = parse_fusion({"name": "lion", "visual_input": visual_input})
    build: Any = cls
    meta = torch.device("meta")
    cls.check(options, {"eva": EVA})
    with meta:
        fusion = build(options, {"eva": EVA}, 2048)
        levels = tuple(torch.empty(2, 256, 1408) for _ in range(3))
        prefix = tuple(torch.empty(2, 1, 1408) for _ in range(3))
        ids = torch.zeros(2, 9, dtype=torch.long)
    bundle = {"eva": GridFeatures(levels, EVA.level_indices, EVA.grid, prefix)}
    evidence = fusion.eval()(bundle, FusionText(ids, torch.ones_like(ids)))
    assert evidence.tokens.shape == (2, tokens, 2048)
    assert cls.planned(options, {"eva": EVA}).tokens == tokens

"""Places of patches for queries that look for them: every fusion with queries, ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from image_text import GRID, IMAGE_WIDTH, SHAPES, build, bundle, text, unsettle
from manyeyes.errors import RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.layers.grid_positions import wave_positions

BLOCKS = {"width": 16, "heads": 4, "queries": 3}
ADAPTER_FUSIONS: dict[str, dict[str, Any]] = {
    "llama_adapter_v2": {"depth": 1},
    "shared_queries": {"visual_depth": 1},
}


@pytest.mark.parametrize("name", ["qformer", "xformer"])
def test_queries_read_patches_with_their_places(name: str) -> None:
    seen = bundle(local=name == "xformer")
    plain, placed = build(name), build(name, image_positions="waves")
    added = placed.image_tokens(seen) - plain.image_tokens(seen)
    assert torch.equal(added[:, :1], torch.zeros_like(added[:, :1]))
    torch.testing.assert_close(added[:, 1:], wave_positions(*GRID, IMAGE_WIDTH).expand(3, -1, -1))
    assert not torch.allclose(placed(seen).tokens, plain(seen).tokens, atol=1e-3)


def test_both_branches_of_lion_read_them() -> None:
    options = {"text": "question", "aggregator_levels": (2, 1), "aggregator_heads": 2,
               "aggregator_ffn": 8}  # fmt: skip
    seen = bundle(local=False)
    level = seen["clip"]
    two = type(level)(level.levels * 2, (1, 2), level.grid, level.prefix * 2)
    given = type(SHAPES["clip"])(IMAGE_WIDTH, GRID, (1, 2), 1)
    tokens = {}
    for positions in ("none", "waves"):
        fusion = _make("lion", {"clip": given}, {**options, "image_positions": positions})
        tokens[positions] = fusion({"clip": two}, text()).tokens
    changed = (tokens["none"] - tokens["waves"]).abs().amax(dim=(0, 2)) > 1e-4
    queries = 5
    assert changed[:queries].all()
    assert changed[queries:].tolist() == [False] + [True] * (len(changed) - queries - 1)


@pytest.mark.parametrize("name", ADAPTER_FUSIONS)
def test_prompts_tell_where_patches_lie(name: str) -> None:
    """Patches in another order are the same set: only with places can prompts tell."""
    seen = bundle(local=False)["clip"]
    turned = type(seen)((seen.levels[0].flip(1),), seen.level_indices, seen.grid, seen.prefix)
    for positions, same in (("none", True), ("waves", False)):
        options = {**BLOCKS, **ADAPTER_FUSIONS[name], "image_positions": positions}
        fusion = _make(name, {"clip": SHAPES["clip"]}, options)
        found = [fusion({"clip": features}).prompts for features in (seen, turned)]
        assert torch.allclose(*found, atol=1e-5) is same


@pytest.mark.parametrize("name", ["qformer", "lion", *ADAPTER_FUSIONS])
def test_an_unknown_word_is_named(name: str) -> None:
    with pytest.raises(RecipeError, match="image_positions"):
        parse_fusion({"name": name, "image_positions": "wave"})


def _make(name: str, shapes: Any, options: dict[str, Any]) -> Any:
    small = {"layers": 2, "ffn": 32, "max_positions": 32, "text_length": 16, "vocab_size": 40,
             "dropout": 0.0, "queries": 5, "width": 16, "heads": 4}  # fmt: skip
    given = {**small, **options} if name == "lion" else options
    cls, parsed = parse_fusion({"name": name, **given})
    cls.check(parsed, shapes)
    torch.manual_seed(0)
    make: Any = cls
    fusion = make(parsed, shapes, 6)
    unsettle(fusion)
    return fusion.eval()

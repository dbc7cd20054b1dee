"""X-Former's dual attention: order, permutation, equivalences, switches (x-former.md §10)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from image_text import (
    LOCAL_WIDTH,
    PATCHES,
    SHAPES,
    SMALL,
    build,
    bundle,
    edited,
    largest,
    text,
    unsettle,
)
from manyeyes.encoders import GridShape
from manyeyes.errors import PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.image_text import CAPTION, CONTRAST, MATCH
from manyeyes.fusion.queries import Refinement
from manyeyes.fusion.xformer import XFormerFusion
from manyeyes.layers.attention.dual import DualAttention, DualShape
from manyeyes.records import LOCAL_STATES, FeatureBundle, GridFeatures, Masking


def xformer(**options: Any) -> XFormerFusion:
    fusion = build("xformer", **options)
    assert isinstance(fusion, XFormerFusion)
    return fusion


def copied(source: nn.Module, target: nn.Module) -> list[str]:
    """Copy the tensors that both have; return the names only ``target`` has."""
    state = source.state_dict()
    missing, unexpected = target.load_state_dict(
        {k: v for k, v in state.items() if k in target.state_dict()}, strict=False
    )
    assert not unexpected
    return list(missing)


@torch.no_grad()
def test_xformer_check_02_without_mae_it_is_the_qformer() -> None:
    plain, off, images, words = build(), xformer(mae_enabled=False), bundle(), text()
    assert copied(plain, off) == []
    torch.testing.assert_close(off(images).tokens, plain(images).tokens, rtol=0, atol=0)
    for name in (*CONTRAST, *MATCH, *CAPTION):
        torch.manual_seed(0)
        one = off.intermediates(images, words, (name,))[name]
        torch.manual_seed(0)
        other = plain.intermediates(images, words, (name,))[name]
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("position", ["top", "interleaved"])
def test_xformer_check_02_fresh_pre_norm_blocks_change_nothing(position: str) -> None:
    cls, options = parse_fusion(
        {"name": "xformer", **SMALL, "dual_norm": "pre", "fusion_position": position}
    )
    make: Any = cls
    torch.manual_seed(0)
    fresh, plain = make(options, SHAPES, 6).eval(), build()
    assert all(name.startswith("dual.") for name in copied(plain, fresh))
    images = bundle()
    torch.testing.assert_close(fresh(images).tokens, plain(images).tokens, rtol=1e-5, atol=1e-5)
    unsettle(fresh.dual)
    assert largest(fresh(images).tokens, plain(images).tokens) > 1e-3


def local_changed(images: FeatureBundle, change: Any) -> dict[str, GridFeatures]:
    mae = images["mae"]
    assert isinstance(mae, GridFeatures)
    moved = GridFeatures(
        tuple(change(x) for x in mae.levels), mae.level_indices, mae.grid, mae.prefix, mae.masking
    )
    return {**images, "mae": moved}  # type: ignore[dict-item]


@torch.no_grad()
def test_xformer_check_06_order_of_the_dual_attention() -> None:
    fusion, images = xformer(reconstruct=True), bundle(hidden=4)
    before = fusion.read(images)
    other = fusion.read(local_changed(images, lambda x: x + x.sin()))
    assert largest(other.trace[LOCAL_STATES], before.trace[LOCAL_STATES]) > 1e-3
    assert largest(other.queries, before.queries) > 1e-3
    far = {**images, "clip": bundle(seed=9)["clip"]}  # another Zq
    assert largest(fusion.read(far).trace[LOCAL_STATES], before.trace[LOCAL_STATES]) > 1e-3
    assert fusion.dual is not None
    layer = fusion.dual.layers[0]
    constant = torch.randn(3, 1 + PATCHES - 4, 16)
    layer.local.forward = lambda x, y: constant  # type: ignore[method-assign, assignment]
    one, two = fusion.read(images), fusion.read(local_changed(images, lambda x: 3 * x))
    assert torch.equal(one.queries, two.queries)


@torch.no_grad()
def test_xformer_check_06_attention_maps() -> None:
    dual = DualAttention(DualShape(width=768, local=1280, heads=12))
    queries, local = torch.randn(2, 32, 768), dual.enter(torch.randn(2, 129, 1280))
    layer = dual.layers[0]
    first = layer.local.cross.change.weights(local, queries)
    second = layer.query.cross.change.weights(queries, layer.local(local, queries))
    assert first.shape == (2, 12, 129, 32) and second.shape == (2, 12, 32, 129)
    for attention in (first, second):
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))


@torch.no_grad()
def test_the_block_equals_its_equations() -> None:
    fusion, images = xformer(reconstruct=True), bundle()
    dual = fusion.dual
    assert dual is not None and dual.w_in is not None and dual.w_out is not None

    def attention(block: Any, x: Tensor, y: Tensor) -> Tensor:
        heads, width = block.heads, x.shape[-1]
        q, k, v = block.query(x), block.key(y), block.value(y)
        parts = []
        for head in range(heads):
            cut = slice(head * width // heads, (head + 1) * width // heads)
            scores = q[..., cut] @ k[..., cut].transpose(1, 2) / (width // heads) ** 0.5
            parts.append(scores.softmax(dim=-1) @ v[..., cut])
        return block.out(torch.cat(parts, dim=-1))  # type: ignore[no-any-return]

    def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (x.var(-1, keepdim=True, unbiased=False) + layer.eps).sqrt()
        return centred / scale * layer.weight + layer.bias

    local, query = dual.layers[0].local, dual.layers[0].query
    zq = fusion.run(images, fusion.refinement({**images}))[0]
    m = dual.w_in(fusion.local_tokens(images))
    m1 = norm(local.cross.norm, m + attention(local.cross.change, m, zq))
    m2 = norm(local.ffn.norm, m1 + local.ffn.change(m1))
    z1 = norm(query.cross.norm, zq + attention(query.cross.change, zq, m2))
    z2 = norm(query.ffn.norm, z1 + query.ffn.change(z1))
    found = fusion.read(images)
    torch.testing.assert_close(found.queries, z2, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.trace[LOCAL_STATES], dual.w_out(m2), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("position", ["top", "interleaved"])
def test_xformer_check_07_permutation(position: str) -> None:
    fusion, images = xformer(reconstruct=True, fusion_position=position), bundle(hidden=4)
    order = torch.tensor([2, 0, 3, 1])
    before, after = (
        fusion.read(given) for given in (images, local_changed(images, lambda x: x[:, order]))
    )
    assert largest(before.queries, after.queries) < 1e-5
    class_and_patches = torch.cat([torch.zeros(1, dtype=torch.long), 1 + order])
    expected = before.trace[LOCAL_STATES][:, class_and_patches]
    assert largest(after.trace[LOCAL_STATES], expected) < 1e-5


@torch.no_grad()
def test_xformer_check_11_negatives_take_their_images_local_features() -> None:
    fusion, images, words = xformer(), bundle(4), text(4)
    torch.manual_seed(5)
    found = fusion.intermediates(images, words, MATCH)["match_logits"]
    torch.manual_seed(5)
    swapped = {**images, "mae": choose(images["mae"], [1, 0, 2, 3])}
    other = fusion.intermediates(swapped, words, MATCH)["match_logits"]
    assert largest(found[:4], other[:4]) > 1e-5  # M of another image counts
    pairs = {
        (image, row): fusion.match(
            {name: choose(features, [image]) for name, features in images.items()},
            type(words)(words.ids[row : row + 1], words.mask[row : row + 1]),
        )[0]
        for image in range(4)
        for row in range(4)
    }
    for row in range(4):  # own text, another image with all of its features
        candidates = [pairs[image, row] for image in range(4) if image != row]
        assert min(largest(found[4 + row], logits) for logits in candidates) < 1e-5
    for image in range(4):  # own image, another text
        candidates = [pairs[image, row] for row in range(4) if row != image]
        assert min(largest(found[8 + image], logits) for logits in candidates) < 1e-5


def choose(features: GridFeatures, rows: list[int]) -> GridFeatures:
    masking = features.masking
    if masking is not None:
        masking = Masking(masking.hidden[rows], masking.restore[rows])
    return GridFeatures(
        tuple(x[rows] for x in features.levels),
        features.level_indices,
        features.grid,
        tuple(x[rows] for x in features.prefix),
        masking,
    )


SWITCHES: list[dict[str, Any]] = [
    {},
    {"fusion_position": "interleaved"},
    {"num_dual_layers": 2},
    {"dual_self_attention": True},
    {"dual_ffn": "none"},
    {"dual_ffn": "first"},
    {"dual_ffn": "second"},
    {"dual_norm": "pre"},
    {"mae_width_adapter": "native"},
    {"mae_width_adapter": "narrow"},
    {"itg_route": "fused"},
    {"join": "concat"},
    {"fusion_position": "interleaved", "dual_ffn": "none", "mae_width_adapter": "narrow"},
    {"rec_pass": "both"},
]


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_xformer_check_17_every_switch_runs_and_every_parameter_learns(
    options: dict[str, Any],
) -> None:
    reconstructs = options.get("join") != "concat"
    fusion = xformer(reconstruct=reconstructs, **options)
    images, words = bundle(hidden=4), text()
    found = fusion.intermediates(images, words, (*CONTRAST, *MATCH, *CAPTION))
    total = sum(
        found[name].square().sum() for name in (*CONTRAST[:2], "match_logits", "caption_logits")
    )
    if reconstructs:
        copies = 2 if options.get("rec_pass") == "both" else 1
        assert found[LOCAL_STATES].shape == (3 * copies, 1 + PATCHES - 4, LOCAL_WIDTH)
        total = total + found[LOCAL_STATES].square().sum()
    total.backward()
    without = [name for name, p in fusion.named_parameters() if p.grad is None]
    assert without == ["projector.0.weight", "projector.0.bias"]


@torch.no_grad()
@pytest.mark.parametrize("options", SWITCHES[1:], ids=str)
def test_xformer_check_17_a_switch_changes_only_what_it_names(options: dict[str, Any]) -> None:
    default, other = xformer(), xformer(**options)
    own = {"dual", "writer", "adapter"}
    kept = {
        name: shape
        for fusion in (default, other)
        for name, shape in {n: p.shape for n, p in fusion.named_parameters()}.items()
        if name.split(".")[0] not in own
    }
    for fusion in (default, other):
        found = {n: p.shape for n, p in fusion.named_parameters() if n.split(".")[0] not in own}
        assert found == kept


def shallow_and_deep(images: FeatureBundle) -> dict[str, GridFeatures]:
    """The default's image features, with a shallower level of the same encoder below them."""
    deep, low = images["clip"], bundle(seed=4, local=False)["clip"]
    assert isinstance(deep, GridFeatures)
    return {
        "clip": GridFeatures(
            (low.levels[0], deep.levels[0]), (1, 2), deep.grid, (low.prefix[0], deep.prefix[0])
        )
    }


ABLATIONS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "no reconstruction": ({"reconstruct": False}, {"zq", "text", "words", "refined"}),
    "reconstruction in both passes": ({"rec_pass": "both"}, {"zq", "text", "words", "refined"}),
    "levels of CLIP for MAE": (
        {"reconstruct": False, "local_encoder": "clip"},
        {"zq", "text", "words"},
    ),
    "concatenation": ({"reconstruct": False, "join": "concat"}, {"text"}),
    "early": ({"fusion_position": "interleaved"}, {"zq", "text"}),
}
"""Switch -> what stays bit for bit what it is by default, with the same weights: the Q-Former's own
pass (without M), text vectors, caption words, refined queries Z'."""


def ablated(default: XFormerFusion, options: dict[str, Any]) -> XFormerFusion:
    """The other model with the default's weights wherever both have them."""
    cls, parsed = parse_fusion({"name": "xformer", **SMALL, "reconstruct": True, **options})
    shapes = {"clip": GridShape(12, (2, 4), (1, 2), 1)} if "local_encoder" in options else SHAPES
    make: Any = cls
    torch.manual_seed(0)
    fusion: XFormerFusion = make(parsed, shapes, 6).eval()
    unsettle(fusion)
    own = fusion.state_dict()
    shared = {k: v for k, v in default.state_dict().items() if k in own and own[k].shape == v.shape}
    fusion.load_state_dict({**own, **shared})
    return fusion


@torch.no_grad()
def observed(fusion: XFormerFusion, images: FeatureBundle, words: Any) -> dict[str, Tensor]:
    plain = Refinement() if fusion.options.fusion_position == "interleaved" else None
    return {
        "zq": fusion.run(images, plain or fusion.refinement(images))[0],
        "text": fusion.contrast_texts(words),
        "words": fusion.caption_words(images, words)[0],
        "refined": fusion.read(images).queries,
    }


@pytest.mark.parametrize("name", ABLATIONS)
def test_xformer_check_17_an_ablation_steps_and_differs_only_where_stated(name: str) -> None:
    options, equal = ABLATIONS[name]
    default, images, words = xformer(reconstruct=True), bundle(hidden=4), text()
    other = ablated(default, options)
    given = shallow_and_deep(images) if "local_encoder" in options else images
    before, found = observed(default, images, words), observed(other, given, words)
    assert {key for key in before if torch.equal(before[key], found[key])} == equal
    wanted = (*CONTRAST, *MATCH, *CAPTION)
    trace = other.intermediates(given, words, wanted)
    assert (LOCAL_STATES in trace) is other.options.reconstruct
    if name == "reconstruction in both passes":
        own = default.read(images).trace[LOCAL_STATES]
        assert len(trace[LOCAL_STATES]) == 2 * len(own)
        assert torch.equal(trace[LOCAL_STATES][: len(own)], own)
    state = {key: p.detach().clone() for key, p in other.named_parameters()}
    total = torch.stack([trace[key].square().sum() for key in trace if trace[key].requires_grad])
    optimizer = torch.optim.SGD(other.parameters(), lr=1e-3)
    total.sum().backward()
    optimizer.step()
    still = {key for key, p in other.named_parameters() if torch.equal(p, state[key])}
    # softmax does not see what all keys have in common
    assert {key for key in still if not key.endswith("key.bias")} == {
        "projector.0.weight",
        "projector.0.bias",
    }


@torch.no_grad()
def test_fused_route_lets_written_text_read_the_refined_queries() -> None:
    images, words = bundle(), text()
    moved = local_changed(images, lambda x: x + x.sin())
    for route, sees in (("blip2", False), ("fused", True)):
        fusion = xformer(itg_route=route)
        before = fusion.caption_states(images, words)
        assert (largest(fusion.caption_states(moved, words), before) > 1e-3) is sees
        later = fusion.caption_states(images, edited(words, 3))
        assert largest(later[:, :3], before[:, :3]) < 1e-6  # still causal


@torch.no_grad()
def test_a_shallow_level_of_the_image_encoder_can_stand_in_for_mae() -> None:
    shapes = {"clip": GridShape(12, (2, 4), (1, 2), 1)}
    cls, options = parse_fusion({"name": "xformer", **SMALL, "local_encoder": "clip"})
    cls.check(options, shapes)
    make: Any = cls
    fusion = make(options, shapes, 6).eval()
    unsettle(fusion)
    deep = bundle(local=False)["clip"]
    shallow = bundle(seed=4, local=False)["clip"]
    both = GridFeatures(
        (shallow.levels[0], deep.levels[0]), (1, 2), (2, 4), (shallow.prefix[0], deep.prefix[0])
    )
    assert torch.equal(fusion.local_tokens({"clip": both})[:, 1:], shallow.levels[0])
    expected = fusion.ln_vision(torch.cat([deep.prefix[0], deep.levels[0]], dim=1))
    assert torch.equal(fusion.image_tokens({"clip": both}), expected)
    assert fusion({"clip": both}).tokens.shape == (3, 5, 6)


def test_impossible_choices_are_named() -> None:
    with pytest.raises(PartError, match="takes two encoders"):
        cls, options = parse_fusion({"name": "xformer"})
        cls.check(options, {"clip": SHAPES["clip"]})
    with pytest.raises(PartError, match="reconstruct needs M'"):
        xformer(join="concat", reconstruct=True)
    with pytest.raises(PartError, match="keep_prefix: true"):
        cls, options = parse_fusion({"name": "xformer", "reconstruct": True})
        cls.check(options, {"clip": SHAPES["clip"], "mae": GridShape(20, (2, 4), (2,))})
    with pytest.raises(RecipeError, match="did you mean 'interleaved'"):
        xformer(fusion_position="interleave")
    with pytest.raises(PartError, match="'beit' is no encoder of clip, mae"):
        xformer(local_encoder="beit")

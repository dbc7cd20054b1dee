"""X-Former's and BLIP-2's parameter counts and shapes at real size (x-former.md §10.1, §10.15)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration
from manyeyes.encoders import ENCODERS, GridShape, parse_encoder
from manyeyes.fusion import parse_fusion
from manyeyes.losses import OBJECTIVES
from manyeyes.recipes import load_recipe, stage_model
from manyeyes.study.costs.recipe import inspect_recipe

PROJECTION = {"2.7b": 768 * 2560 + 2560, "6.7b": 768 * 4096 + 4096}


@pytest.fixture(scope="module")
def checked() -> dict[str, Any]:
    """What ``manyeyes check xformer/paper --json`` says of parameters."""
    return inspect_recipe(load_recipe("xformer/paper"), memory=False).to_json()


def test_xformer_check_15_counts(checked: dict[str, Any]) -> None:
    encoders = checked["parts"]["encoders"]["modules_by_stage"]["represent"]
    assert encoders == {
        "eva.backbone": 985_952_256,
        "mae.backbone": 630_764_800,
        "mae.decoder": 26_309_708,
    }
    first = checked["parts"]["fusion"]["modules_by_stage"]["represent"]
    second = checked["parts"]["fusion"]["modules_by_stage"]["align"]

    def under(modules: dict[str, int], name: str) -> int:
        return sum(size for key, size in modules.items() if key.split(".")[0] == name)

    assert under(second, "qformer") == 105_137_664
    assert under(first, "qformer") == 161_825_280
    assert under(first, "dual") == 16_143_872
    assert (first["dual.w_in"], first["dual.w_out"]) == (983_808, 984_320)
    assert under(first, "text") == 23_834_880
    head = first["heads.lm_dense"] + first["heads.lm_norm"] + first["heads.lm_bias"]
    assert head == 622_651
    assert under(first, "heads") - head == 395_267
    learns = checked["trainable_by_stage"]
    blip2 = 105_137_664 + 24_576 + PROJECTION["6.7b"]
    assert blip2 == 108_312_064
    assert learns["align"] == blip2 + 2_816 + 16_143_872 - 984_320  # no W_out
    first_stage = 161_825_280 + 23_834_880 + 622_651 + 24_576 + 395_267
    assert learns["represent"] == first_stage + 2_816 + 16_143_872


def test_xformer_check_15_the_smaller_language_model() -> None:
    cls, options = parse_fusion({"name": "qformer", "ln_vision": False})
    make: Any = cls
    with torch.device("meta"):
        fusion = make(options, {"eva": GridShape(1408, (16, 16), (39,), 1)}, 2560)
    assert sum(p.numel() for p in fusion.parameters()) == 107_130_880


@pytest.mark.parametrize(
    ("options", "extra"),
    [
        ({"reconstruct": True}, 16_143_872),
        ({"reconstruct": True, "dual_self_attention": True}, 20_871_680),
        ({"mae_width_adapter": "native", "dual_ffn": "first"}, 21_517_056),
        ({"mae_width_adapter": "narrow", "dual_ffn": "none"}, 6_302_208),
        (
            {
                "mae_width_adapter": "narrow",
                "dual_ffn": "none",
                "fusion_position": "interleaved",
            },
            75_626_496,
        ),
        ({"join": "concat"}, 1_803_648),
    ],
    ids=["default", "self-attention", "native", "narrow", "early", "concat"],
)
def test_xformer_check_15_variants(options: dict[str, Any], extra: int) -> None:
    shapes = {
        "eva": GridShape(1408, (16, 16), (39,), 1),
        "mae": GridShape(1280, (16, 16), (32,), 1),
    }
    sizes = []
    for values in (options, {"mae_enabled": False}):
        cls, parsed = parse_fusion({"name": "xformer", **values})
        make: Any = cls
        with torch.device("meta"):
            sizes.append(sum(p.numel() for p in make(parsed, shapes, 4096).parameters()))
    assert sizes[0] - sizes[1] == extra


def test_xformer_check_15_a_large_mae() -> None:
    recipe = load_recipe("xformer/small")
    block = stage_model(recipe, recipe.stages[0])
    spec = parse_encoder(block["encoders"][1])
    with torch.device("meta"):
        encoder: Any = ENCODERS["mae"](spec, ENCODERS["mae"].read_config(spec))
    parts = encoder.pretrained_parts()
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    assert sizes == {"backbone": 303_301_632, "decoder": 26_240_256}


def shallow() -> ManyEyesForConditionalGeneration:
    """The first stage of xformer/paper with one block per encoder and two layers of Q-Former."""
    recipe = load_recipe("xformer/paper")
    block = stage_model(recipe, recipe.stages[0])
    eva, mae = block["encoders"]
    eva["backbone"]["num_hidden_layers"] = 1
    mae["backbone"] |= {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1}
    for encoder in (eva, mae):
        encoder.pop("checkpoint")
    block["fusion"]["layers"] = 2
    block["language"].pop("checkpoint")
    block["language"]["config"]["hidden_size"] = 2560
    model = ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**block))
    model.encoders.requires_grad_(False)
    return model


@pytest.mark.slow
def test_xformer_check_01_shapes_and_one_step_at_real_size() -> None:
    model = shallow()
    model.train()
    pixels = {f"pixel_values_{name}": torch.randn(2, 3, 224, 224) for name in ("eva", "mae")}
    ids = torch.randint(1000, 30_000, (2, 12))
    captions = {"caption_ids": ids, "caption_mask": torch.ones_like(ids)}
    bundle = model.encode(**pixels)
    assert model.fusion.local_tokens(bundle).shape == (2, 129, 1280)
    assert bundle["mae"].masking.hidden.sum(dim=1).tolist() == [128.0, 128.0]
    states = model.fusion.read(bundle)
    assert states.queries.shape == (2, 32, 768)
    assert states.trace["local_states"].shape == (2, 129, 1280)
    assert model.fusion.contrast_images(states).shape == (2, 32, 256)
    assert model.fusion(bundle).tokens.shape == (2, 32, 2560)
    names = ("itc", "itm", "itg", "reconstruction")
    wanted = [need for name in names for need in OBJECTIVES[name].needs]
    learning = [p for n, p in model.named_parameters() if p.requires_grad and "projector" not in n]
    optimizer = torch.optim.SGD(learning, 1e-3)
    totals = []
    for _ in range(2):
        torch.manual_seed(0)
        trace = model.eval()(**pixels, **captions, wanted=wanted[:-3]).trace
        assert trace["match_logits"].shape == (6, 2)
        torch.manual_seed(0)
        trace = model.train()(**pixels, **captions, wanted=wanted).trace
        assert trace["predicted_patches"].shape == (2, 256, 588)
        loss = torch.stack([OBJECTIVES[name](trace) for name in names]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert all(p.grad is not None for p in learning)
    assert totals[1] < totals[0]
    assert all(p.grad is None for p in model.encoders.parameters())

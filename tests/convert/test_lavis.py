"""LAVIS files: an EVA tower and a Q-Former under LAVIS's names, as our parts read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import image_text_parts
import tiny
from cli_runs import invoke, the_object
from image_text import unsettle
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration
from manyeyes.convert.lavis import convert
from manyeyes.encoders import ENCODERS, parse_encoder
from manyeyes.errors import CheckpointError
from manyeyes.recipes import WeightSource
from manyeyes.training.saving.weights import take_weights

WIDTH, HEADS, BLOCKS = 16, 2, 3


def eva(**changes: Tensor) -> dict[str, Tensor]:
    """A random tower under the names of LAVIS's ``eva_vit.py``; keys have no bias."""
    torch.manual_seed(3)
    grid = tiny.IMAGE_SIZE // tiny.PATCH_SIZE
    state = {
        "cls_token": torch.randn(1, 1, WIDTH),
        "pos_embed": torch.randn(1, grid**2 + 1, WIDTH),
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, tiny.PATCH_SIZE, tiny.PATCH_SIZE),
        "patch_embed.proj.bias": torch.randn(WIDTH),
    }
    for number in range(BLOCKS):
        block = {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.q_bias": (WIDTH,),
            "attn.v_bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (32, WIDTH),
            "mlp.fc1.bias": (32,),
            "mlp.fc2.weight": (WIDTH, 32),
            "mlp.fc2.bias": (WIDTH,),
        }
        state |= {f"blocks.{number}.{n}": 0.3 * torch.randn(shape) for n, shape in block.items()}
    return state | changes


def look(state: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """The tower as it is described: pre-norm blocks, exact GELU, no last norm."""
    x = functional.conv2d(
        pixels,
        state["patch_embed.proj.weight"],
        state["patch_embed.proj.bias"],
        stride=tiny.PATCH_SIZE,
    )
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], dim=1) + state["pos_embed"]
    for number in range(BLOCKS):
        own = {n.split(".", 2)[2]: v for n, v in state.items() if n.startswith(f"blocks.{number}.")}

        def norm(x: Tensor, name: str, own: dict[str, Tensor] = own) -> Tensor:
            return functional.layer_norm(
                x, (WIDTH,), own[f"{name}.weight"], own[f"{name}.bias"], 1e-6
            )

        bias = torch.cat([own["attn.q_bias"], torch.zeros(WIDTH), own["attn.v_bias"]])
        qkv = functional.linear(norm(x, "norm1"), own["attn.qkv.weight"], bias)
        q, k, v = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (WIDTH / HEADS) ** 0.5).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        x = x + functional.linear(mixed, own["attn.proj.weight"], own["attn.proj.bias"])
        inner = functional.gelu(
            functional.linear(norm(x, "norm2"), own["mlp.fc1.weight"], own["mlp.fc1.bias"])
        )
        x = x + functional.linear(inner, own["mlp.fc2.weight"], own["mlp.fc2.bias"])
    return x


def test_the_tower_sees_as_lavis_does(tmp_path: Path) -> None:
    state = eva()
    dropped = {"norm.weight": torch.ones(WIDTH), "head.weight": torch.ones(2, WIDTH)}
    torch.save(state | dropped, tmp_path / "eva_vit_g.pth")
    report = the_object(
        invoke(
            *("convert", "lavis", tmp_path / "eva_vit_g.pth", "--out", tmp_path / "eva"),
            *("--heads", HEADS, "--json"),
        )
    )
    assert (report["fusion"], sorted(report["left_out"])) == (0, sorted(dropped))
    spec = parse_encoder(
        {"name": "eva", "family": "eva_clip", "checkpoint": report["vision"], "levels": [BLOCKS]}
    )
    family = ENCODERS["eva_clip"]
    encoder = family(spec, family.read_config(spec))
    encoder.backbone = family.model_class.from_pretrained(report["vision"])
    pixels = torch.randn(2, 3, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE)
    with torch.no_grad():
        (level,) = encoder.eval()(pixels).levels
    torch.testing.assert_close(level, look(state, pixels)[:, 1:])


def test_the_fortieth_block_is_left_out(tmp_path: Path) -> None:
    last = {"blocks.39.norm1.weight": torch.ones(WIDTH)}
    torch.save(eva(**last), tmp_path / "eva.pth")
    found = convert(tmp_path / "eva.pth", heads=HEADS)
    assert found.left_out == tuple(last)
    assert found.vision is not None and found.vision.config.num_hidden_layers == BLOCKS


LAVIS = (
    ("text.", "Qformer.bert.embeddings."),
    ("qformer.layernorm.", "Qformer.bert.embeddings.LayerNorm."),
    ("qformer.encoder.", "Qformer.bert.encoder."),
    ("projector.0.", "t5_proj."),
    ("heads.lm_bias", "Qformer.cls.predictions.bias"),
    ("heads.lm_dense.", "Qformer.cls.predictions.transform.dense."),
    ("heads.lm_norm.", "Qformer.cls.predictions.transform.LayerNorm."),
    ("heads.vision_projection.", "vision_proj."),
    ("heads.text_projection.", "text_proj."),
    ("heads.temperature", "temp"),
    ("heads.itm_head.", "itm_head."),
    ("query_tokens", "query_tokens"),
    ("ln_vision.", "ln_vision."),
)
"""Where the parts of a Q-Former lie in a file of LAVIS, beginning by beginning."""


def lavis_name(name: str) -> str:
    plain = name.removeprefix("fusion.")
    ((ours, theirs),) = (pair for pair in LAVIS if plain.startswith(pair[0]))
    return theirs + plain.removeprefix(ours).replace("attention.attention.", "attention.self.")


def qformer(parts: Path, seed: int) -> ManyEyesForConditionalGeneration:
    torch.manual_seed(seed)
    block = image_text_parts.clip_block(parts, text="caption", text_length=24)
    return ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**block))


def test_a_stage_starts_from_the_q_former_of_a_file(parts: Path, tmp_path: Path) -> None:
    source, fresh = qformer(parts, 1), qformer(parts, 2)
    unsettle(source.fusion)
    ours = {n: x for n, x in source.state_dict().items() if n.startswith("fusion.")}
    state = {lavis_name(name): tensor for name, tensor in ours.items()}
    frozen = {f"visual_encoder.{name}": tensor for name, tensor in eva().items()}
    content = {**state, **frozen, "t5_model.shared.weight": torch.ones(3, 2)}
    torch.save({"model": content, "iters": 5}, tmp_path / "blip2.pth")
    out = tmp_path / "out"
    done = invoke("convert", "lavis", tmp_path / "blip2.pth", "--out", out, "--heads", HEADS)
    assert done.exit_code == 0, done.stderr
    assert f"{len(ours)} tensors of a Q-Former" in done.stdout
    assert f"EVA, {BLOCKS} blocks of width {WIDTH}" in done.stdout
    assert "1 tensors left out, as t5_model.shared.weight" in done.stdout
    different = sum(not torch.equal(fresh.state_dict()[name], x) for name, x in ours.items())
    assert different > len(ours) / 2
    assert set(take_weights(fresh, out, WeightSource(checkpoint=str(out)))) == set(ours)
    for name, tensor in ours.items():
        assert torch.equal(fresh.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"odd": torch.ones(2)}}, "neither a Q-Former nor an EVA"),
        ({"model": 3}, "'model' holds a int"),
        ({"blocks.0.norm1.weight": torch.ones(WIDTH)}, "vision encoder is incomplete"),
        (eva(pos_embed=torch.ones(1, 7, WIDTH)), "vision encoder is incomplete"),
    ],
)
def test_other_files_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    done = invoke("convert", "lavis", tmp_path / "other.pth", "--out", tmp_path / "out")
    assert done.exit_code == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="no such file"):
        convert(tmp_path / "missing.pth")

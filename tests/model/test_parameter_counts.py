"""Parameter counts at real size, on the meta device: COMM (§1.7), MR-MLLM (§1.3, §6)."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig

from manyeyes.bridge import Given
from manyeyes.bridge.adapter_prompts import AdapterPromptsBridge, AdapterPromptsOptions
from manyeyes.encoders import ENCODERS, GridShape, ObjectShape, Shape, parse_encoder
from manyeyes.fusion import parse_fusion
from manyeyes.recipes import load_recipe
from manyeyes.records import GridFeatures, ObjectFeatures
from manyeyes.study.costs.recipe import inspect_recipe

REAL = {
    "clip": GridShape(1024, (24, 24), tuple(range(1, 25))),
    "dinov2": GridShape(1024, (24, 24), tuple(range(19, 25))),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def fusion(width: int = 4096, **options: Any) -> Any:
    cls, parsed = parse_fusion({"name": "comm", **options})
    build: Any = cls
    with torch.device("meta"):
        return build(parsed, REAL, width)


def test_comm_check_14_modules() -> None:
    comm = fusion()
    assert count(comm.mergers["clip"].maps[0]) == 1_051_648
    assert count(comm.mergers["clip"]) == 25_239_576
    assert count(comm.mergers["dinov2"]) == 6_309_894
    assert count(comm.align["dinov2"]) == 8_393_728
    assert count(comm.projector) == 8_392_704
    assert count(fusion(5120).projector) == 10_490_880


@pytest.mark.parametrize(
    ("width", "options", "total"),
    [
        (4096, {}, 48_335_902),
        (5120, {}, 50_434_078),
        (4096, {"mlp_ratio": 8}, 56_728_606),
        (4096, {"mlp_blocks": 2}, 56_729_630),
    ],
)
def test_comm_check_14_all_new_modules(width: int, options: dict[str, Any], total: int) -> None:
    assert count(fusion(width, **options)) == total


@pytest.mark.parametrize(("kernel", "total"), [(3, 9_440_256), (1, 1_051_648)])
def test_convolution_with_batch_norm(kernel: int, total: int) -> None:
    comm = fusion(merge="conv_layerscale", conv_kernel=kernel)
    assert count(comm.mergers["clip"].maps[0]) == total


def test_comm_check_14_frozen_encoders() -> None:
    large: dict[str, Any] = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
    }
    clip = {**large, "intermediate_size": 4096, "image_size": 336, "projection_dim": 768}
    dino = {**large, "image_size": 518}
    totals = {}
    for family, backbone in (("clip", clip), ("dinov2", dino)):
        spec = parse_encoder({"name": family, "family": family, "backbone": backbone})
        with torch.device("meta"):
            totals[family] = count(ENCODERS[family](spec, ENCODERS[family].read_config(spec)))
    assert totals == {"clip": 303_507_456, "dinov2": 304_368_640}
    assert sum(totals.values()) == 607_876_096


@cache
def seen_at(side: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the paper's encoders give of two pictures, without numbers, and its shapes."""
    bundle, shapes, patches = {}, {}, (side // 14) ** 2
    for spec in load_recipe("comm/paper").model["encoders"]:
        parsed = parse_encoder({**spec, "image_size": side})
        family = ENCODERS[parsed.family]
        config = family.read_config(parsed)
        with torch.device("meta"):
            encoder: Any = family(parsed, config)
            pixels = torch.empty(2, 3, side, side)
        states = encoder.hidden_states(pixels)
        assert [tuple(state.shape) for state in states] == [(2, 1 + patches, 1024)] * 25
        bundle[parsed.name] = encoder.select(states, (side // 14, side // 14))
        shapes[parsed.name] = family.shape(parsed, config)
    return bundle, shapes


@torch.no_grad()
@pytest.mark.parametrize("hidden", [4096, 5120])
@pytest.mark.parametrize(
    ("side", "join", "positions", "joined"),
    [
        (336, "channel", 576, 2048),
        (336, "token", 1152, 1024),
        (336, "sum", 576, 1024),
        (224, "channel", 256, 2048),
    ],
)
def test_comm_check_01_widths_at_real_size(
    side: int, join: str, positions: int, joined: int, hidden: int
) -> None:
    bundle, shapes = seen_at(side)
    patches = (side // 14) ** 2
    assert {name: len(found.levels) for name, found in bundle.items()} == {"clip": 24, "dinov2": 6}
    assert {x.shape for f in bundle.values() for x in f.levels} == {(2, patches, 1024)}
    cls, parsed = parse_fusion({"name": "comm", "join": join})
    make: Any = cls
    with torch.device("meta"):
        comm = make(parsed, shapes, hidden)
    assert {x.shape for x in comm.branches(bundle).values()} == {(2, patches, 1024)}
    seen: list[tuple[int, ...]] = []
    comm.projector.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    assert comm(bundle).tokens.shape == (2, positions, hidden)
    assert seen == [(2, positions, joined)]
    assert comm.planned(comm.options, shapes).tokens == positions


def on_meta(name: str, shapes: dict[str, Shape], **options: Any) -> Any:
    cls, parsed = parse_fusion({"name": name, **options})
    build: Any = cls
    with torch.device("meta"):
        return build(parsed, cls.accept(shapes), 4096)


SCENE = GridShape(768, (16, 16), (24,), num_prefix=1)
QUERIES = 31 * 10 * 4096


def test_mr_mllm_check_18_modules_of_the_default_configuration() -> None:
    shared = on_meta("shared_queries", {"clip": SCENE, "detr": ObjectShape(256, 100)}, refine=True)
    sizes = {name: count(child) for name, child in shared.named_children()}
    assert sizes == {
        "queries": 7_680,
        "scene_proj": 592_128,
        "visual_blocks": 56_702_976,
        "mlp_v": 3_748_608,
        "object_proj": 198_912,
        "perception_blocks": 14_175_744,
        "fusion_blocks": 14_175_744,
        "mlp_p": 3_748_608,
        "refiner": 527_361,
    }
    assert count(shared) + QUERIES == 95_147_521
    bridge = AdapterPromptsBridge(
        AdapterPromptsOptions(), LlamaConfig(num_hidden_layers=32), Given(0, 10)
    )
    assert count(bridge.queries) == QUERIES and bridge.gates.shape == (31, 32)
    assert count(shared) + count(bridge) == 95_148_513


@torch.no_grad()
def test_mr_mllm_check_17_shapes_at_real_size() -> None:
    shared = on_meta("shared_queries", {"clip": SCENE, "detr": ObjectShape(256, 100)})
    meta = torch.device("meta")
    boxes, logits = torch.empty(2, 100, 4, device=meta), torch.empty(2, 100, 92, device=meta)
    bundle = {
        "clip": GridFeatures(
            (torch.empty(2, 256, 768, device=meta),),
            (24,),
            (16, 16),
            (torch.empty(2, 1, 768, device=meta),),
        ),
        "detr": ObjectFeatures(torch.empty(2, 100, 256, device=meta), boxes, logits, ()),
    }
    seen: dict[str, tuple[int, ...]] = {}
    for name, child in shared.named_children():
        child.register_forward_hook(
            lambda _, __, out, name=name: seen.__setitem__(name, tuple(out.shape))
        )
    assert shared(bundle).prompts.shape == (2, 1, 10, 4096)
    assert seen == {
        "scene_proj": (2, 257, 768),
        "visual_blocks": (2, 10, 768),
        "object_proj": (2, 100, 768),
        "perception_blocks": (2, 10, 768),
        "fusion_blocks": (2, 20, 768),
        "mlp_v": (2, 10, 4096),
        "mlp_p": (2, 10, 4096),
    }


def test_mr_mllm_check_18_and_19_by_the_recipe() -> None:
    found = inspect_recipe(load_recipe("mr-mllm/paper"), memory=False).to_json()
    parts = found["parts"]
    gates = parts["bridge"]["modules"]["gates"]
    assert gates == 992
    trained, refiner, norms_and_biases = found["trainable_by_stage"], 527_361, 266_240 + 1_097_728
    assert trained["pretrain"] == 95_148_513 - refiner
    assert trained["finetune"] == trained["pretrain"] + norms_and_biases
    assert trained["refine"] == trained["finetune"] + refiner
    assert trained["refine"] - norms_and_biases - gates == 95_147_521
    assert parts["encoders"]["modules"]["detector"] == 41_524_768
    assert parts["encoders"]["trainable_by_stage"] == {"pretrain": 0, "finetune": 0, "refine": 0}
    assert parts["language"]["total"] - 1_097_728 == 6_738_415_616


def test_mr_mllm_check_17_objects_of_the_real_detector() -> None:
    (spec,) = [s for s in load_recipe("mr-mllm/paper").model["encoders"] if s["name"] == "detector"]
    parsed = parse_encoder(spec)
    family = ENCODERS["detr"]
    config = family.read_config(parsed)
    shape = family.shape(parsed, config)
    assert shape == ObjectShape(256, 100, 92)
    with torch.device("meta"):
        detector: Any = family(parsed, config)
        states = torch.empty(2, 100, 256)
        logits, boxes = detector.class_head()(states), detector.box_head()(states)
    assert logits.shape == (2, 100, 92) and boxes.shape == (2, 100, 4)
    assert len(detector.labels) == 91 and detector.labels[1] == "person"


def test_mr_mllm_check_18_llama_adapter_v2_by_its_recipe() -> None:
    found = inspect_recipe(load_recipe("llama-adapter-v2/paper"), memory=False)
    assert found.trainable_by_stage == {"pretrain": 61_731_584, "finetune": 1_363_968}
    parts = found.parts
    assert parts["bridge"].modules == {"gates": 1_024, "queries": QUERIES}
    assert parts["fusion"].modules == {
        "queries": 7_680,
        "scene_proj": 592_128,
        "visual_blocks": 56_702_976,
        "mlp_v": 3_158_016,
    }
    biases, norms = 1_097_728, 266_240
    assert parts["language"].trainable_by_stage["finetune"] == biases + norms
    assert parts["language"].total - biases == 6_738_415_616
    assert parts["encoders"].total == 303_179_776 + 1024 * 768
    assert found.visual_tokens == 0
    fewer = load_recipe("llama-adapter-v2/paper", ["model.bridge.gates=adapted"])
    assert inspect_recipe(fewer, memory=False).trainable_by_stage["pretrain"] == 61_731_552

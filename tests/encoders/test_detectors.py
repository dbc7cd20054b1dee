"""Every detector family: the numbers of `transformers`, and the contract all of them keep."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import DetrConfig

import tiny
from detector_families import (
    CONFIGS,
    FAMILIES,
    FLOAT32_ONLY,
    QUERIES,
    SIDE,
    SOFTMAX,
    WITHOUT_BOXES,
    build,
)
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration
from manyeyes.checkpoints.tying import untie
from manyeyes.encoders import ENCODERS, DetectorEncoder, parse_encoder
from manyeyes.errors import PartError, RecipeError
from manyeyes.model.pictures.pixels import to_pixels
from manyeyes.records import ObjectFeatures
from manyeyes.serving.detection import load_detector


def pixels(images: int = 2) -> torch.Tensor:
    return torch.randn(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_every_detector_family_is_tested_here() -> None:
    assert set(CONFIGS) == {n for n, cls in ENCODERS.items() if issubclass(cls, DetectorEncoder)}


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_objects_are_those_of_transformers(family: str) -> None:
    encoder = build(family)
    found = encoder(pixels())
    plain = encoder.backbone(pixel_values=pixels())
    assert torch.equal(found.logits, plain.logits) and torch.equal(found.boxes, plain.pred_boxes)
    assert found.labels == ("cup", "red cross", "dog") and found.no_object == (family in SOFTMAX)
    shape = encoder.shape(encoder.spec, encoder.backbone.config)
    assert found.queries.shape == (2, shape.num_queries, shape.width) and shape.aligned
    assert found.logits.shape == (2, QUERIES, shape.num_classes)
    one = encoder(pixels()[:1])
    torch.testing.assert_close(one.boxes, found.boxes[:1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_mr_mllm_check_22_scores_lie_between_0_and_1_and_name_real_classes(family: str) -> None:
    encoder = build(family)
    found = encoder(pixels())
    assert found.scores.shape == (2, QUERIES, len(found.labels))
    assert bool(((found.scores >= 0) & (found.scores <= 1)).all())
    if family in SOFTMAX:
        assert bool((found.scores.sum(dim=-1) < 1).all())
    assert "N/A" not in found.labels and bool(((found.boxes >= 0) & (found.boxes <= 1)).all())


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_descriptor_is_what_the_last_heads_read(family: str) -> None:
    """From other descriptors the heads' change leads exactly to what the heads say of these."""
    encoder = build(family)
    found = encoder(pixels())
    head = encoder.class_head()(found.queries)
    if family != "d_fine":  # adds an estimate of quality
        torch.testing.assert_close(head, found.logits, rtol=1e-4, atol=1e-4)
    box_logits = encoder.box_head()(found.queries) if family not in WITHOUT_BOXES else None
    other = found.queries + 0.3 * torch.randn(found.queries.shape)
    judged = encoder.judge(found, other)
    change = encoder.class_head()(other) - head
    torch.testing.assert_close(judged.logits, found.logits + change)
    if box_logits is None:
        assert torch.equal(judged.boxes, found.boxes)
        return
    reference = torch.logit(found.boxes, eps=1e-5) - box_logits
    expected = torch.sigmoid(encoder.box_head()(other) + reference)
    torch.testing.assert_close(judged.boxes, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(judged.boxes, found.boxes)
    if family in ("detr", "yolos"):  # their reference is zero: the plain head
        plain = torch.sigmoid(encoder.box_head()(other))
        torch.testing.assert_close(judged.boxes, plain, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_mr_mllm_check_03_unchanged_descriptors_keep_everything(
    family: str, dtype: torch.dtype
) -> None:
    if dtype != torch.float32 and family in FLOAT32_ONLY:
        pytest.skip("transformers computes it in float32 only")
    encoder = build(family).to(dtype)
    found = encoder(pixels().to(dtype))
    judged = encoder.judge(found, found.queries.clone())
    assert torch.equal(judged.logits, found.logits) and torch.equal(judged.boxes, found.boxes)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_new_descriptors_also_where_nothing_has_changed(family: str) -> None:
    encoder = build(family).requires_grad_(False)
    found = encoder(pixels())
    assert not found.queries.requires_grad
    new = found.queries.clone().requires_grad_()
    judged = encoder.judge(found, new)
    (by_class,) = torch.autograd.grad(judged.logits.square().sum(), new, retain_graph=True)
    assert float(by_class.abs().sum()) > 0
    if family not in WITHOUT_BOXES:
        (by_box,) = torch.autograd.grad(judged.boxes[..., 2:].sum(), new)
        assert float(by_box.abs().sum()) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_detector_gets_gradients(family: str) -> None:
    found = build(family)(pixels())
    assert found.queries.requires_grad and found.logits.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_states_describe_places(family: str) -> None:
    if not ENCODERS[family].encoder_states:  # type: ignore[attr-defined]
        with pytest.raises(PartError, match="no single map of encoder states"):
            build(family, object_source="encoder")
        return
    encoder = build(family, object_source="encoder")
    found = encoder(pixels())
    plain = encoder.backbone(pixel_values=pixels(), output_hidden_states=True)
    assert torch.equal(found.queries, plain.encoder_last_hidden_state) and not found.aligned
    assert found.boxes.shape == (2, QUERIES, 4)
    with pytest.raises(PartError, match="a descriptor is a place in the image"):
        encoder.judge(found, found.queries)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_objects_come_back_bit_for_bit(family: str) -> None:
    encoder = build(family)
    found = encoder(pixels())
    packed = encoder.pack(found)
    assert packed.shape == (2, *encoder.packed_size())
    assert encoder.packed_dtype(torch.bfloat16) == torch.float32
    again = encoder.unpack(packed)
    for name in ("queries", "boxes", "logits"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert (again.labels, again.no_object) == (found.labels, found.no_object)


def test_places_are_not_stored() -> None:
    with pytest.raises(RecipeError, match="describes places"):
        build("detr", object_source="encoder").packed_size()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_configuration_survives_as_plain_fields(family: str) -> None:
    spec = parse_encoder(
        {"name": "x", "family": family, "backbone": CONFIGS[family].to_dict(), "image_size": SIDE}
    )
    cls = ENCODERS[family]
    config = cls.read_config(spec)
    own = CONFIGS[family]
    assert {type(config), cls.shape(spec, config)} == {type(own), cls.shape(spec, own)}
    with torch.device("meta"):
        assert sum(p.numel() for p in cls(spec, config).parameters()) == sum(
            p.numel() for p in build(family).parameters()
        )


def test_a_detector_sees_the_whole_image_squeezed() -> None:
    spec = parse_encoder({"name": "x", "family": "detr", "image_size": 32})
    rule = ENCODERS["detr"].transform(spec, CONFIGS["detr"])
    wide = Image.new("RGB", (60, 20), "black")
    wide.paste((255, 255, 255), (0, 0, 30, 20))
    for geometry in ("pad", "crop", "squash"):
        (made,) = to_pixels([wide], rule, geometry, (255, 0, 0))
        assert bool((made[:, :, :14] > 2).all()) and bool((made[:, :, 18:] < -1).all())
    assert ENCODERS["rt_detr"].transform(spec, CONFIGS["rt_detr"]).mean == (0.0, 0.0, 0.0)


def test_sizes_come_from_recipe_configuration_or_family() -> None:
    bare = parse_encoder({"name": "x", "family": "detr"})
    assert ENCODERS["detr"].image_size(bare, CONFIGS["detr"]) == 800
    assert ENCODERS["d_fine"].image_size(bare, CONFIGS["d_fine"]) == 640
    assert ENCODERS["yolos"].image_size(bare, CONFIGS["yolos"]) == SIDE
    asked = parse_encoder({"name": "x", "family": "detr", "image_size": 320})
    assert ENCODERS["detr"].image_size(asked, CONFIGS["detr"]) == 320


def test_other_labels_than_the_recipe_counts_on_are_refused() -> None:
    fields = {"name": "x", "family": "detr", "backbone": CONFIGS["detr"].to_dict()}
    fine = parse_encoder({**fields, "labels": ["cup", "red cross", "dog"]})
    ENCODERS["detr"].read_config(fine)
    wrong = parse_encoder({**fields, "labels": ["cup", "dog"]})
    with pytest.raises(PartError, match="counts on the labels cup, dog, but its configuration"):
        ENCODERS["detr"].read_config(wrong)


def test_a_backbone_of_timm_is_refused() -> None:
    spec = parse_encoder({"name": "x", "family": "detr"})
    with pytest.raises(PartError, match="needs timm, which is not used here"):
        ENCODERS["detr"](spec, DetrConfig(use_timm_backbone=True, backbone="resnet50"))


def test_an_unknown_source_is_named() -> None:
    with pytest.raises(RecipeError, match="object_source"):
        parse_encoder({"name": "x", "family": "detr", "object_source": "encodr"})


def test_features_without_an_object_are_allowed() -> None:
    none = torch.zeros(1, 0, 4)
    found = ObjectFeatures(torch.zeros(1, 0, 8), none, torch.zeros(1, 0, 4), ("a",) * 3, True)
    assert found.scores.shape == (1, 0, 3)


@pytest.mark.parametrize("family", ["dab_detr", "deformable_detr", "rt_detr_v2", "d_fine"])
def test_heads_of_every_layer_arrive_where_the_configuration_ties_them(
    family: str, parts: Path, tmp_path: Path
) -> None:
    """As in published files, whose heads differ from layer to layer."""
    cls = ENCODERS[family]
    torch.manual_seed(0)
    published: Any = cls.model_class(copy.deepcopy(CONFIGS[family]))
    ties = published.get_expanded_tied_weights_keys(all_submodels=True)
    untie(published, list(ties))
    for name in ties:
        torch.nn.init.normal_(published.get_parameter(name), std=0.1)
    published.save_pretrained(tmp_path / family)
    expected = published.state_dict()
    block = tiny.model_block(parts, encoders=("clip",))
    detector = {"name": "detector", "family": family, "checkpoint": str(tmp_path / family)}
    block["encoders"].append({**detector, "fused": False})
    model = ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**block))
    for self_contained in (False, True):
        held = model.encoders["detector"].backbone.state_dict()
        assert set(held) == set(expected)
        assert all(torch.equal(held[name], expected[name]) for name in expected)
        model.requires_grad_(False)
        model.save_pretrained(tmp_path / "m", self_contained=self_contained)
        model = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    found = load_detector(str(tmp_path / family), CONFIGS[family]).encoder.backbone
    assert all(torch.equal(x, expected[name]) for name, x in found.state_dict().items())

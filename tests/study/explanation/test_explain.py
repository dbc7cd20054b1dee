"""One answer explained: maps in their places, masking beside them, a page that loads nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import image_text_parts
import tiny
import tiny_detector
from lion_parts import build_lion, lion_block
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import ImageError, UsageError
from manyeyes.inference.perceived import PerceivedImages, named_tags
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.layers.attention.maps import AttentionSite
from manyeyes.records import GridFeatures, Masking, ObjectFeatures
from manyeyes.study.explanation.attention import AttentionMap, Watched, attention_maps, frame_of
from manyeyes.study.explanation.explain import CAUTION, Explanation, explain
from manyeyes.study.explanation.page import probability, render_explanation

Build = Callable[..., tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]]
QUESTION = "Is it <red> & round?"


def comm(build: Build, parts: Path, home: Path) -> ModelPredictor:
    return predictor(*build())


def mr_mllm(build: Build, parts: Path, home: Path) -> ModelPredictor:
    changes = tiny_detector.block(home, perception_depth=1)
    return predictor(*build(**changes, perception_text={"min_score": 0.0}))


def lion(build: Build, parts: Path, home: Path) -> ModelPredictor:
    block = lion_block(parts)
    block["bridge"]["tags"] = "soft"
    return predictor(*build_lion(block), tags=["red", "<b>"])


def xformer(build: Build, parts: Path, home: Path) -> ModelPredictor:
    image_text_parts.save_mae(home / "mae")
    config = ManyEyesConfig(**image_text_parts.clip_block(home, "xformer"))
    processor = ManyEyesProcessor.from_config(config)
    return predictor(ManyEyesForConditionalGeneration.from_parts(config), processor)


def predictor(model: Any, processor: Any, tags: list[str] | None = None) -> ModelPredictor:
    limits: Any = {"short": 4}
    told = named_tags(model, tags)
    return ModelPredictor(model, processor, max_new_tokens=limits, perceived=PerceivedImages(told))


MODELS = {"comm": comm, "lion": lion, "mr_mllm": mr_mllm, "xformer": xformer}
TITLES = {
    "comm": [],
    "lion": ["Q-Former, layer 1", "Aggregator, level 2", "Aggregator, level 1"],
    "mr_mllm": ["Scene, block 1", "Scene, block 2", "Objects, block 1"],
    "xformer": ["Q-Former, layer 1", "Dual attention, layer 1"],
}
CHANGED = {
    "comm": [
        f"{part} {how}"
        for how in ("zero", "mean", "blank")
        for part in ("clip", "dinov2", "clip + dinov2")
    ],
    "lion": ["clip zero", "clip mean", "clip blank", "tags empty"],
    "mr_mllm": [
        *("clip zero", "clip mean", "clip blank", "detector blank", "clip + detector blank"),
        "objects empty",
    ],
    "xformer": [
        f"{part} {how}"
        for how in ("zero", "mean", "blank")
        for part in ("clip", "mae", "clip + mae")
    ],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_parts(tmp_path_factory.mktemp("home"))


@pytest.fixture
def image(pictures: list[Image.Image], tmp_path: Path) -> Path:
    """20 x 12 pixels."""
    pictures[1].save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.mark.parametrize("name", MODELS)
def test_an_answer_is_explained(
    name: str, build: Build, parts: Path, home: Path, image: Path
) -> None:
    base = MODELS[name](build, parts, home)
    found = explain(base, image, f" {QUESTION}")
    assert [m.title for m in found.maps] == TITLES[name]
    assert all(0 < m.share <= 1 + 1e-5 for m in found.maps)
    assert [f"{a.part} {a.how}" for a in found.changed] == CHANGED[name]
    assert found.whole.log_p < 0 < found.whole.tokens
    assert all(a.tokens == found.whole.tokens for a in found.changed)
    assert any(a.log_p != found.whole.log_p for a in found.changed)

    page = render_explanation(found)
    assert (CAUTION in page) == bool(found.maps) == (name != "comm")
    assert "Is it &lt;red&gt; &amp; round?" in page
    assert re.findall(r'(?:href|src)="(?!data:image/png;base64,)', page) == []
    for title in TITLES[name]:
        assert f"<figcaption>{title} " in page
    assert page.count('class="heat"') == sum(m.grid is not None for m in found.maps)
    assert page.count('<th scope="row">') == len(found.changed)
    assert ("no attention over places" in page) == (name == "comm")
    assert ('id="levels"' in page) == bool(found.level_weights) == (name == "comm")
    assert ("What the detector found" in page) == bool(found.objects) == (name == "mr_mllm")
    assert ("&lt;b&gt;" in page) == (found.tags is not None) == (name == "lion")


def test_the_levels_and_objects_are_the_models_own(
    build: Build, parts: Path, home: Path, image: Path
) -> None:
    merged = explain(comm(build, parts, home), image, QUESTION).level_weights
    assert [*merged] == ["clip", "dinov2"]
    assert merged["clip"] == pytest.approx({1: 1 / 3, 2: 1 / 3, 3: 1 / 3})
    assert merged["dinov2"] == pytest.approx({3: 0.5, 4: 0.5})
    found = explain(mr_mllm(build, parts, home), image, QUESTION)
    (objects,) = found.objects.values()
    assert objects and all(o.label in tiny_detector.LABELS and o.box[2] <= 20 for o in objects)
    assert len(found.maps[-1].boxes) == tiny_detector.OBJECTS
    assert found.to_json()["maps"][-1]["encoder"] == "detector"


def test_the_answer_with_all_encoders_blank_is_that_to_a_plain_picture(
    build: Build, parts: Path, home: Path, tmp_path: Path
) -> None:
    striped = np.full((16, 16, 3), 100, dtype=np.uint8)
    striped[:, ::2] = 200
    Image.fromarray(striped).save(tmp_path / "striped.png")
    Image.new("RGB", (16, 16), (150, 150, 150)).save(tmp_path / "plain.png")
    base = comm(build, parts, home)
    found = explain(base, tmp_path / "striped.png", QUESTION)
    item = Item("x", str(tmp_path / "plain.png"), QUESTION, (), "x", candidates=(found.answer,))
    ((expected,),) = base.rank([item], with_images=True)
    log_p = {(a.part, a.how): a.log_p for a in found.changed}
    assert log_p["clip + dinov2", "blank"] == pytest.approx(expected.total, abs=1e-4)
    assert log_p["clip", "blank"] != pytest.approx(expected.total, abs=1e-4)


def seen(weights: torch.Tensor, **bundle: Any) -> Watched:
    return Watched(bundle, {"A": weights})


def site(*encoders: str, joint: int = 0) -> AttentionSite:
    return AttentionSite("A", torch.nn.Identity(), lambda: torch.zeros(()), encoders, joint)


def grid(rows: int, columns: int, prefix: int = 0) -> GridFeatures:
    patches = torch.zeros(1, rows * columns, 4)
    first = (torch.zeros(1, prefix, 4),) if prefix else ()
    return GridFeatures((patches,), (1,), (rows, columns), first)


def test_columns_are_the_encoders_in_order_without_queries_and_class_tokens() -> None:
    weights = torch.zeros(1, 2, 3, 2 + 1 + 4 + 2)
    weights[0, :, 0] = torch.tensor([0.1, 0.2, 0.3, 0.05, 0.05, 0.1, 0.1, 0.04, 0.06])
    weights[0, :, 1] = weights[0, :, 0]
    watched = seen(weights, clip=grid(2, 2, prefix=1), mae=grid(1, 2))
    first, second = attention_maps([site("clip", "mae", joint=2)], watched, (8, 8))
    assert (first.title, second.title) == ("A, clip", "A, mae")
    assert first.weights == pytest.approx((0.05, 0.05, 0.1, 0.1))
    assert second.weights == pytest.approx((0.04, 0.06))
    assert first.grid == (2, 2) and first.share == pytest.approx(0.3)


def test_hidden_patches_have_no_attention_and_the_others_are_in_their_places() -> None:
    """Patches 3 and 1 were seen, in this order: 3 stands first."""
    order = torch.tensor([3, 1, 0, 2])
    masking = Masking(torch.tensor([[1.0, 0.0, 1.0, 0.0]]), order.argsort()[None])
    features = replace(grid(1, 2), grid=(2, 2), masking=masking)
    (found,) = attention_maps(
        [site("mae")], seen(torch.tensor([[[[0.7, 0.3]]]]), mae=features), (8, 8)
    )
    assert found.weights == pytest.approx((0.0, 0.3, 0.0, 0.7))


def test_objects_are_drawn_as_boxes_unless_they_are_places() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 1.0], [0.25, 0.5, 0.5, 0.5]]])
    objects = ObjectFeatures(torch.zeros(1, 2, 4), boxes, torch.zeros(1, 2, 1), ("cup",))
    watched = seen(torch.tensor([[[[0.9, 0.1]]]]), detector=objects)
    (found,) = attention_maps([site("detector")], watched, (20, 10))
    assert found.boxes == ((5.0, 0.0, 15.0, 10.0), (0.0, 2.5, 10.0, 7.5))
    assert found.weights == pytest.approx((0.9, 0.1))
    watched = seen(torch.tensor([[[[0.9, 0.1]]]]), detector=replace(objects, aligned=False))
    assert attention_maps([site("detector")], watched, (20, 10)) == ()


@pytest.mark.parametrize(
    ("geometry", "frame"),
    [
        ("squash", (0.0, 0.0, 20.0, 12.0)),
        ("pad", (0.0, -4.0, 20.0, 16.0)),
        ("crop", (4.0, 0.0, 16.0, 12.0)),
    ],
)
def test_the_frame_is_what_encoders_see(geometry: str, frame: tuple[float, ...]) -> None:
    assert frame_of((20, 12), geometry) == pytest.approx(frame, abs=0.05)


def test_heat_lies_over_the_frame_and_is_strongest_where_most_was_read(
    build: Build, parts: Path, home: Path, image: Path
) -> None:
    found: Explanation = explain(comm(build, parts, home), image, QUESTION)
    shown = AttentionMap("A <i>", "clip", (0.0, 0.1, 0.4, 0.2), grid=(2, 2))
    page = render_explanation(replace(found, maps=(shown,)))
    assert "A &lt;i&gt;" in page and "70 % of the attention, at most 2.3 × an even" in page
    assert 'x="0.00" y="-4.00" width="20.00" height="20.00"' in page
    boxed = replace(shown, grid=None, boxes=((0.0, 0.0, 4.0, 4.0),), weights=(0.5,))
    page = render_explanation(replace(found, maps=(boxed,), boxes=((1.0, 2.0, 3.0, 4.0),)))
    assert 'fill-opacity="0.800"' in page and "[1, 2, 3, 4]" in page


@pytest.mark.parametrize(("question", "message"), [(" ", "empty"), ("a <image>?", "<image>")])
def test_questions_that_are_none(
    build: Build, parts: Path, home: Path, image: Path, question: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        explain(comm(build, parts, home), image, question)


def test_there_must_be_an_image(build: Build, parts: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        explain(comm(build, parts, home), tmp_path / "none.png", QUESTION)


def test_tags_must_come_from_somewhere_and_go_somewhere(build: Build, parts: Path) -> None:
    with pytest.raises(UsageError, match="this model reads no tags"):
        named_tags(build()[0], ["red"])
    block = lion_block(parts)
    block["bridge"]["tags"] = "soft"
    with pytest.raises(UsageError, match="has no tagger"):
        named_tags(build_lion(block)[0], None)


@pytest.mark.parametrize(
    ("log_p", "text"),
    [(0.0, "100.0 %"), (-1.0, "36.8 %"), (-9.0, "0.012 %"), (-30.0, "less than 0.0001 %")],
)
def test_probabilities_are_readable(log_p: float, text: str) -> None:
    assert probability(log_p) == text

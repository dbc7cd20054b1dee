"""MR-MLLM and LLaMA-Adapter V2 as whole models over tiny parts, with a tiny detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tiny
import tiny_detector
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import CheckpointError
from manyeyes.losses import OBJECTIVES
from manyeyes.model.intermediates import LANGUAGE
from manyeyes.recipes import load_recipe
from manyeyes.records import Sample, Turn
from manyeyes.training.trainable import assign
from manyeyes.training.trainable import freeze as freeze_by
from rectangles import COUNT, IMAGES, PLACE, picture, scene
from whole_model import Pictures, batch, freeze, gradients, prompts, size

pytestmark = pytest.mark.long

BASE = {"name": "llama_adapter_v2", "queries": 4, "width": 16, "heads": 4, "depth": 2}
FROZEN = ("encoders.", "language_model.")


def annotated(processor: Any, pictures: Pictures, *objects: int) -> dict[str, Tensor]:
    """A batch of detection samples with so many objects each."""
    rows = []
    for place, count in enumerate(objects):
        boxes = tuple((1.0 + i, 2.0, 7.0 + i, 11.0) for i in range(count))
        labels = tuple("red" if i % 2 else "blue" for i in range(count))
        turns = (Turn("user", "<image>\nobjects?"), Turn("assistant", "some"))
        meta = {"labels": labels, "boxes": boxes, "crowd": (False,) * count}
        rows.append(
            processor.encode(
                Sample(str(place), ("x",), turns, "detection", meta), [pictures[place]]
            )
        )
    collated: dict[str, Tensor] = processor.collate(rows)
    return collated


def detection(model: Any, rows: dict[str, Tensor]) -> Tensor:
    loss: Tensor = OBJECTIVES["detection"](model(**rows, wanted=["detection_loss"]).trace)
    return loss


def test_mr_mllm_check_09_at_zero_gates_only_the_gates_learn(
    mr_mllm: Any, pictures: Pictures
) -> None:
    model, processor = mr_mllm(fusion={"refine": True, "box_embed": True})
    freeze(model, *FROZEN)
    rows = batch(processor, pictures)
    model.train()
    found = gradients(model, model(**rows).loss)
    assert bool((found.pop("bridge.gates").abs() > 0).all())
    assert {name.partition(".")[0] for name in found} == {"fusion", "bridge"}
    assert size(found, "") == 0.0
    found = gradients(model, detection(model, annotated(processor, pictures, 2, 1)))
    assert float(found.pop("fusion.refiner.gate").abs()) > 0
    assert size(found, "") == 0.0


def test_mr_mllm_check_10_both_losses_teach_the_shared_queries(
    mr_mllm: Any, pictures: Pictures
) -> None:
    model, processor = mr_mllm(gate=0.1, fusion={"refine": True})
    with torch.no_grad():
        model.fusion.refiner.gate.fill_(0.1)
    freeze(model, *FROZEN)
    rows = annotated(processor, pictures, 2, 3)
    model.train()
    language = gradients(model, model(**rows).loss)
    objects = gradients(model, detection(model, rows))
    joint = model(**rows, wanted=[*LANGUAGE, "detection_loss"])
    both = gradients(model, joint.loss + joint.trace["detection_loss"])
    name = "fusion.queries.weight"
    assert size(language, name) > 0 and size(objects, name) > 0
    torch.testing.assert_close(both[name], language[name] + objects[name])
    learning = ("fusion.object_proj", "fusion.perception_blocks", "fusion.mlp_p", "bridge.queries")
    assert all(size(language, prefix) > 0 for prefix in learning)


def test_mr_mllm_check_11_frozen_parts_stay_and_are_not_saved(
    mr_mllm: Any, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = mr_mllm(gate=0.1)
    freeze(model, *FROZEN)
    detector = {
        f"encoders.detector.backbone.{n}" for n in model.encoders["detector"].backbone.state_dict()
    }
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model.train()
    model(**batch(processor, pictures)).loss.backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(FROZEN)
        assert (parameter.grad is None) == frozen, name
        assert torch.equal(parameter, before[name]) == frozen, name
    model.save_pretrained(tmp_path)
    stored = model.stored_names(model.state_dict())
    assert {name.partition(".")[0] for name in stored} == {"fusion", "bridge"}
    assert detector and not detector & set(load_file(tmp_path / "model.safetensors"))


@torch.no_grad()
def test_mr_mllm_check_20_without_objects_it_is_llama_adapter_v2(
    mr_mllm: Any, pictures: Pictures
) -> None:
    ours, processor = mr_mllm(gate=0.3, detector=False, fusion={"mlp": "linear"})
    base, _ = mr_mllm(gate=0.3, detector=False, fusion=BASE)
    base.load_state_dict(ours.state_dict())
    rows = batch(processor, pictures)
    assert torch.equal(ours(**rows).logits, base(**rows).logits)


@torch.no_grad()
def test_mr_mllm_check_20_silent_objects_leave_the_scene(mr_mllm: Any, pictures: Pictures) -> None:
    """With P_proj = 0 and F the identity, an object stream changes nothing."""
    ours, processor = mr_mllm(gate=0.3, fusion={"mlp": "linear"})
    base, _ = mr_mllm(gate=0.3, detector=False, fusion=BASE)
    own = ours.state_dict()
    base.load_state_dict({name: own[name] for name in base.state_dict()})
    for layer in (ours.fusion.mlp_p[-1], *ours.fusion.fusion_blocks.modules()):
        if isinstance(layer, nn.Linear | nn.LayerNorm):
            layer.weight.zero_()
            layer.bias.zero_()
    rows = batch(processor, pictures)
    torch.testing.assert_close(ours(**rows).logits, base(**rows).logits, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("entry", ["late", "early"])
def test_mr_mllm_check_21_a_text_only_sample_in_a_mixed_batch(
    mr_mllm: Any, pictures: Pictures, entry: str
) -> None:
    bridge = {"name": "adapter_prompts", "entry": entry}
    model, processor = mr_mllm(gate=0.4, bridge=bridge)
    texts = [processor.prompt([Turn("user", "hello there")]), *prompts(processor, "and this?")]
    inputs = processor.answer_inputs(texts, pictures[:1])
    assert inputs["image_counts"].tolist() == [0, 1]
    kept = inputs["attention_mask"].bool()
    mixed = model(**inputs).logits
    alone = model(**processor.answer_inputs(texts[:1])).logits
    torch.testing.assert_close(mixed[0][kept[0]], alone[0], rtol=1e-5, atol=1e-5)
    seen = model(**processor.answer_inputs(texts[1:], pictures[:1])).logits
    torch.testing.assert_close(mixed[1][kept[1]], seen[0], rtol=1e-5, atol=1e-5)
    other = model(**processor.answer_inputs(texts[1:], pictures[1:2])).logits
    assert float((seen - other).abs().max()) > 1e-4


def test_mr_mllm_check_26_the_adapter_file_round_trips(
    mr_mllm: Any, pictures: Pictures, tmp_path: Path, parts: Path
) -> None:
    model, processor = mr_mllm(gate=0.2)
    freeze(model, *FROZEN)
    model.train()
    model.eval().save_pretrained(tmp_path / "m")
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(t, again.state_dict()[n]) for n, t in model.state_dict().items())
    inputs = processor.answer_inputs(prompts(processor, "what?"), pictures[:1])
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, model(**inputs).logits)
    other = tiny.save_llama(tmp_path / "other", seed=9)
    config = ManyEyesConfig.from_pretrained(tmp_path / "m")
    config.references["language_model"]["checkpoint"] = str(other)
    config.language["checkpoint"] = str(other)
    with pytest.raises(CheckpointError, match="is not the checkpoint this model was trained with"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m", config=config)


def test_untrained_biases_survive_a_checkpoint_of_the_first_stage(
    mr_mllm: Any, tmp_path: Path, parts: Path
) -> None:
    language = {"checkpoint": str(parts / "llama"), "added_biases": ["q_proj"]}
    model, _ = mr_mllm(language=language)
    freeze(model, *FROZEN)
    model.save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path)
    layers = again.language_model.model.layers
    biases = [layer.self_attn.q_proj.bias for layer in layers]
    assert len(biases) == 2 and not any(bool(b.any()) for b in biases)


@torch.no_grad()
def test_mr_mllm_check_03_a_refiner_at_gate_zero_keeps_the_detector(
    mr_mllm: Any, pictures: Pictures
) -> None:
    model, processor = mr_mllm(fusion={"refine": True})
    visual = processor.pixels(pictures)
    plain = model.encoders["detector"].backbone(pixel_values=visual["pixel_values_detector"])
    found, refined = model.detect(**visual)
    for objects in (found, refined):
        assert torch.equal(objects.logits, plain.logits)
        assert torch.equal(objects.boxes, plain.pred_boxes)
    model.fusion.refiner.gate.fill_(0.5)
    _, refined = model.detect(**visual)
    assert float((refined.logits - plain.logits).abs().max()) > 1e-3
    assert float((refined.boxes - plain.pred_boxes).abs().max()) > 1e-4


@pytest.mark.slow
def test_mr_mllm_check_24_prompts_alone_tell_images_apart(parts: Path) -> None:
    """The world's language model, frozen but for norms and biases, reads eight images by prompts.

    Two questions are asked of each, so that neither image nor question alone gives the answer.
    """
    recipe = load_recipe("llama-adapter-v2/world").model
    _, found = tiny_detector.block(parts)["encoders"]
    fusion = {"name": "shared_queries", "width": 128, "heads": 4, "visual_depth": 2}
    block = {**recipe, "encoders": [*recipe["encoders"], found], "fusion": fusion}
    config = ManyEyesConfig(**block)
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config, dtype=torch.float32)
    scenes = [scene(number) for number in range(IMAGES)]
    images = [picture(objects) for objects, _ in scenes for _ in (COUNT, PLACE)]
    talks = [
        (Turn("user", f"<image>\n{question}"), Turn("assistant", answers[question]))
        for _, answers in scenes
        for question in (COUNT, PLACE)
    ]
    rows = processor.collate(
        [
            processor.encode(Sample("x", ("x",), turns), [image])
            for turns, image in zip(talks, images, strict=True)
        ]
    )
    learns = {
        "fusion": True,
        "bridge": True,
        "language.*norm.weight": True,
        "language.*.bias": True,
    }
    freeze_by(model, assign(model, learns))
    others = [p for n, p in model.named_parameters() if p.requires_grad and n != "bridge.gates"]
    gates = {"params": [model.bridge.gates], "lr": 2e-2}
    optimizer = torch.optim.AdamW([gates, {"params": others, "lr": 2e-3}])
    model.train()
    for _ in range(400):
        optimizer.zero_grad()
        loss = model(**rows).loss
        if float(loss.detach()) < 0.02:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        optimizer.step()
    assert float(loss.detach()) < 0.1
    turned = [*images[6:], *images[:6]]
    asked = [processor.prompt(turns[:1]) for turns in talks]
    inputs = processor.answer_inputs(asked, turned)
    written = model.eval().generate(**inputs, max_new_tokens=6, do_sample=False)
    new = written[:, inputs["input_ids"].shape[1] :]
    answers = [
        text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)
    ]
    assert answers == [turns[1].text for turns in (*talks[6:], *talks[:6])]

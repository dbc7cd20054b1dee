"""MR-MLLM and LLaMA-Adapter V2 as whole models over tiny parts, with a tiny detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TrainingArguments

import tiny
import tiny_detector
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import CheckpointError, PartError, PlaceholderError, RecipeError
from manyeyes.losses import OBJECTIVES
from manyeyes.model.intermediates import LANGUAGE
from manyeyes.recipes import load_recipe
from manyeyes.records import Sample, Turn, VisualEvidence
from manyeyes.training.attention import choose_attention
from manyeyes.training.trainable import assign
from manyeyes.training.trainable import freeze as freeze_by
from rectangles import COUNT, IMAGES, PLACE, picture, scene
from whole_model import Build, Built, Pictures, batch, freeze, prompts

pytestmark = pytest.mark.long

BASE = {"name": "llama_adapter_v2", "queries": 4, "width": 16, "heads": 4, "depth": 2}
FROZEN = ("encoders.", "language_model.")


@pytest.fixture
def make(build: Build, parts: Path) -> Any:
    """Build a model with prompts; ``gate`` sets every gate."""

    def made(*, gate: float = 0.0, detector: bool = True, **changes: Any) -> Built:
        fusion = changes.pop("fusion", {})
        block = tiny_detector.block(parts, detector=detector)
        block["fusion"] = fusion if "name" in fusion else {**block["fusion"], **fusion}
        model, processor = build(**{**block, **changes})
        with torch.no_grad():
            model.bridge.gates.fill_(gate)
        return model, processor

    return made


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


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def size(found: dict[str, Tensor], prefix: str) -> float:
    return sum(float(g.abs().sum()) for name, g in found.items() if name.startswith(prefix))


def test_mr_mllm_check_09_at_zero_gates_only_the_gates_learn(make: Any, pictures: Pictures) -> None:
    model, processor = make(fusion={"refine": True, "box_embed": True})
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
    make: Any, pictures: Pictures
) -> None:
    model, processor = make(gate=0.1, fusion={"refine": True})
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
    make: Any, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = make(gate=0.1)
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
    make: Any, pictures: Pictures
) -> None:
    ours, processor = make(gate=0.3, detector=False, fusion={"mlp": "linear"})
    base, _ = make(gate=0.3, detector=False, fusion=BASE)
    base.load_state_dict(ours.state_dict())
    rows = batch(processor, pictures)
    assert torch.equal(ours(**rows).logits, base(**rows).logits)


@torch.no_grad()
def test_mr_mllm_check_20_silent_objects_leave_the_scene(make: Any, pictures: Pictures) -> None:
    """With P_proj = 0 and F the identity, an object stream changes nothing."""
    ours, processor = make(gate=0.3, fusion={"mlp": "linear"})
    base, _ = make(gate=0.3, detector=False, fusion=BASE)
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
    make: Any, pictures: Pictures, entry: str
) -> None:
    bridge = {"name": "adapter_prompts", "entry": entry}
    model, processor = make(gate=0.4, bridge=bridge)
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
    make: Any, pictures: Pictures, tmp_path: Path, parts: Path
) -> None:
    model, processor = make(gate=0.2)
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


def test_images_leave_no_token_in_the_text(make: Any, pictures: Pictures) -> None:
    model, processor = make()
    assert model.config.visual_tokens == 0
    asked = Sample("a", ("x",), (Turn("user", "<image>\nwhat?"), Turn("assistant", "a cup")))
    plain = Sample("b", (), (Turn("user", "what?"), Turn("assistant", "a cup")))
    row, bare = processor.encode(asked, pictures[:1]), processor.encode(plain, [])
    assert torch.equal(row["input_ids"], bare["input_ids"])
    assert torch.equal(row["labels"], bare["labels"])
    assert processor.tokenizer.decode(row["labels"][row["labels"] >= 0]) == " a cup</s>"
    assert row["image_counts"].tolist() == [1] and bare["image_counts"].tolist() == [0]
    late = Sample("c", ("x",), (Turn("user", "1"), Turn("assistant", "2"), *asked.turns))
    labels = processor.encode(late, pictures[:1])["labels"]
    assert processor.tokenizer.decode(labels[labels >= 0]) == " 2</s> a cup</s>"


def test_images_and_placeholders_that_disagree_are_named(make: Any, pictures: Pictures) -> None:
    model, processor = make()
    with pytest.raises(PlaceholderError, match=r"1 <image> placeholders in the text, but 2 image"):
        processor.encode(
            Sample("a", ("x", "y"), (Turn("user", "<image>?"), Turn("assistant", "b"))),
            pictures[:2],
        )
    texts = prompts(processor, "a", "b")
    with pytest.raises(PlaceholderError, match="2 <image> placeholders in the text, but 1 image"):
        processor.answer_inputs(texts, pictures[:1])
    inputs = processor.answer_inputs(texts, pictures[:2])
    with pytest.raises(PlaceholderError, match="2 samples refer to 1 images, but evidence of 2"):
        model(**{**inputs, "image_counts": torch.tensor([1, 0])})
    texts_only = {k: v for k, v in inputs.items() if not k.startswith("pixel")}
    with pytest.raises(PlaceholderError, match="the text holds images, but no image was given"):
        model(**texts_only)


@torch.no_grad()
def test_questions_share_an_image_and_several_images_count_with_their_mean(
    make: Any, pictures: Pictures
) -> None:
    model, processor = make(gate=0.5)
    evidence = model.encode_images(**processor.pixels(pictures[:2]))
    asked = prompts(processor, "one?", "another?", "third one?")
    inputs = processor.answer_inputs(asked, images_encoded=True)
    keep = {"max_new_tokens": 5, "do_sample": False}
    index = torch.tensor([1, 0, 1])
    together = model.generate(**inputs, evidence=evidence, image_index=index, **keep)
    for place, image in enumerate(index.tolist()):
        single = processor.answer_inputs([asked[place]], pictures[image : image + 1])
        alone = model.generate(**single, **keep)
        assert torch.equal(together[place, -5:], alone[0, -5:])
    two = processor.answer_inputs([asked[0].replace("<image>", "<image><image>")], pictures[:2])
    assert two["image_counts"].tolist() == [2]
    assert evidence.prompts is not None
    mean = VisualEvidence(prompts=evidence.prompts.mean(dim=0, keepdim=True))
    text = {k: two[k] for k in ("input_ids", "attention_mask")}
    torch.testing.assert_close(model(**two).logits, model(**text, evidence=mean).logits)


@torch.no_grad()
def test_beams_and_sampling_of_the_whole_model_read_their_own_image(
    make: Any, pictures: Pictures
) -> None:
    model, processor = make(gate=1.0)
    asked = prompts(processor, "one?", "a longer question?")
    inputs = processor.answer_inputs(asked, pictures[:2])
    keep = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}
    beams = model.generate(**inputs, num_beams=3, num_return_sequences=2, **keep)
    uncached = model.generate(
        **inputs, num_beams=3, num_return_sequences=2, use_cache=False, **keep
    )
    assert torch.equal(beams, uncached) and len(beams) == 4
    for place in range(2):
        single = processor.answer_inputs(asked[place : place + 1], pictures[place : place + 1])
        alone = model.generate(**single, num_beams=3, num_return_sequences=2, **keep)
        assert torch.equal(beams[2 * place : 2 * place + 2, -6:], alone[:, -6:])


def test_a_text_only_batch_gives_defined_gradients(make: Any) -> None:
    model, processor = make(gate=0.1)
    freeze(model, *FROZEN)
    row = processor.encode(Sample("t", (), (Turn("user", "hi"), Turn("assistant", "yo"))), [])
    model.train()
    model(**processor.collate([row])).loss.backward()
    learning = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert all(p.grad is not None for _, p in learning)
    moved = {n for n, p in learning if float(p.grad.abs().sum()) > 0}
    assert moved == {"bridge.queries.weight", "bridge.gates"}


@pytest.mark.parametrize("mode", ["bfloat16 plain", "checkpointing"])
def test_training_modes_keep_loss_and_gradients(
    make: Any, pictures: Pictures, tmp_path: Path, mode: str
) -> None:
    model, processor = make(gate=0.3)
    freeze(model, *FROZEN)
    rows = batch(processor, pictures)
    before = gradients(model.train(), model(**rows).loss)
    if mode == "checkpointing":
        model.activation_checkpointing_enable()
    else:
        use = {"report_to": "none", "use_cpu": True, "bf16": True}
        choose_attention(model, TrainingArguments(output_dir=str(tmp_path), **use))  # type: ignore[arg-type]
    after = gradients(model.train(), model(**rows).loss)
    plain = model.language_model.config._attn_implementation == "adapter_eager"
    assert plain == (mode == "bfloat16 plain")
    for name in ("bridge.gates", "bridge.queries.weight", "fusion.queries.weight"):
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-6)


def test_added_biases_start_at_zero_and_are_saved(
    make: Any, pictures: Pictures, tmp_path: Path, parts: Path
) -> None:
    named = ["q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    language = {"checkpoint": str(parts / "llama"), "added_biases": named}
    model, processor = make(gate=0.2, language=language)
    plain, _ = make(gate=0.2)
    new = dict(model.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    assert len(new) == 2 * len(named)
    state = model.state_dict()
    assert all(float(state[name].abs().sum()) == 0 for name in new)
    rows = batch(processor, pictures)
    assert torch.equal(model(**rows).loss, plain(**rows).loss)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in new)
    model.train()
    found = gradients(model, model(**rows).loss)
    assert all(size(found, name) > 0 for name in new) and "bridge.gates" not in found
    with torch.no_grad():
        for number, name in enumerate(sorted(new)):
            state[name].fill_(0.1 * number)
    model.eval().save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[name], t) for name, t in state.items())
    assert again.config.references["language_model"]["checkpoint"] == str(parts / "llama")


def test_untrained_biases_survive_a_checkpoint_of_the_first_stage(
    make: Any, tmp_path: Path, parts: Path
) -> None:
    language = {"checkpoint": str(parts / "llama"), "added_biases": ["q_proj"]}
    model, _ = make(language=language)
    freeze(model, *FROZEN)
    model.save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path)
    layers = again.language_model.model.layers
    biases = [layer.self_attn.q_proj.bias for layer in layers]
    assert len(biases) == 2 and not any(bool(b.any()) for b in biases)


def test_biases_of_unknown_layers_are_refused(make: Any, parts: Path) -> None:
    language = {"checkpoint": str(parts / "llama"), "added_biases": ["q_porj"]}
    with pytest.raises(PartError, match=r"no linear layer 'q_porj'.*did you mean 'q_proj'"):
        make(language=language)


def test_lora_learns_beside_the_prompts_and_leaves_their_keys_alone(
    make: Any, pictures: Pictures
) -> None:
    from peft import LoraConfig, get_peft_model

    model, processor = make(gate=0.5)
    rows = batch(processor, pictures)
    with torch.no_grad():
        before = model(**rows).loss
    state = model.bridge.prompts(model.language_model, 2, None, None)
    module, query = model.language_model.model.layers[1].self_attn, torch.zeros(2, 2, 1, 16)
    keys, values = state._compute(module, query)
    config = LoraConfig(
        r=2,
        target_modules=r"language_model\..*\.(q_proj|k_proj|v_proj|o_proj)",
        modules_to_save=["fusion", "bridge"],
    )
    tuned: Any = get_peft_model(model, config)
    torch.testing.assert_close(tuned(**rows).loss, before)
    found = gradients(tuned.train(), tuned(**rows).loss)
    for part in ("lora_B", "fusion", "bridge"):
        assert size({name: g for name, g in found.items() if part in name}, "") > 0, part
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        assert float((tuned(**rows).loss - before).abs()) > 1e-4
    again = state._compute(model.language_model.model.layers[1].self_attn, query)
    assert torch.equal(again[0], keys) and torch.equal(again[1], values)


def test_wrong_parts_are_refused_with_their_names(make: Any, build: Build, parts: Path) -> None:
    with pytest.raises(PartError, match="bridge 'placeholder' takes tokens, but the fusion gives"):
        make(bridge={"name": "placeholder"})
    with pytest.raises(PartError, match="'adapter_prompts' needs a fusion that gives prompts"):
        build(bridge={"name": "adapter_prompts"})
    with pytest.raises(PartError, match="the language model is a 't5'"):
        make(language={"checkpoint": str(parts / "t5")})
    with pytest.raises(PartError, match=r"bridge.layers: 2 is not in 1..1 .* first reads the ima"):
        make(bridge={"name": "adapter_prompts", "entry": "early", "layers": 2})
    with pytest.raises(PartError, match="box_embed: there is no detector"):
        make(detector=False, fusion={"box_embed": True})
    for heads, said in ((3, "3 heads do not divide the width 16"), (0, "heads: 0 is not a whole")):
        with pytest.raises(RecipeError, match=said):
            make(fusion={"heads": heads})
    with pytest.raises(RecipeError, match="did you mean 'early'"):
        make(bridge={"name": "adapter_prompts", "entry": "erly"})
    with pytest.raises(PartError, match="encoder 'detector' gives detected objects"):
        make(fusion={"name": "single"})


@torch.no_grad()
def test_boxes_matter_once_their_embedding_has_learned(make: Any, pictures: Pictures) -> None:
    model, processor = make(fusion={"box_embed": True})
    bundle = dict(model.encode(**processor.pixels(pictures[:1])))
    objects: Any = bundle["detector"]
    moved = {**bundle, "detector": replace(objects, boxes=1 - objects.boxes)}
    before: Tensor = model.fusion(bundle).prompts
    assert torch.equal(before, model.fusion(moved).prompts)
    model.fusion.box_embed[-1].weight.normal_()
    assert float((model.fusion(bundle).prompts - model.fusion(moved).prompts).abs().max()) > 1e-3


@torch.no_grad()
def test_mr_mllm_check_03_a_refiner_at_gate_zero_keeps_the_detector(
    make: Any, pictures: Pictures
) -> None:
    model, processor = make(fusion={"refine": True})
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


def test_a_processor_of_the_folder_serves_the_model(
    make: Any, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = make(gate=0.2)
    processor.save_pretrained(tmp_path)
    again = ManyEyesProcessor.from_pretrained(tmp_path)
    asked = prompts(processor, "what?")
    one, other = (p.answer_inputs(asked, pictures[:1]) for p in (processor, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(model(**one).logits, model(**other).logits)


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

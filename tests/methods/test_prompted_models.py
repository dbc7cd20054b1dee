"""What a model with prompts reads, writes, learns and refuses, over tiny parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import TrainingArguments

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import PartError, PlaceholderError, RecipeError
from manyeyes.records import Sample, Turn, VisualEvidence
from manyeyes.training.kernels import choose_attention
from whole_model import Build, Pictures, batch, freeze, gradients, prompts, size

FROZEN = ("encoders.", "language_model.")


def test_images_leave_no_token_in_the_text(mr_mllm: Any, pictures: Pictures) -> None:
    model, processor = mr_mllm()
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


def test_images_and_placeholders_that_disagree_are_named(mr_mllm: Any, pictures: Pictures) -> None:
    model, processor = mr_mllm()
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
    mr_mllm: Any, pictures: Pictures
) -> None:
    model, processor = mr_mllm(gate=0.5)
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
    mr_mllm: Any, pictures: Pictures
) -> None:
    model, processor = mr_mllm(gate=1.0)
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


def test_a_text_only_batch_gives_defined_gradients(mr_mllm: Any) -> None:
    model, processor = mr_mllm(gate=0.1)
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
    mr_mllm: Any, pictures: Pictures, tmp_path: Path, mode: str
) -> None:
    model, processor = mr_mllm(gate=0.3)
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
    mr_mllm: Any, pictures: Pictures, tmp_path: Path, parts: Path
) -> None:
    named = ["q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    language = {"checkpoint": str(parts / "llama"), "added_biases": named}
    model, processor = mr_mllm(gate=0.2, language=language)
    plain, _ = mr_mllm(gate=0.2)
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


def test_biases_of_unknown_layers_are_refused(mr_mllm: Any, parts: Path) -> None:
    language = {"checkpoint": str(parts / "llama"), "added_biases": ["q_porj"]}
    with pytest.raises(PartError, match=r"no linear layer 'q_porj'.*did you mean 'q_proj'"):
        mr_mllm(language=language)


def test_lora_learns_beside_the_prompts_and_leaves_their_keys_alone(
    mr_mllm: Any, pictures: Pictures
) -> None:
    from peft import LoraConfig, get_peft_model

    model, processor = mr_mllm(gate=0.5)
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


def test_wrong_parts_are_refused_with_their_names(mr_mllm: Any, build: Build, parts: Path) -> None:
    with pytest.raises(PartError, match="bridge 'placeholder' takes tokens, but the fusion gives"):
        mr_mllm(bridge={"name": "placeholder"})
    with pytest.raises(PartError, match="'adapter_prompts' needs a fusion that gives prompts"):
        build(bridge={"name": "adapter_prompts"})
    with pytest.raises(PartError, match="the language model is a 't5'"):
        mr_mllm(language={"checkpoint": str(parts / "t5")})
    with pytest.raises(PartError, match=r"bridge.layers: 2 is not in 1..1 .* first reads the ima"):
        mr_mllm(bridge={"name": "adapter_prompts", "entry": "early", "layers": 2})
    with pytest.raises(PartError, match="box_embed: there is no detector"):
        mr_mllm(detector=False, fusion={"box_embed": True})
    for heads, said in ((3, "3 heads do not divide the width 16"), (0, "heads: 0 is not a whole")):
        with pytest.raises(RecipeError, match=said):
            mr_mllm(fusion={"heads": heads})
    with pytest.raises(RecipeError, match="did you mean 'early'"):
        mr_mllm(bridge={"name": "adapter_prompts", "entry": "erly"})
    with pytest.raises(PartError, match="encoder 'detector' gives detected objects"):
        mr_mllm(fusion={"name": "single"})


@torch.no_grad()
def test_boxes_matter_once_their_embedding_has_learned(mr_mllm: Any, pictures: Pictures) -> None:
    model, processor = mr_mllm(fusion={"box_embed": True})
    bundle = dict(model.encode(**processor.pixels(pictures[:1])))
    objects: Any = bundle["detector"]
    moved = {**bundle, "detector": replace(objects, boxes=1 - objects.boxes)}
    before: Tensor = model.fusion(bundle).prompts
    assert torch.equal(before, model.fusion(moved).prompts)
    model.fusion.box_embed[-1].weight.normal_()
    assert float((model.fusion(bundle).prompts - model.fusion(moved).prompts).abs().max()) > 1e-3


def test_a_processor_of_the_folder_serves_the_model(
    mr_mllm: Any, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = mr_mllm(gate=0.2)
    processor.save_pretrained(tmp_path)
    again = ManyEyesProcessor.from_pretrained(tmp_path)
    asked = prompts(processor, "what?")
    one, other = (p.answer_inputs(asked, pictures[:1]) for p in (processor, again))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert torch.equal(model(**one).logits, model(**other).logits)

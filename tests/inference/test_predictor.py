"""Our model as a predictor: images are encoded once, batching and order change nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from image_text import unsettle
from image_text_parts import clip_block
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import DataError, UsageError
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.records import IGNORE, Sample, Turn

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
Build = Callable[..., Built]
SHORT = {"short": 5, "caption": 7, "boxes": 6}


def questions(folder: Path, pictures: Sequence[Image.Image]) -> list[Item]:
    """Three images, questions of different length and kind, images interleaved."""
    items = []
    for number, picture in enumerate(pictures):
        path = folder / f"{number}.png"
        picture.save(path)
        for kind, prompt in (("short", "Is it?"), ("caption", "Describe it."), ("boxes", "Where")):
            items.append(
                Item(f"{number}-{kind}", str(path), prompt + "?" * number, (), str(number), kind)
            )
    return items[::2] + items[1::2]


@pytest.fixture
def predictor(build: Build) -> ModelPredictor:
    return ModelPredictor(*build(), max_new_tokens=SHORT)


@pytest.fixture
def items(tmp_path: Path, pictures: Sequence[Image.Image]) -> list[Item]:
    return questions(tmp_path, pictures)


def test_answers_equal_one_plain_generate_call_per_question(
    predictor: ModelPredictor, items: list[Item]
) -> None:
    answers = predictor.answer(items, with_images=True)
    for item, answer in zip(items, answers, strict=True):
        processor, model = predictor.processor, predictor.model
        prompt = processor.prompt([Turn("user", f"<image>\n{item.prompt}")])
        inputs = processor.answer_inputs([prompt], [Image.open(item.image).convert("RGB")])
        with torch.no_grad():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=SHORT[item.answer])
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert answer == processor.tokenizer.decode(new, skip_special_tokens=True)


def test_several_images_and_earlier_turns_are_shown_where_they_stand(
    predictor: ModelPredictor, items: list[Item]
) -> None:
    """The same as one plain call with all pictures, also beside questions about one."""
    first, second = sorted({item.image for item in items})[:2]
    pair = replace(items[0], id="pair", image=second, more_images=(first,), prompt="Which differs?")
    turns = (Turn("user", "<image>\nIs it?"), Turn("assistant", "no"))
    later = replace(pair, id="later", before=turns, prompt="And <image>?")
    answers = predictor.answer([items[0], pair, later, items[1]], with_images=True)
    expected = {
        "pair": [Turn("user", "<image>\n<image>\nWhich differs?")],
        "later": [*turns, Turn("user", "And <image>?")],
    }
    for item, answer in zip((pair, later), answers[1:3], strict=True):
        processor, model = predictor.processor, predictor.model
        shown = [Image.open(path).convert("RGB") for path in (second, first)]
        inputs = processor.answer_inputs([processor.prompt(expected[item.id])], shown)
        with torch.no_grad():
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=SHORT["short"])
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert answer == processor.tokenizer.decode(new, skip_special_tokens=True)
    alone = predictor.answer([items[0], items[1]], with_images=True)
    assert [answers[0], answers[3]] == alone
    with pytest.raises(DataError, match="several images or earlier turns"):
        predictor.rank([replace(pair, candidates=("a", "b"))], with_images=True)


def test_an_image_is_encoded_once_for_all_its_questions(
    predictor: ModelPredictor, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    original = ManyEyesForConditionalGeneration.encode

    def counting(self: ManyEyesForConditionalGeneration, **inputs: torch.Tensor) -> Any:
        encoded.append(len(next(iter(inputs.values()))))
        return original(self, **inputs)

    monkeypatch.setattr(ManyEyesForConditionalGeneration, "encode", counting)
    eight = [replace(items[0], id=str(k), prompt=f"question {k}") for k in range(8)]
    predictor.answer(eight, with_images=True)
    assert encoded == [1]
    predictor.answer(items, with_images=True)
    assert sum(encoded[1:]) == 3
    predictor.answer(items, with_images=False)
    assert sum(encoded[1:]) == 3


@pytest.mark.parametrize("with_images", [True, False])
def test_batch_sizes_and_order_do_not_change_answers(
    build: Build, items: list[Item], with_images: bool
) -> None:
    model, processor = build()
    large = ModelPredictor(model, processor, max_new_tokens=SHORT)
    small = ModelPredictor(model, processor, batch_size=2, image_batch=1, max_new_tokens=SHORT)
    expected = large.answer(items, with_images=with_images)
    assert small.answer(items, with_images=with_images) == expected
    assert large.answer(items[::-1], with_images=with_images)[::-1] == expected


def test_the_image_changes_the_answer(build: Build, items: list[Item]) -> None:
    """Random weights: at least one answer must depend on what is seen."""
    predictor = ModelPredictor(*build(), max_new_tokens=SHORT)
    with torch.no_grad():
        for name, parameter in predictor.model.named_parameters():
            if name.startswith("fusion"):
                parameter.mul_(20)
    shown = predictor.answer(items, with_images=True)
    assert shown != predictor.answer(items, with_images=False)


def test_boxes_in_a_prompt_are_written_in_the_recipe_style(
    predictor: ModelPredictor, items: list[Item]
) -> None:
    box = (0.0, 0.0, 8.0, 8.0)
    item = replace(items[0], prompt="What is in <boxes>?", boxes=((box,),))
    shown = predictor._group([item], with_images=True)
    assert "[0.000,0.000,0.500,0.500]" in predictor._prompt(item, shown)
    assert "<image>" not in predictor._prompt(item, predictor._group([item], with_images=False))
    assert len(predictor.answer([item], with_images=True)) == 1


def test_fingerprint_follows_weights_and_generation(build: Build) -> None:
    model, processor = build()
    first = ModelPredictor(model, processor).fingerprint
    assert ModelPredictor(model, processor, batch_size=3).fingerprint == first
    assert ModelPredictor(model, processor, max_new_tokens={"short": 3}).fingerprint != first
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    assert ModelPredictor(model, processor).fingerprint != first


def test_bfloat16_runs_and_is_recorded(build: Build, items: list[Item]) -> None:
    predictor = ModelPredictor(*build(), max_new_tokens=SHORT, dtype=torch.bfloat16)
    assert len(predictor.answer(items, with_images=True)) == len(items)
    assert predictor.generation["dtype"] == "torch.bfloat16"
    assert predictor.generation["do_sample"] is False


def test_encoder_decoder_models_answer_too(build: Build, parts: Path, items: list[Item]) -> None:
    model, processor = build(language={"checkpoint": str(parts / "t5")})
    predictor = ModelPredictor(model, processor, max_new_tokens=SHORT)
    assert not processor.answers_in_sequence
    assert len(predictor.answer(items, with_images=True)) == len(items)


def test_batch_sizes_below_one_are_refused(build: Build) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ModelPredictor(*build(), batch_size=0)


def test_a_model_is_evaluated_end_to_end(build: Build, world: Path, tmp_path: Path) -> None:
    predictor = ModelPredictor(*build(), max_new_tokens=SHORT)
    names = ["caption", "exact", "pope", "rec", "vqa"]
    results = evaluate(predictor, names, world, "val", tmp_path, limit=6)
    assert set(results["benchmarks"]) == set(names)
    assert results["model"]["fingerprint"] == predictor.fingerprint
    assert results["benchmarks"]["rec"]["model"]["parse_failures"] == 6


def reading(parts: Path) -> Built:
    """A model whose Q-Former reads the question, as InstructBLIP's does."""
    block = clip_block(parts, text="question", text_length=64)
    config = ManyEyesConfig(**{**block, "prompt_style": "vicuna_v1.1"})
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    unsettle(model.fusion)
    return model, processor


def test_a_fusion_that_reads_the_question_gets_each_its_own(
    parts: Path, items: list[Item], pictures: Sequence[Image.Image]
) -> None:
    model, processor = reading(parts)
    predictor = ModelPredictor(model, processor, batch_size=2, max_new_tokens=SHORT)
    encoded: list[int] = []
    model.encoders["clip"].register_forward_pre_hook(lambda _, args: encoded.append(len(args[0])))
    answers = predictor.answer(items, with_images=True)
    assert sum(encoded) == 3
    asked = [replace(item, candidates=("a", "b c")) for item in items]
    ranked = predictor.rank(asked, with_images=True)
    assert sum(encoded) == 6
    for item, answer, found in zip(asked, answers, ranked, strict=True):
        turn = Turn("user", f"<image>\n{item.prompt}")
        picture = Image.open(item.image).convert("RGB")
        inputs = processor.answer_inputs(
            [processor.prompt([turn])], [picture], questions=[item.prompt]
        )
        with torch.no_grad():
            limit = SHORT[item.answer]
            ids = model.generate(**inputs, do_sample=False, max_new_tokens=limit)
            row = processor.encode(Sample("", (), (turn, Turn("assistant", "b c"))), [picture])
            output = model(**processor.collate([row]))
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert answer == processor.tokenizer.decode(new, skip_special_tokens=True)
        targets = row["labels"][row["labels"] != IGNORE]
        alone = output.logits.log_softmax(-1).gather(-1, targets[:, None]).sum()
        assert found[1].total == pytest.approx(float(alone), abs=1e-4)

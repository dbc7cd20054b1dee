"""Texts longer than the language model reads: named, in training, evaluation, chat, generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import BartConfig, BloomConfig, GPT2Config, LlamaConfig, OPTConfig, T5Config

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import DataError, RecipeError, UsageError
from manyeyes.evaluation.asking.runner import evaluate
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.language import position_limit, too_long
from manyeyes.records import Sample, Turn

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
Build = Callable[..., Built]
POSITIONS = tiny.POSITIONS
"""Of the tiny Llama, whose tokens are bytes."""


def item(folder: Path, picture: Image.Image, prompt: str, **more: Any) -> Item:
    picture.save(folder / "0.png")
    return Item("q1", str(folder / "0.png"), prompt, (), "0", **more)


def length(processor: ManyEyesProcessor, prompt: str) -> int:
    """Tokens of a question about one image."""
    (ids,) = processor.text_rows.ids([processor.prompt([Turn("user", f"<image>\n{prompt}")])])
    return len(ids)


def of_length(processor: ManyEyesProcessor, tokens: int) -> str:
    """A question whose prompt has so many tokens with its image."""
    return "x" * (tokens - length(processor, ""))


def test_positions_are_those_that_configurations_declare() -> None:
    assert position_limit(LlamaConfig(max_position_embeddings=77)) == 77
    assert position_limit(OPTConfig()) == 2048
    assert position_limit(GPT2Config()) == 1024
    assert position_limit(BartConfig()) == 1024
    assert position_limit(T5Config()) is None and position_limit(BloomConfig()) is None
    assert too_long(9, 9) is None and too_long(8, 9, answered=True) is None
    assert too_long(9, None, answered=True) is None
    expected = "9 tokens with those of its images, but the language model reads 9"
    assert too_long(9, 9, answered=True) == expected


def test_a_training_sample_is_refused_or_cut(build: Build, pictures: list[Image.Image]) -> None:
    _, processor = build()
    assert processor.positions == POSITIONS
    turn = Turn("user", "<image>\nWhat?")
    long = Sample("s7", ("a",), (turn, Turn("assistant", "y" * 2100)))
    with pytest.raises(DataError, match=r"sample 's7': \d{4} tokens .* reads 2048; .*max_tokens"):
        processor.encode(long, pictures[:1])
    _, cutting = build(max_tokens=POSITIONS)
    assert len(cutting.encode(long, pictures[:1])["input_ids"]) == POSITIONS
    with pytest.raises(RecipeError, match=r"max_tokens: 2049 is more than .* 2048 positions"):
        build(max_tokens=POSITIONS + 1)


def test_the_limit_is_saved(build: Build, tmp_path: Path) -> None:
    build()[1].save_pretrained(tmp_path)
    assert ManyEyesProcessor.from_pretrained(tmp_path).positions == POSITIONS


def test_models_without_such_a_limit_take_any_length(
    build: Build, parts: Path, pictures: list[Image.Image]
) -> None:
    model, processor = build(language={"checkpoint": str(parts / "t5")}, prompt_style="plain")
    turn = Turn("user", "<image>\n" + "x" * 2100)
    row = processor.encode(Sample("s", ("a",), (turn, Turn("assistant", "y"))), pictures[:1])
    assert len(row["input_ids"]) > POSITIONS
    inputs = processor.answer_inputs([processor.prompt([turn])], pictures[:1])
    assert len(model.generate(**inputs, max_new_tokens=2, do_sample=False)) == 1


def test_generate_names_the_prompt(build: Build, pictures: list[Image.Image]) -> None:
    model, processor = build()
    fits, not_ = (of_length(processor, tokens) for tokens in (POSITIONS - 1, POSITIONS))
    turns = [Turn("user", f"<image>\n{text}") for text in ("a", fits, not_)]
    prompts = [processor.prompt([turn]) for turn in turns]
    inputs = processor.answer_inputs(prompts, pictures)
    with pytest.raises(UsageError, match=r"prompt 2 has 2048 tokens .* reads 2048: shorten it"):
        model.generate(**inputs, max_new_tokens=1)
    inputs = processor.answer_inputs(prompts[:2], pictures[:2])
    assert len(model.generate(**inputs, max_new_tokens=1, do_sample=False)) == 2


def test_evaluate_names_long_questions_before_any_is_answered(
    build: Build, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = ModelPredictor(*build(), max_new_tokens={"short": 2})
    monkeypatch.setattr(predictor, "answer", lambda *_, **__: pytest.fail("answered"))
    prompts = {"vqa": "x" * 2100 + "{question}"}
    with pytest.raises(
        DataError, match=r"3 of 3 questions cannot be asked: question .* reads 2048"
    ):
        evaluate(predictor, ["vqa"], world, "val", tmp_path, limit=3, prompts=prompts)


def test_the_predictor_names_a_long_question(
    build: Build, pictures: list[Image.Image], tmp_path: Path
) -> None:
    predictor = ModelPredictor(*build(), max_new_tokens={"short": 4})
    short = item(tmp_path, pictures[0], "What?")
    long = replace(short, id="q2", prompt=of_length(predictor.processor, POSITIONS))
    with pytest.raises(DataError, match=r"1 of 2 questions .* 'q2' has 2048 tokens .* reads 2048"):
        predictor.answer([short, long], with_images=True)
    ranked = replace(long, candidates=("a", "b"))
    with pytest.raises(DataError, match=r"question 'q2': .* tokens .* reads 2048"):
        predictor.rank([ranked], with_images=True)


def test_an_answer_ends_where_the_positions_do(
    build: Build, pictures: Sequence[Image.Image], tmp_path: Path
) -> None:
    """And the room of one question shortens no other's answer."""
    model, processor = build()
    predictor = ModelPredictor(model, processor, max_new_tokens={"short": 6})
    short = item(tmp_path, pictures[0], "What?")
    close = replace(short, id="q2", prompt=of_length(processor, POSITIONS - 3))
    made: list[int] = []
    generate = model.generate

    def counted(**inputs: Any) -> torch.Tensor:
        made.append(inputs["max_new_tokens"])
        found: torch.Tensor = generate(**inputs)
        return found

    model.generate = counted  # type: ignore[method-assign]
    both = predictor.answer([short, close], with_images=True)
    assert sorted(made) == [3, 6]
    assert both == [predictor.answer([one], with_images=True)[0] for one in (short, close)]

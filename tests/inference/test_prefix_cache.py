"""Prompts that begin alike are read once, and answered as if each had been read whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import MistralConfig, OPTConfig, PreTrainedConfig, Qwen3Config

import tiny
from lion_parts import stir
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.prefix_cache import PrefixCache
from manyeyes.inference.questions import Item
from manyeyes.inference.ranking import ShownImages
from manyeyes.records import Turn

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
Build = Callable[..., Built]
SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 256,
}
FAMILIES: dict[str, PreTrainedConfig] = {
    "opt": OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32),
    "qwen3": Qwen3Config(**SIZES, intermediate_size=64, num_key_value_heads=1, head_dim=16),
    "mistral": MistralConfig(
        **SIZES, intermediate_size=64, num_key_value_heads=1, sliding_window=None
    ),
}


class Asked:
    """Questions about images, the evidence of the images, and the inputs of the questions."""

    def __init__(self, built: Built, pictures: Sequence[Image.Image], texts: Sequence[str]) -> None:
        self.model, self.processor = built
        self.model.eval()
        questions = [f"<image>\n{text}" for text in texts]
        prompts = [self.processor.prompt([Turn("user", text)]) for text in questions]
        self.inputs = self.processor.answer_inputs(
            prompts, images_encoded=True, questions=questions
        )
        with torch.inference_mode():
            evidence = self.model.encode_images(**self.processor.pixels(pictures))
        rows = torch.tensor([place % len(pictures) for place in range(len(texts))])
        self.shown = ShownImages(evidence, rows)

    def answers(self, inputs: dict[str, Any], **decoding: Any) -> torch.Tensor:
        start = inputs["input_ids"].shape[1]
        decoding = {"do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12, **decoding}
        sequences = self.model.generate(
            **inputs, evidence=self.shown.evidence, image_index=self.shown.rows, **decoding
        )
        return sequences[:, start:]


TEXTS = ("what is it?", "why", "how many are there, then?", "is it red or blue?", "and?")


def check(asked: Asked, cache: PrefixCache, **decoding: Any) -> None:
    plain = asked.answers(dict(asked.inputs), **decoding)
    names = asked.shown.rows.tolist()
    copies = decoding.get("num_beams", 1)
    shared = cache.share(asked.inputs, asked.shown, names, copies=copies)
    assert "past_key_values" in shared
    assert torch.equal(asked.answers(shared, **decoding), plain)


@pytest.fixture(scope="module")
def built(build: Build) -> Built:
    return build()


@pytest.mark.parametrize("decoding", [{}, {"num_beams": 3}, {"repetition_penalty": 1.5}])
def test_the_same_answers_from_beginnings_that_were_read_once(
    built: Built, pictures: Sequence[Image.Image], decoding: dict[str, Any]
) -> None:
    asked = Asked(built, pictures[:2], TEXTS)
    cache = PrefixCache(asked.model)
    check(asked, cache, **decoding)
    assert (cache.read, cache.reused, cache.bytes) == (2, 3, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_language_models(
    parts: Path, pictures: Sequence[Image.Image], family: str
) -> None:
    torch.manual_seed(0)
    config = ManyEyesConfig(
        **{**tiny.model_block(parts), "language": {"config": FAMILIES[family].to_dict()}}
    )
    processor = ManyEyesProcessor.from_config(config, tiny.byte_tokenizer())
    model = ManyEyesForConditionalGeneration.from_parts(config)
    check(Asked((model, processor), pictures[:2], TEXTS), PrefixCache(model))


def test_beginnings_of_different_length_share_a_batch(
    built: Built, pictures: Sequence[Image.Image]
) -> None:
    asked = Asked(built, pictures[:1], TEXTS)
    processor = asked.processor
    turns = [
        [Turn("user", f"{'Please look. ' * (place % 3)}<image>\n{text}")]
        for place, text in enumerate(TEXTS)
    ]
    asked.inputs = processor.answer_inputs(
        [processor.prompt(each) for each in turns], images_encoded=True
    )
    cache = PrefixCache(asked.model, limit=2**20)
    check(asked, cache)
    assert cache.read == 3


def test_what_is_kept_serves_the_next_call_until_there_is_no_room(
    built: Built, pictures: Sequence[Image.Image]
) -> None:
    asked = Asked(built, pictures[:2], TEXTS)
    cache = PrefixCache(asked.model, limit=2**20)
    check(asked, cache)
    check(asked, cache)
    assert (cache.read, cache.reused) == (2, 8)
    one = cache.bytes // 2
    small = PrefixCache(asked.model, limit=one)
    check(asked, small)
    assert small.bytes == one
    cache.forget()
    assert cache.bytes == 0


def test_images_that_differ_do_not_share(built: Built, pictures: Sequence[Image.Image]) -> None:
    asked = Asked(built, pictures[:1], TEXTS)
    cache = PrefixCache(asked.model, limit=2**20)
    cache.share(asked.inputs, asked.shown, ["one"] * len(TEXTS))
    cache.share(asked.inputs, asked.shown, ["other"] * len(TEXTS))
    assert cache.read == 2


def test_routes_do_not_share(build: Build, pictures: Sequence[Image.Image]) -> None:
    asked = Asked(build(bridge={"adapters": {"bottleneck": 6}}), pictures[:1], TEXTS)
    stir(asked.model.bridge)
    asked.inputs["routes"] = torch.tensor([0, 1, 0, 1, 1])
    cache = PrefixCache(asked.model)
    check(asked, cache)
    assert cache.read == 2


@pytest.mark.parametrize("language", ["t5", "sliding"])
def test_models_without_plain_keys_and_values_are_left_alone(
    parts: Path, pictures: Sequence[Image.Image], language: str
) -> None:
    fields = {**FAMILIES["mistral"].to_dict(), "sliding_window": 8}
    config = ManyEyesConfig(
        **{
            **tiny.model_block(parts),
            "language": {"checkpoint": str(parts / "t5")}
            if language == "t5"
            else {"config": fields},
        }
    )
    processor = ManyEyesProcessor.from_config(config, tiny.byte_tokenizer())
    asked = Asked(
        (ManyEyesForConditionalGeneration.from_parts(config), processor), pictures[:1], TEXTS
    )
    cache = PrefixCache(asked.model)
    assert not cache.usable
    shared = cache.share(asked.inputs, asked.shown, [0] * len(TEXTS))
    assert "past_key_values" not in shared


def test_evaluation_reads_each_beginning_once(
    built: Built, pictures: Sequence[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = ModelPredictor(*built, max_new_tokens={"short": 6}, batch_size=8)
    items = []
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
        first = Item("", str(tmp_path / f"{number}.png"), "", (), str(number))
        items += [replace(first, id=f"{number}-{k}", prompt=text) for k, text in enumerate(TEXTS)]
    mixed = items[::2] + items[1::2]
    shared = predictor.answer(mixed, with_images=True)
    read: PrefixCache = predictor._prefixes
    assert read.read <= 4 and read.reused >= 11  # 15 questions in batches of 8, by image
    monkeypatch.setattr(PrefixCache, "usable", property(lambda self: False))
    assert predictor.answer(mixed, with_images=True) == shared

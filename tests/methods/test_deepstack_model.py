"""DeepStack inside the whole model: the same numbers whichever way a prompt is read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

import tiny
from lion_parts import stir
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import PartError
from manyeyes.inference.prefix_cache import PrefixCache
from manyeyes.inference.ranking import ShownImages, rank_candidates, ranked_question
from manyeyes.inference.seen_images import Sight
from manyeyes.layers.attention.packed import pack_attention
from manyeyes.records import IGNORE, Sample, Turn, VisualEvidence
from manyeyes.training.packing import packed
from whole_model import Built, Pictures, batch, freeze, gradients, prompts

KEEP: dict[str, Any] = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of four blocks."""
    return tiny.save_llama(tmp_path_factory.mktemp("deep") / "llama", blocks=4)


def block(parts: Path, deep: Path, **changes: Any) -> dict[str, Any]:
    clip, dinov2 = tiny.model_block(parts)["encoders"]
    encoders = [{**clip, "levels": [1, 2, 3]}, {**dinov2, "levels": [2, 3, 4]}]
    fusion = {"name": "deepstack", "merge_patches": 2}
    found = {**tiny.model_block(parts), "encoders": encoders, "fusion": fusion}
    return {**found, "language": {"checkpoint": str(deep)}, **changes}


def build(parts: Path, deep: Path, **changes: Any) -> Built:
    """A model whose layers read much of the image."""
    config = ManyEyesConfig(**block(parts, deep, **changes))
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config).eval()
    stir(model.fusion)
    stir(model.language_model, 1)
    if model.bridge.mixture is not None:
        stir(model.bridge.mixture)
    return model, processor


@pytest.fixture(scope="module")
def built(parts: Path, deep: Path) -> Built:
    return build(parts, deep)


def two_images(processor: ManyEyesProcessor, pictures: Pictures) -> dict[str, Tensor]:
    """Rows with two images, none and one, of different length."""
    texts = ("<image> or <image>?", "none at all, is there?", "one: <image>")
    images = (pictures[:2], [], pictures[2:3])
    rows = [
        processor.encode(
            Sample("", ("x",) * len(seen), (Turn("user", text), Turn("assistant", "yes" * 2))), seen
        )
        for text, seen in zip(texts, images, strict=True)
    ]
    return processor.collate(rows)


def slow_logits(model: Any, evidence: VisualEvidence, input_ids: Tensor, counts: Tensor) -> Tensor:
    """Logits of a bare language model to whose layers' outputs every vector is added by hand."""
    assert evidence.layers is not None
    layers, ids = evidence.layers, model.image_token_ids
    embeds = model.embed(input_ids, evidence, counts)
    language = copy.deepcopy(model.language_model)
    for layer in language.model.layers:
        layer._forward_pre_hooks.clear()
        layer._forward_pre_hooks_with_kwargs.clear()
    for number in range(layers.shape[1]):

        def add(module: Any, args: Any, output: Tensor, number: int = number) -> Tensor:
            found, count = output.clone(), 0
            for row, position in (input_ids == ids.image).nonzero().tolist():
                image, token = divmod(count, layers.shape[2])
                found[row, position] += layers[image, number, token]
                count += 1
            return found

        language.model.layers[number].register_forward_hook(add)
    logits: Tensor = language(inputs_embeds=embeds, use_cache=False).logits
    return logits


@torch.no_grad()
def test_several_images_of_a_row_equal_vectors_added_by_hand(
    built: Built, pictures: Pictures
) -> None:
    model, processor = built
    rows = two_images(processor, pictures)
    labels = rows.pop("labels")
    found = model(**rows).logits
    pixels = {key: value for key, value in rows.items() if key.startswith("pixel_values_")}
    evidence = model.encode_images(**pixels)
    assert evidence.layers.shape == (3, 2, 4, 32)
    expected = slow_logits(model, evidence, rows["input_ids"], rows["image_counts"])
    seen = labels != IGNORE
    torch.testing.assert_close(found[seen], expected[seen], rtol=1e-4, atol=1e-4)
    flat = VisualEvidence(tokens=evidence.tokens, layers=torch.zeros_like(evidence.layers))
    text = {key: rows[key] for key in ("input_ids", "image_counts")}
    without = model(**text, evidence=flat).logits
    assert float((without - found)[seen].abs().max()) > 1e-2


def test_it_trains_is_saved_and_answers_the_same(
    parts: Path, deep: Path, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = build(parts, deep)
    assert processor.visual_tokens == 4
    freeze(model, "encoders.")
    model.train()
    model(**batch(processor, pictures)).loss.backward()
    assert [n for n, p in model.fusion.named_parameters() if p.grad is None] == []
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    model.eval().save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "m")
    reader = AutoProcessor.from_pretrained(tmp_path / "m")
    with torch.no_grad():
        rows = batch(processor, pictures)
        assert torch.equal(again(**batch(reader, pictures)).logits, model(**rows).logits)
    inputs = processor.answer_inputs(prompts(processor, "a?", "a longer one?"), pictures[:2])
    assert torch.equal(again.generate(**inputs, **KEEP), model.generate(**inputs, **KEEP))


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}])
def test_a_padded_batch_answers_as_each_question_alone_and_as_without_a_cache(
    built: Built, pictures: Pictures, more: dict[str, Any]
) -> None:
    model, processor = built
    texts = ("a?", "a far longer question about it?")
    inputs = processor.answer_inputs(prompts(processor, *texts), pictures[:2])
    start = inputs["input_ids"].shape[1]
    together = model.generate(**inputs, **KEEP, **more)[:, start:]
    again = model.generate(**inputs, **KEEP, **more, use_cache=False)[:, start:]
    assert torch.equal(together, again)
    for row, text in enumerate(texts):
        one = processor.answer_inputs(prompts(processor, text), pictures[row : row + 1])
        alone = model.generate(**one, **KEEP, **more)[:, one["input_ids"].shape[1] :]
        assert torch.equal(together[row : row + 1], alone)


def test_packed_texts_learn_as_side_by_side(parts: Path, deep: Path, pictures: Pictures) -> None:
    model, processor = build(parts, deep)
    model.train()
    kept: list[Any] = []
    plain = processor.collate

    def keep(rows: Any) -> Any:
        kept.extend(rows)
        return plain(rows)

    processor.collate = keep  # type: ignore[method-assign]
    expected = model(**two_images(processor, pictures))
    before = gradients(model, expected.loss)
    pack_attention(model.language_model)
    found = model(**packed(plain)(kept))
    after = gradients(model, found.loss)
    torch.testing.assert_close(found.loss, expected.loss)
    assert set(after) == set(before)
    for name, gradient in after.items():
        torch.testing.assert_close(gradient, before[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("lora", [{}, {"language_model": {"rank": 2, "dropout": 0.0}}])
def test_checkpointed_layers_have_the_same_gradients(
    parts: Path, deep: Path, pictures: Pictures, lora: dict[str, Any]
) -> None:
    pytest.importorskip("peft")
    model, processor = build(parts, deep, lora=lora)
    freeze(model, "encoders.")
    model.train()
    rows = batch(processor, pictures)
    before = gradients(model, model(**rows).loss)
    model.language_model.activation_checkpointing_enable()
    after = gradients(model, model(**rows).loss)
    assert any("lora" in name for name in before) == bool(lora)
    assert min(float(before[name].abs().max()) for name in before if "fusion.stack" in name) > 0
    for name, gradient in after.items():
        torch.testing.assert_close(gradient, before[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_batch_of_text_alone_leaves_zeros_everywhere(built: Built) -> None:
    model, processor = built
    row = processor.encode(Sample("", (), (Turn("user", "why"), Turn("assistant", "so"))), [])
    model.train()
    found = gradients(model, model(**processor.collate([row])).loss)
    model.eval()
    stack = {n: g for n, g in found.items() if n.startswith("fusion.")}
    assert len(stack) == len(list(model.fusion.parameters()))
    assert not any(bool(gradient.any()) for gradient in stack.values())


def asked(built: Built, pictures: Pictures, texts: Sequence[str]) -> tuple[Any, ShownImages]:
    model, processor = built
    questions = [f"<image>\n{text}" for text in texts]
    inputs = processor.answer_inputs(
        [processor.prompt([Turn("user", text)]) for text in questions],
        images_encoded=True,
        questions=questions,
    )
    with torch.inference_mode():
        evidence = model.encode_images(**processor.pixels(pictures))
    return inputs, ShownImages(evidence, torch.tensor([n % 2 for n in range(len(texts))]))


@pytest.mark.parametrize("more", [{}, {"num_beams": 2}])
def test_beginnings_that_were_read_once_hold_what_the_layers_added(
    built: Built, pictures: Pictures, more: dict[str, Any]
) -> None:
    model = built[0]
    inputs, shown = asked(built, pictures[:2], ("what?", "why", "how many are there?", "and?"))
    seen: dict[str, Any] = {"evidence": shown.evidence, "image_index": shown.rows}
    start = inputs["input_ids"].shape[1]
    plain = model.generate(**inputs, **seen, **KEEP, **more)[:, start:]
    cache = PrefixCache(model, limit=2**20)
    for _ in range(2):
        copies = more.get("num_beams", 1)
        shared = cache.share(inputs, shown, shown.rows.tolist(), copies=copies)
        start = shared["input_ids"].shape[1]
        assert torch.equal(model.generate(**shared, **seen, **KEEP, **more)[:, start:], plain)
    assert (cache.read, cache.reused) == (2, 6)


def test_candidates_are_as_likely_as_read_whole(built: Built, pictures: Pictures) -> None:
    model, processor = built
    candidates = ("a", "two words", "a far longer one")
    question = ranked_question(processor, Turn("user", "<image>\nWhich?"), candidates)
    with torch.no_grad():
        evidence = model.encode_images(**processor.pixels(pictures[:1]))
    shown = ShownImages(evidence, torch.tensor([0]))
    (found,) = rank_candidates(model, [question], shown, batch_size=8)
    for likelihood, candidate in zip(found, candidates, strict=True):
        turns = (Turn("user", "<image>\nWhich?"), Turn("assistant", candidate))
        rows = processor.collate([processor.encode(Sample("", ("x",), turns), pictures[:1])])
        with torch.no_grad():
            logits = model(**rows).logits
        labels = rows["labels"][rows["labels"] != IGNORE]
        alone = logits.log_softmax(-1).gather(-1, labels[:, None]).sum()
        assert likelihood.total == pytest.approx(float(alone), abs=1e-4)


def test_seen_images_keep_what_layers_read(built: Built, pictures: Pictures) -> None:
    model, processor = built
    sight = Sight(model, processor)
    first, second = sight.see(pictures[:2])
    shown = sight.shown([second, first, second], ["a?"] * 3)
    assert shown is not None and shown.evidence.layers is not None
    with torch.inference_mode():
        whole = model.encode_images(**processor.pixels(pictures[:2]))
    rows = shown.evidence.layers[shown.rows]
    torch.testing.assert_close(rows, whole.layers[[1, 0, 1]], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_adapters_of_lion_stand_beside_it(parts: Path, deep: Path, pictures: Pictures) -> None:
    model, processor = build(parts, deep, bridge={"adapters": {"bottleneck": 4}})
    rows = batch(processor, pictures)
    found = [model(**{**rows, "routes": torch.tensor(r)}).logits for r in ([0, 0], [1, 1])]
    assert not torch.allclose(*found)
    inputs = processor.answer_inputs(prompts(processor, "a?", "a longer one?"), pictures[:2])
    cached, anew = (model.generate(**inputs, **KEEP, use_cache=use) for use in (True, False))
    assert torch.equal(cached, anew)


def test_what_cannot_add_tokens_is_refused(parts: Path, deep: Path, pictures: Pictures) -> None:
    t5 = {"language": {"checkpoint": str(parts / "t5")}}
    with pytest.raises(PartError, match=r"'t5' is an encoder-decoder"):
        ManyEyesConfig(**block(parts, deep, **t5)).resolve()
    shallow = {"language": {"checkpoint": str(parts / "llama")}}
    with pytest.raises(PartError, match=r"first 2 layers, but the language model has 2"):
        ManyEyesConfig(**block(parts, deep, **shallow)).resolve()
    model, processor = build(parts, deep)
    inputs = batch(processor, pictures)
    evidence = model.encode_images(**processor.pixels(pictures[:2]))
    embeds = model.embed(inputs["input_ids"], evidence, None)
    with pytest.raises(PartError, match="pass input_ids"):
        model(inputs_embeds=embeds, evidence=evidence)

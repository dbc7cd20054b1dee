"""The whole model: splice, gradients, losses, with tiny random parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from manyeyes.errors import PartError, PlaceholderError
from manyeyes.records import Sample, Turn
from whole_model import Build, Pictures, batch, freeze, prompts


@torch.no_grad()
def test_comm_check_02_only_the_chosen_states_matter(build: Build, pictures: Pictures) -> None:
    """NaN in a state that is not read must not reach the output; in one that is, it must."""
    model, processor = build()
    pixels = processor.pixels(pictures[:1])
    encoders = {"clip": (3, {1, 2, 3}), "dinov2": (4, {3, 4})}
    for name, (blocks, read) in encoders.items():
        encoder = model.encoders[name]
        states = encoder.hidden_states(pixels[f"pixel_values_{name}"])
        for level in range(blocks + 1):
            for rows, matters in ((slice(0, 1), False), (slice(1, None), level in read)):
                broken = [state.clone() for state in states]
                broken[level][:, rows] = float("nan")
                bundle = {**model.encode(**pixels), name: encoder.select(broken, (4, 4))}
                tokens = model.fusion(bundle).tokens
                assert bool(tokens.isnan().any()) == matters, (name, level, rows)


def test_comm_check_10_gradients(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    freeze(model, "encoders.")
    model.train()
    model(**batch(processor, pictures)).loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("encoders."):
            assert parameter.grad is None, name
        elif name.startswith(("fusion.", "bridge.")):
            assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name
    for merger in model.fusion.mergers.values():
        assert abs(float(merger.scales.grad.sum())) < 1e-6


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Encoders as deep as the paper's, with its levels, of tiny width."""
    folder = tmp_path_factory.mktemp("deep")
    clip = tiny.save_clip(folder / "clip", blocks=24)
    dino = tiny.save_dinov2(folder / "dinov2", blocks=24)
    return [
        {"name": "clip", "family": "clip", "levels": "1-24", "checkpoint": str(clip)},
        {"name": "dinov2", "family": "dinov2", "levels": "19-24", "checkpoint": str(dino)},
    ]


def test_comm_check_10_gradients_of_24_and_6_levels(
    build: Build, pictures: Pictures, deep: list[dict[str, Any]]
) -> None:
    model, processor = build(encoders=deep)
    freeze(model, "encoders.")
    model.train()
    model(**batch(processor, pictures)).loss.backward()
    assert all(p.grad is None for p in model.encoders.parameters())
    learning = {
        name: parameter
        for name, parameter in model.named_parameters()
        if name.startswith(("fusion.", "bridge."))
    }
    # per level a norm and a linear with weight and bias; two logits; MLP; projector; two markers
    assert len(learning) == (24 + 6) * 4 + 2 + 4 + 2 + 2
    for name, parameter in learning.items():
        assert parameter.grad is not None and bool(parameter.grad.any()), name
    for encoder, levels in (("clip", 24), ("dinov2", 6)):
        gradient = model.fusion.mergers[encoder].scales.grad
        assert gradient.shape == (levels,) and bool((gradient != 0).all())
        assert abs(float(gradient.sum())) < 1e-6


def test_comm_check_04_a_model_of_a_12_block_encoder_is_refused(
    build: Build, deep: list[dict[str, Any]], tmp_path: Path
) -> None:
    small = str(tiny.save_dinov2(tmp_path / "base", blocks=12))
    with pytest.raises(PartError, match=r"'dinov2' has 12 blocks, so level 19 does not exist"):
        build(encoders=[deep[0], {**deep[1], "checkpoint": small}])


@torch.no_grad()
def test_comm_check_13_dinov2_weights_reach_only_the_second_half_of_the_channels(
    build: Build, pictures: Pictures
) -> None:
    model, processor = build()
    pixels = processor.pixels(pictures[:2])
    joined: list[torch.Tensor] = []
    model.fusion.projector.register_forward_pre_hook(lambda _, args: joined.append(args[0]))
    before = model.encode_images(**pixels).tokens
    for parameter in model.encoders["dinov2"].parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    after = model.encode_images(**pixels).tokens
    assert joined[0].shape == (2, 16, 32)
    assert torch.equal(joined[0][..., :16], joined[1][..., :16])
    assert not torch.allclose(joined[0][..., 16:], joined[1][..., 16:])
    assert not torch.allclose(before, after)
    model.fusion.projector[0].weight[:, 16:] = 0.0
    blind = model.encode_images(**pixels).tokens
    for parameter in model.encoders["dinov2"].parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    assert torch.equal(model.encode_images(**pixels).tokens, blind)


def test_comm_check_21_a_no_grad_around_the_mergers_is_detected(
    build: Build, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = build()
    whole = model.fusion.branches
    monkeypatch.setattr(model.fusion, "branches", torch.no_grad()(whole))
    model(**batch(processor, pictures)).loss.backward()
    assert all(p.grad is None for p in model.fusion.mergers.parameters())


@torch.no_grad()
def test_comm_check_18_the_splice_touches_only_placeholders(
    build: Build, pictures: Pictures
) -> None:
    model, processor = build()
    ids = processor.image_token_ids_by_role
    rows = batch(processor, pictures)
    visual = {k: v for k, v in rows.items() if k.startswith("pixel")}
    evidence = model.encode_images(**visual)
    embeddings = model.embed(rows["input_ids"], evidence, rows["image_counts"])
    at_image = rows["input_ids"] == ids.image
    assert torch.equal(embeddings[at_image].reshape(2, 16, -1), evidence.tokens)
    marker = (rows["input_ids"] == ids.start) | (rows["input_ids"] == ids.end)
    text = ~at_image & ~marker
    expected = model.get_input_embeddings()(rows["input_ids"].masked_fill(~text, 0))
    assert torch.equal(embeddings[text], expected[text])
    assert torch.equal(embeddings[rows["input_ids"] == ids.start][0], model.bridge.image_start)


@torch.no_grad()
def test_comm_check_18_left_and_right_padding_give_the_same_logits(
    build: Build, pictures: Pictures
) -> None:
    model, processor = build()
    texts = prompts(processor, "a?", "something longer?")
    found = {}
    for side in ("left", "right"):
        inputs = processor(images=pictures[:2], text=texts, padding_side=side)
        logits = model(**inputs).logits
        found[side] = [logits[i][inputs["attention_mask"][i].bool()] for i in range(2)]
    for left, right in zip(found["left"], found["right"], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_comm_check_19_a_text_only_batch_gives_defined_zero_gradients(build: Build) -> None:
    model, processor = build()
    freeze(model, "encoders.", "language_model.")
    row = processor.encode(Sample("t", (), (Turn("user", "hi"), Turn("assistant", "yo"))), [])
    model.train()
    model(**processor.collate([row])).loss.backward()
    learning = [*model.fusion.parameters(), *model.bridge.parameters()]
    assert all(p.grad is not None and float(p.grad.abs().sum()) == 0 for p in learning)


def test_a_text_only_sample_beside_an_image(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    text = processor.encode(Sample("t", (), (Turn("user", "hi"), Turn("assistant", "yo"))), [])
    asked = Sample("i", ("x",), (Turn("user", "<image>?"), Turn("assistant", "a")))
    both = processor.collate([text, processor.encode(asked, pictures[:1])])
    alone = [processor.collate([text]), processor.collate([processor.encode(asked, pictures[:1])])]
    counts = [int((rows["labels"] != -100).sum()) for rows in alone]
    with torch.no_grad():
        losses = [model(**rows).loss * n for rows, n in zip(alone, counts, strict=True)]
        torch.testing.assert_close(model(**both).loss, sum(losses) / sum(counts))


@torch.no_grad()
def test_loss_equals_the_language_models_own(build: Build, pictures: Pictures) -> None:
    """Answer-position logits and the missing mask change nothing against plain transformers."""
    model, processor = build()
    rows = batch(processor, pictures, count=3)
    visual = {k: v for k, v in rows.items() if k.startswith("pixel")}
    embeddings = model.embed(rows["input_ids"], model.encode_images(**visual), rows["image_counts"])
    lengths = (rows["input_ids"] != processor.tokenizer.pad_token_id).long()
    plain = model.language_model(
        inputs_embeds=embeddings, attention_mask=lengths, labels=rows["labels"]
    )
    ours = model(**rows)
    torch.testing.assert_close(ours.loss, plain.loss, rtol=1e-5, atol=1e-6)
    assert ours.logits.shape[0] == int((rows["labels"][:, 1:] != -100).sum())


@torch.no_grad()
def test_a_copy_of_the_ids_serves_as_labels(build: Build, pictures: Pictures) -> None:
    """Image tokens are in no vocabulary: they are not supervised, everything else is."""
    model, processor = build()
    turns = [Turn("user", "<image>\nWhat?")]
    inputs = processor.answer_inputs([processor.prompt(turns)], pictures[:1])
    ids = inputs["input_ids"]
    expected = ids.masked_fill(ids >= model.config.text_config.vocab_size, -100)
    assert int((expected == -100).sum()) == processor.visual_tokens + 2
    with torch.no_grad():
        whole = model(**inputs, labels=ids.clone())
        logits = model(**inputs).logits
    by_hand = torch.nn.functional.cross_entropy(logits[0, :-1], expected[0, 1:], ignore_index=-100)
    torch.testing.assert_close(whole.loss, by_hand)


def test_loss_is_divided_by_the_given_number_of_tokens(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    rows = batch(processor, pictures)
    own = int((rows["labels"][:, 1:] != -100).sum())
    torch.testing.assert_close(
        model(**rows).loss * own, model(**rows, num_items_in_batch=100).loss * 100
    )


def test_frozen_parts_stay_in_eval(build: Build) -> None:
    model, _ = build()
    freeze(model, "encoders.clip")
    model.train()
    assert not model.encoders["clip"].training and not model.encoders["clip"].backbone.training
    assert model.encoders["dinov2"].training and model.language_model.training


def test_mismatch_is_found_per_sample_even_when_totals_agree(
    build: Build, pictures: Pictures
) -> None:
    model, processor = build()
    rows = batch(processor, pictures)
    image = processor.image_token_ids_by_role.image
    first = int((rows["input_ids"][0] == image).nonzero()[0])
    second = int((rows["input_ids"][1] != image).nonzero()[0])
    rows["input_ids"][0, first], rows["input_ids"][1, second] = 5, image
    with pytest.raises(PlaceholderError, match=r"sample 0: 15 image tokens .* x 16 .* = 16"):
        model(**rows)


def test_missing_images_and_pixels_are_named(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    inputs = processor.answer_inputs(prompts(processor, "?"), pictures[:1])
    with pytest.raises(PlaceholderError, match="no image was given"):
        model.generate(inputs["input_ids"], max_new_tokens=2)
    with pytest.raises(PartError, match="pixel_values_dinov2"):
        model.encode_images(pixel_values_clip=inputs["pixel_values_clip"])


@torch.no_grad()
def test_stored_features_equal_pixels(build: Build, pictures: Pictures) -> None:
    model, processor = build()
    pixels = processor.pixels(pictures)
    bundle = model.encode(**pixels)
    stored = {f"features_{name}": torch.stack(f.levels, dim=1) for name, f in bundle.items()}
    assert torch.equal(model.encode_images(**stored).tokens, model.encode_images(**pixels).tokens)

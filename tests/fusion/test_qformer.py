"""The Q-Former: masks, passes, writing; checks of x-former.md §10 that need no second encoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Blip2Config, Blip2ForImageTextRetrieval, InstructBlipQFormerConfig
from transformers.models.instructblip.modeling_instructblip import InstructBlipQFormerModel

from image_text import (
    DECODE,
    IMAGE_WIDTH,
    PATCHES,
    SHAPES,
    SMALL,
    VOCABULARY,
    build,
    bundle,
    edited,
    largest,
    text,
)
from manyeyes.checkpoints.weight_names import our_tensors
from manyeyes.errors import DataError, PartError, RecipeError
from manyeyes.fusion import parse_fusion
from manyeyes.fusion.image_text import CAPTION, CONTRAST, MATCH, ImageTextFusion
from manyeyes.layers.attention.qformer import attention_mask
from manyeyes.layers.bundles import cast_features
from manyeyes.layers.negatives import draw_negatives, query_similarity
from manyeyes.losses.itc import contrastive_loss
from manyeyes.losses.itg import caption_loss
from manyeyes.records import FusionText, GridFeatures

BOTH = pytest.mark.parametrize("attention", ["sdpa", "eager"])


def with_attention(fusion: ImageTextFusion, attention: str) -> ImageTextFusion:
    fusion.qformer.set_attn_implementation(attention)
    return fusion


def exact(seed: int = 0) -> dict[str, GridFeatures]:
    """A bundle in float64, in which what should be equal differs by rounding far below 1e-6."""
    found = bundle(seed=seed, local=False)
    return {name: cast_features(features, torch.float64) for name, features in found.items()}


def reference(fusion: ImageTextFusion) -> Blip2ForImageTextRetrieval:
    """The retrieval model of ``transformers`` with the weights of ``fusion`` (no vision needed)."""
    config = Blip2Config(
        vision_config={"hidden_size": IMAGE_WIDTH, "num_hidden_layers": 1, "image_size": 4,
                       "patch_size": 4, "num_attention_heads": 2, "intermediate_size": 8},
        qformer_config=fusion.qformer.config.to_dict(),
        num_query_tokens=SMALL["queries"],
        image_text_hidden_size=SMALL["contrast_width"],
    )  # fmt: skip
    model = Blip2ForImageTextRetrieval(config).eval()
    state = model.state_dict()
    ours = {f"fusion.{name}": value for name, value in fusion.state_dict().items()}
    owned = [name for name in state if not name.startswith("vision_model")]
    taken = {name: ours[next(iter(our_tensors({name: state[name]}, "blip2")))] for name in owned}
    model.load_state_dict({**state, **taken})
    return model


class Given(torch.nn.Module):
    """Stands in for a vision model: returns states that were made elsewhere."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states

    def forward(self, **kwargs: Any) -> tuple[torch.Tensor]:
        return (self.states,)


@torch.no_grad()
def test_xformer_check_02_itc_and_itm_equal_transformers() -> None:
    fusion, images, words = build(ln_vision=False), bundle(local=False), text()
    model = reference(fusion)
    model.vision_model = Given(fusion.image_tokens(images))  # type: ignore[assignment]
    inputs = {"pixel_values": torch.zeros(3, 3, 4, 4), "input_ids": words.ids}
    expected = model(**inputs, attention_mask=words.mask).logits_per_image
    features = fusion.contrast_images(fusion.read(images)), fusion.contrast_texts(words)
    torch.testing.assert_close(query_similarity(*features), expected, rtol=1e-5, atol=1e-5)
    full = text(length=6)  # transformers cannot mask padding beside queries with these arguments
    full = FusionText(full.ids, torch.ones_like(full.mask))
    matched = model(
        pixel_values=inputs["pixel_values"], input_ids=full.ids, attention_mask=full.mask,
        use_image_text_matching_head=True,
    ).logits_per_image  # fmt: skip
    torch.testing.assert_close(fusion.match(images, full), matched, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_similarities_are_computed_in_float32_under_autocast() -> None:
    """Divided by the temperature, bfloat16's rounding would drown what tells pairs apart."""
    fusion, images, words = build(ln_vision=False), bundle(local=False), text()
    states, first = fusion.read(images).queries, fusion.read_text(words)[:, 0]

    def similarity() -> torch.Tensor:
        return query_similarity(
            fusion.heads.contrast_image(states), fusion.heads.contrast_text(first)
        )

    exact = similarity()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(similarity(), exact)
    halved = fusion.heads.to(torch.bfloat16)  # as FSDP2 gathers them
    assert halved.contrast_image(states.bfloat16()).dtype == torch.float32


@BOTH
@torch.no_grad()
def test_xformer_check_03_unimodal_mask_is_two_separate_passes(attention: str) -> None:
    fusion, images, words = with_attention(build().double(), attention), exact(), text()
    queries, states = fusion.run(images, fusion.refinement(images), words, "unimodal")
    assert largest(queries, fusion.run(images, fusion.refinement(images))[0]) < 1e-6
    real = words.mask.bool()
    assert largest(states[real], fusion.read_text(words)[real]) < 1e-6
    other, _ = fusion.run(images, fusion.refinement(images), edited(words, 2), "unimodal")
    assert torch.equal(other, queries)
    _, moved = fusion.run(exact(seed=5), fusion.refinement(images), words, "unimodal")
    assert largest(moved[real], states[real]) < 1e-6


@BOTH
@torch.no_grad()
def test_xformer_check_04_causal_mask_does_not_leak(attention: str) -> None:
    fusion, images, words = with_attention(build().double(), attention), exact(), text()
    queries, states = fusion.run(images, fusion.refinement(images), words, "causal")
    later, changed = fusion.run(images, fusion.refinement(images), edited(words, 3), "causal")
    assert largest(changed[:, :3], states[:, :3]) < 1e-6
    assert largest(changed[:, 3], states[:, 3]) > 1e-3
    assert largest(queries, fusion.run(images, fusion.refinement(images))[0]) < 1e-6
    assert largest(later, queries) < 1e-6


def word_logits(fusion: ImageTextFusion, images: Any, words: FusionText) -> torch.Tensor:
    """Logits ``[B, T - 1, V]`` of whole texts; position t predicts token t + 1."""
    whole = FusionText(words.ids, torch.ones_like(words.mask))
    logits, targets = fusion.caption_words(images, whole)
    rows, length = words.ids.shape
    assert logits.shape == (rows * (length - 1), VOCABULARY)
    assert torch.equal(targets.view(rows, length - 1), words.ids[:, 1:])
    return logits.view(rows, length - 1, VOCABULARY)


@BOTH
@torch.no_grad()
def test_xformer_check_04_no_logit_before_an_edited_token_changes(attention: str) -> None:
    fusion, images, words = with_attention(build().double(), attention), exact(), text()
    before = word_logits(fusion, images, words)
    for column in range(1, words.ids.shape[1] - 1):
        after = word_logits(fusion, images, edited(words, column))
        assert largest(after[:, :column], before[:, :column]) < 1e-6
        assert float((after[:, column:] - before[:, column:]).abs().amax(-1).min()) > 1e-5
    for query in range(fusion.query_tokens.shape[1]):
        kept = fusion.query_tokens[:, query].clone()
        fusion.query_tokens[:, query] = -kept
        after = word_logits(fusion, images, words)
        assert float((after - before).abs().amax(-1).min()) > 1e-5, "every logit reads every query"
        fusion.query_tokens[:, query] = kept


@BOTH
@torch.no_grad()
def test_xformer_check_05_bidirectional_mask_lets_all_see_all(attention: str) -> None:
    fusion, images, words = with_attention(build(), attention), bundle(local=False), text()
    before = fusion.read(images, words).queries
    difference = (fusion.read(images, edited(words, 2)).queries - before).abs().amax(dim=-1)
    assert float(difference.min()) > 1e-4
    padded = words.ids.clone()
    padded[1, 5:] = 9  # row 1 is one token shorter
    assert not torch.equal(padded, words.ids)
    assert torch.equal(fusion.read(images, FusionText(padded, words.mask)).queries, before)


def test_the_three_masks_written_out() -> None:
    mask = torch.tensor([[1, 1, 0]])
    rows = {
        kind: attention_mask(kind, 2, mask)[0, 0].int().tolist()  # type: ignore[arg-type]
        for kind in ("unimodal", "bidirectional", "causal")
    }
    assert rows["bidirectional"] == [[1, 1, 1, 1, 0]] * 5
    assert rows["unimodal"] == [[1, 1, 0, 0, 0]] * 2 + [[0, 0, 1, 1, 0]] * 3
    assert rows["causal"] == [[1, 1, 0, 0, 0]] * 2 + [
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
    ]


def test_xformer_check_10_contrast_by_hand() -> None:
    images = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8], [0.0, -1.0]]])
    texts = torch.tensor([[0.8, 0.6], [0.0, -1.0]])
    similarity = query_similarity(images, texts)
    torch.testing.assert_close(similarity, torch.tensor([[0.8, 0.0], [0.96, 1.0]]))

    def cross_entropy(row: list[float], own: int) -> float:
        logits = [value / 0.07 for value in row]
        log_sum = math.log(sum(math.exp(value) for value in logits))
        return sum(
            (0.95 if column == own else 0.05) * (log_sum - value)
            for column, value in enumerate(logits)
        )

    by_hand = (
        cross_entropy([0.8, 0.0], 0)
        + cross_entropy([0.96, 1.0], 1)
        + cross_entropy([0.8, 0.96], 0)
        + cross_entropy([0.0, 1.0], 1)
    ) / 4
    loss = contrastive_loss(similarity / 0.07, similarity.T / 0.07, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("pairs", [2, 7])
def test_xformer_check_10_equal_features_cost_the_logarithm(pairs: int) -> None:
    flat = torch.full((pairs, pairs), 3.7)
    loss = contrastive_loss(flat, flat, torch.arange(pairs))
    assert float(loss) == pytest.approx(math.log(pairs), rel=1e-6)


def test_xformer_check_11_own_pair_is_never_a_negative() -> None:
    similarity = torch.eye(4) * 100  # the own pair is by far the most similar
    for seed in range(50):
        drawn = draw_negatives(similarity, 0, torch.Generator().manual_seed(seed))
        assert not bool((drawn == torch.arange(4)).any())
    hard = torch.zeros(3, 3)
    hard[:, 2] = 30.0
    assert draw_negatives(hard, 0, torch.Generator().manual_seed(0))[:2].tolist() == [2, 2]


def test_negatives_are_drawn_in_proportion_to_the_softmax() -> None:
    similarity = torch.log(torch.tensor([[9.0, 1.0, 3.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_negatives(similarity, 0, generator) for _ in range(4000)])
    assert float((drawn[:, 0] == 2).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert float((drawn[:, 1] == 0).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_xformer_check_11_matching_batch() -> None:
    fusion, images, words = build(), bundle(4, local=False), text(4)
    torch.manual_seed(3)
    found = fusion.intermediates(images, words, MATCH)
    assert found["match_logits"].shape == (12, 2)
    assert found["match_labels"].tolist() == [1] * 4 + [0] * 8
    own = fusion.match(images, words).detach()
    torch.testing.assert_close(found["match_logits"][:4], own, rtol=1e-5, atol=1e-5)
    others = found["match_logits"][4:8].detach()  # own texts with other images
    assert float((own - others).abs().amax(dim=1).min()) > 1e-5


def test_xformer_check_12_captions_begin_with_dec_and_skip_padding() -> None:
    fusion, images, words = build(), bundle(local=False), text()
    seen: list[FusionText] = []
    states = fusion.caption_states
    fusion.caption_states = lambda b, w: (seen.append(w), states(b, w))[1]  # type: ignore[method-assign]
    found = fusion.intermediates(images, words, CAPTION)
    assert seen[0].ids[:, 0].tolist() == [DECODE] * 3
    assert torch.equal(seen[0].ids[:, 1:], words.ids[:, 1:])
    expected = [row[1:end] for row, end in zip(words.ids, words.mask.sum(1), strict=True)]
    assert torch.equal(found["caption_targets"], torch.cat(expected))
    assert found["caption_logits"].shape == (len(torch.cat(expected)), VOCABULARY)


def test_xformer_check_12_uniform_words_cost_the_logarithm() -> None:
    loss = caption_loss(torch.zeros(11, 30523), torch.arange(11))
    assert float(loss) == pytest.approx(math.log(30523), rel=1e-6)


def test_xformer_check_13_queries_differ_from_the_start() -> None:
    cls, options = parse_fusion({"name": "qformer", **SMALL})
    make: Any = cls
    torch.manual_seed(0)
    fusion = make(options, {"clip": SHAPES["clip"]}, 6).eval()
    for states in (fusion.query_tokens[0], fusion.read(bundle(local=False)).queries[0]):
        distances = torch.pdist(states.detach())
        assert float(distances.min()) > 1e-3
    assert float(fusion.query_tokens.detach().std()) == pytest.approx(0.02, rel=0.3)


@torch.no_grad()
def test_writing_repeats_the_likeliest_word() -> None:
    fusion, images = build(), bundle(local=False)
    rows = fusion.write(images, last=2, length=5)
    ids = torch.full((1, 1), DECODE)
    for _ in range(4):
        states = fusion.caption_states(
            {"clip": choose(images["clip"], 1)}, FusionText(ids, torch.ones_like(ids))
        )
        word = fusion.heads.words(states[:, -1], fusion.text.word_embeddings.weight)[
            0, :-1
        ].argmax()
        ids = torch.cat([ids, word[None, None]], dim=1)
        if word == 2:
            break
    assert rows[1].tolist() == [token for token in ids[0, 1:].tolist() if token != 2]


def choose(features: GridFeatures, row: int) -> GridFeatures:
    return GridFeatures(
        tuple(x[row : row + 1] for x in features.levels),
        features.level_indices,
        features.grid,
        tuple(x[row : row + 1] for x in features.prefix),
    )


@torch.no_grad()
def test_instruction_aware_reading_equals_instructblip() -> None:
    fusion, images, words = build(text="question", ln_vision=False), bundle(local=False), text()
    fields = fusion.qformer.config.to_dict()
    fields.pop("model_type")
    model = InstructBlipQFormerModel(InstructBlipQFormerConfig(**fields)).eval()
    state = {f"fusion.{name}": value for name, value in fusion.state_dict().items()}
    named = {
        name: state[next(iter(our_tensors({f"qformer.{name}": value}, "instructblip")))]
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(named)
    queries = fusion.query_tokens.expand(3, -1, -1)
    mask = torch.cat([torch.ones(3, queries.shape[1], dtype=torch.long), words.mask], dim=1)
    expected = model(
        input_ids=words.ids, attention_mask=mask, query_embeds=queries,
        encoder_hidden_states=fusion.image_tokens(images),
    ).last_hidden_state[:, : queries.shape[1]]  # fmt: skip
    tokens = fusion(images, words).tokens
    torch.testing.assert_close(tokens, fusion.projector(expected), rtol=1e-5, atol=1e-5)


def test_every_intermediate_and_parameter_is_used_by_the_three_objectives() -> None:
    fusion, images, words = build(), bundle(local=False), text()
    found = fusion.intermediates(images, words, (*CONTRAST, *MATCH, *CAPTION))
    total = sum(found[name].float().square().sum() for name in (*CONTRAST[:2], "match_logits"))
    (total + found["caption_logits"].square().sum()).backward()
    without = [name for name, p in fusion.named_parameters() if p.grad is None]
    assert without == ["projector.0.weight", "projector.0.bias"]


def test_class_token_and_patches_are_read() -> None:
    assert build().image_tokens(bundle(local=False)).shape == (3, 1 + PATCHES, IMAGE_WIDTH)


def test_a_single_pair_is_refused() -> None:
    fusion, images, words = build(), bundle(1, local=False), text(1)
    with pytest.raises(DataError, match=r"at least two pairs .* per_device_train_batch_size"):
        fusion.intermediates(images, words, MATCH)
    found = fusion.intermediates(images, words, CONTRAST)
    with pytest.raises(DataError, match=r"at least two pairs"):
        contrastive_loss(found["image_to_text"], found["text_to_image"], found["pair_index"])


def test_text_longer_than_the_positions_is_refused() -> None:
    long = text(length=40)
    with pytest.raises(DataError, match="40 tokens long; it has 32 positions"):
        build().read(bundle(local=False), long)
    with pytest.raises(PartError, match="text_length 64 is more than max_positions 32"):
        build(text_length=64)


def test_texts_and_images_must_pair_up() -> None:
    with pytest.raises(DataError, match="2 texts for 3 images"):
        build().intermediates(bundle(local=False), text(2), CONTRAST)


def test_objectives_need_the_caption_side() -> None:
    for captions, options in ((None, {}), (text(), {"text": "none"})):
        with pytest.raises(PartError, match=r"fusion\.text: caption"):
            build(**options).intermediates(bundle(local=False), captions, CONTRAST)
    with pytest.raises(PartError, match="question_ids"):
        build(text="question")(bundle(local=False))


def test_wrong_options_are_named() -> None:
    with pytest.raises(RecipeError, match="did you mean 'caption'"):
        parse_fusion({"name": "qformer", "text": "captions"})
    for heads, said in ((3, "3 heads do not divide the width 16"), (0, "heads: 0 is not a whole")):
        with pytest.raises(RecipeError, match=said):
            build(heads=heads)
    with pytest.raises(PartError, match="'dino' is no encoder of clip"):
        build(image_encoder="dino")


def test_tokenizer_and_vocabulary_must_agree(parts: Path) -> None:
    from manyeyes.conversation.fusion_text import ReaderSpec, TextReader

    with pytest.raises(PartError, match=r"vocab_size is 7, but the tokenizer .* has \d+ entries"):
        TextReader.from_spec(ReaderSpec(str(parts / "llama"), "caption", 32, 7))

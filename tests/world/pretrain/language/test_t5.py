"""The encoder-decoder language model: its passages, its objective, and what it has in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast

from manyeyes.layers.grid_positions import visual_positions
from manyeyes.records import IGNORE
from manyeyes.world.pretrain.language.layouts import (
    CELLS,
    GRID,
    LAYOUT_LENGTH,
    LAYOUT_START,
    embed_rows,
)
from manyeyes.world.pretrain.language.lessons import PASSAGE_LESSONS
from manyeyes.world.pretrain.language.passages import (
    PAIRS,
    Pair,
    Passage,
    batch_passages,
    encode_passage,
)
from manyeyes.world.pretrain.language.t5 import (
    HEADS,
    SELF_BIAS,
    WIDTH,
    T5Objective,
    reading_figures,
    reply_logits,
)
from manyeyes.world.pretrain.loop import train


@pytest.mark.parametrize("form", ["words", "layout"])
def test_pairs_are_the_chat_template_cut_at_the_assistant(
    form: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    """What the encoder and the decoder read is what a processor makes of the same exchange."""
    passage = encode_passage(PASSAGE_LESSONS[-1].end, 0, tokenizer, form=form)  # type: ignore[arg-type]
    assert len(passage.pairs) >= 2
    for pair in passage.pairs:
        ids = list(pair.ids)
        if form == "layout":
            assert (
                ids[LAYOUT_START : LAYOUT_START + LAYOUT_LENGTH]
                == [tokenizer.pad_token_id] * LAYOUT_LENGTH
            )
            del ids[LAYOUT_START : LAYOUT_START + LAYOUT_LENGTH]
        asked = tokenizer.decode(ids).removeprefix("<s><|user|>").removesuffix("<|assistant|>")
        reply = tokenizer.decode(pair.reply)
        assert reply.startswith(" ") and reply.endswith("</s>")
        turns = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": reply[1:].removesuffix("</s>")},
        ]
        chat = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
        assert chat == ids + pair.reply
        assert "<image>" not in asked and "<boxes>" not in asked + reply


def test_passages_repeat_exactly_and_withhold_the_scene(tokenizer: PreTrainedTokenizerFast) -> None:
    first = [encode_passage(index, 0, tokenizer).pairs for index in range(4)]
    assert first == [encode_passage(index, 0, tokenizer).pairs for index in range(4)]
    assert all(1 <= len(pairs) <= PAIRS for pairs in first)
    told = encode_passage(3, 0, tokenizer, split="val", form="layout")
    blind = encode_passage(3, 0, tokenizer, split="val", form="layout", described=False)
    assert told.layout is not None and blind.layout is None
    assert min(len(pair.ids) for pair in told.pairs) > CELLS
    assert max(len(pair.ids) for pair in blind.pairs) < CELLS


def test_batches_pad_on_the_right_and_share_layouts() -> None:
    layout = torch.ones(CELLS, 12)
    ids = [1, 2, *[0] * LAYOUT_LENGTH, 3]
    batch = batch_passages(
        [
            Passage((Pair("a", [1, 4], [5, 6]),)),
            Passage((Pair("b", ids, [7]), Pair("c", [*ids, 8], [9, 9, 9])), layout),
        ],
        pad=0,
    )
    assert batch.ids.shape == (3, LAYOUT_LENGTH + 4)
    assert batch.mask.sum(dim=1).tolist() == [2, LAYOUT_LENGTH + 3, LAYOUT_LENGTH + 4]
    assert batch.labels.tolist() == [[5, 6, IGNORE], [7, IGNORE, IGNORE], [9, 9, 9]]
    expected = torch.tensor([[2**-0.5, 2**-0.5, 0], [1, 0, 0], [3**-0.5] * 3])
    assert torch.allclose(batch.weights, expected)
    assert batch.layouts.rows.tolist() == [1, 2] and batch.layouts.sources.tolist() == [0, 0]
    table = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    embeds = embed_rows(table, batch.ids, batch.layouts)
    cells = slice(LAYOUT_START + 1, LAYOUT_START + 1 + CELLS)
    told = layout @ table + visual_positions(table, GRID, GRID)
    assert torch.allclose(embeds[2, cells], told)
    assert torch.equal(embeds[2, cells.stop + 1 :], table[batch.ids[2, cells.stop + 1 :]])
    assert torch.equal(embeds[0], table[batch.ids[0]])


def test_learns_and_exports(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    objective = T5Objective(0, tokenizer, images_per_step=2)
    with torch.no_grad():
        before = float(objective.loss(0)[0])
    train(objective, tmp_path / "run", steps=12)
    with torch.no_grad():
        after = float(objective.loss(0)[0])
    assert after < 0.9 * before
    objective.export(tmp_path / "part")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "part", dtype=torch.bfloat16)
    assert model.config.dense_act_fn == "gelu" and model.config.is_gated_act
    assert AutoTokenizer.from_pretrained(tmp_path / "part").get_vocab() == tokenizer.get_vocab()
    saved = dict(model.named_parameters())
    for name, weight in objective.network.named_parameters():
        assert torch.equal(saved[name], weight.detach().to(torch.bfloat16)), name


def test_padding_changes_no_reply(tokenizer: PreTrainedTokenizerFast) -> None:
    network = T5Objective(0, tokenizer).network.eval()
    passages = [encode_passage(i, 0, tokenizer, split="val", form="words") for i in (0, 1)]
    pad = int(tokenizer.pad_token_id)
    with torch.no_grad():
        both = reply_logits(network, batch_passages(passages, pad))
        alone = reply_logits(network, batch_passages(passages[:1], pad))
    first = passages[0].pairs
    for row, pair in enumerate(first):
        length = len(pair.reply)
        assert torch.allclose(both[row, :length], alone[row, :length], atol=0.05, rtol=0.02)


def test_attention_starts_by_matching_and_copying(tokenizer: PreTrainedTokenizerFast) -> None:
    network = T5Objective(0, tokenizer).network
    attentions = [block.layer[0].SelfAttention for block in network.encoder.block]
    attentions += [block.layer[0].SelfAttention for block in network.decoder.block]
    attentions += [block.layer[1].EncDecAttention for block in network.decoder.block]
    for attention in attentions:
        queries, keys = (
            p.weight.view(HEADS, WIDTH // HEADS, -1) for p in (attention.q, attention.k)
        )
        equal = [torch.equal(q, k) for q, k in zip(queries, keys, strict=True)]
        assert equal == [True, False] * (HEADS // 2)
        assert torch.equal(attention.o.weight, attention.v.weight.T)
    bias = attentions[0].compute_bias(3, 3)[0]
    assert (bias[::2].diagonal(dim1=1, dim2=2) == SELF_BIAS).all()
    assert (bias[1::2].diagonal(dim1=1, dim2=2) != SELF_BIAS).all()


def test_figures_count_every_reply(tokenizer: PreTrainedTokenizerFast) -> None:
    objective = T5Objective(0, tokenizer, images_per_step=2)
    figures = reading_figures(objective.network.eval(), tokenizer, 0, number=5, batch=3)
    passages = [encode_passage(i, 0, tokenizer, split="val", form="words") for i in range(5)]
    assert figures["all"]["n"] == sum(len(passage.pairs) for passage in passages)
    assert figures["all"]["exact"] < 5.0 < 100 * figures["all"]["nats"]

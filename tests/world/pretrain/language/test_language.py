"""The language model's documents and objective: deterministic, words only, and it learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from manyeyes.bridge import Given, ImageTokenIds
from manyeyes.bridge.placeholder import PlaceholderBridge, PlaceholderOptions
from manyeyes.world.pretrain.cards import read_card
from manyeyes.world.pretrain.language.chats import (
    CONTEXT_WEIGHT,
    SLOT,
    TaughtText,
    Text,
    batch_documents,
    encode_document,
)
from manyeyes.world.pretrain.language.decoder import (
    HEADS,
    WIDTH,
    LanguageObjective,
)
from manyeyes.world.pretrain.language.documents import document_scene
from manyeyes.world.pretrain.language.layouts import (
    CELLS,
    GRID,
    LAYOUT_LENGTH,
    LAYOUT_START,
    embed_rows,
)
from manyeyes.world.pretrain.language.lessons import CHAT_LESSONS, Lesson
from manyeyes.world.pretrain.language.reading import reading_figures
from manyeyes.world.pretrain.loop import train
from manyeyes.world.pretrain.run import pretrain
from manyeyes.world.sample import sample_scene

pytestmark = pytest.mark.long


def test_texts_learn_from_replies(tokenizer: PreTrainedTokenizerFast) -> None:
    document = encode_document(0, 0, tokenizer, form="words")
    assert tokenizer.decode(document.beginning).startswith("<s><|user|>")
    for text in document.texts:
        words = tokenizer.decode(text.ids)
        assert words.startswith("\n") and words.endswith("</s>")
        assert "<image>" not in words and "<boxes>" not in words
        learnt = [t for t, w in zip(text.ids, text.weights, strict=True) if w > CONTEXT_WEIGHT]
        spans = [tokenizer.decode(text.ids[r.start : r.stop]) for _, r in text.replies]
        assert tokenizer.decode(learnt) == "".join(spans)
        assert all(span.startswith(" ") and span.endswith("</s>") for span in spans)
        for _, tokens in text.replies:
            assert {text.weights[i] for i in tokens} == {len(tokens) ** -0.5}


def test_documents_match_the_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    """Beginning and text together are the ids that the tokenizer gives for the conversation."""
    document = encode_document(0, 0, tokenizer, form="words")
    assert any(len(text.replies) > 1 for text in document.texts)
    for part in document.texts:
        text = tokenizer.decode(document.beginning + part.ids)
        messages = []
        for turn in text.removeprefix("<s>").split("<|user|>")[1:]:
            asked, _, replied = turn.partition("<|assistant|>")
            messages.append({"role": "user", "content": asked})
            messages.append({"role": "assistant", "content": replied[1:].removesuffix("</s>")})
        assert len(messages) == 2 * len(part.replies)
        again = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        assert again == document.beginning + part.ids


def test_documents_repeat_exactly_and_differ(tokenizer: PreTrainedTokenizerFast) -> None:
    first = [encode_document(index, 0, tokenizer).texts for index in range(5)]
    assert first == [encode_document(index, 0, tokenizer).texts for index in range(5)]
    assert len({str(texts) for texts in first}) == 5
    assert encode_document(0, 0, tokenizer, split="val").texts != first[0]


def test_documents_show_no_scene_of_the_data_splits() -> None:
    for split in ("train", "val", "test"):
        assert document_scene(split, 0, 0).objects != sample_scene(split, 0, 0).objects


def test_texts_are_packed_behind_their_beginnings() -> None:
    """Longest first into slots; each position says what follows it in its own text."""
    long, short = Text([9] * (SLOT - 2), [1.0] * (SLOT - 2), ()), Text([5, 6], [0.0, 1.0], ())
    other = Text([7, 8, 4], [0.0, 0.5, 1.0], (("color", range(1, 3)),))
    batch = batch_documents([TaughtText([1, 2, 3], (short, long, other)), TaughtText([1], ())], 0)
    assert batch.ids.shape == (2, 3 + 2 * SLOT)
    first, second = batch.ids[0, 3 : 3 + SLOT].tolist(), batch.ids[0, 3 + SLOT :].tolist()
    assert first == [*long.ids, 5, 6] and second[:3] == other.ids and not any(second[3:])
    assert batch.shared.beginning.tolist() == [[True] * 3, [True, False, False]]
    assert batch.positions[0, 3 : 3 + SLOT].tolist() == [*range(3, 1 + SLOT), 3, 4]
    (reply,) = batch.replies
    assert (reply.document, reply.kind) == (0, "color")
    assert batch.goals[0, reply.first : reply.end].tolist() == [8, 4]
    assert batch.weights[0, reply.first : reply.end].tolist() == [0.5, 1.0]
    assert float(batch.weights[0].sum()) == (SLOT - 3) + 1.0 + 1.5
    reads = batch.shared.slots[0, 0]
    assert reads[SLOT - 1].nonzero().flatten().tolist() == [SLOT - 2, SLOT - 1]
    assert reads[4].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]


def test_a_layout_stands_where_an_image_stands(tokenizer: PreTrainedTokenizerFast) -> None:
    """Its ids are those of the chat with an image between its two markers."""
    document = encode_document(3, 0, tokenizer, form="layout")
    gap = document.beginning[LAYOUT_START:]
    assert gap == [tokenizer.pad_token_id] * LAYOUT_LENGTH and LAYOUT_LENGTH == CELLS + 2
    content = [{"type": "image"}, {"type": "text", "text": "\nWhy?"}]
    ids = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    before, after = (
        tokenizer(part, add_special_tokens=False)["input_ids"] for part in ids.split("<image>")
    )
    assert document.beginning[:LAYOUT_START] == before
    assert {text.ids[0] for text in document.texts} == {after[0]}


@pytest.mark.parametrize("lesson", CHAT_LESSONS, ids=lambda lesson: str(lesson.end))
def test_lessons_ask_what_they_say(lesson: Lesson, tokenizer: PreTrainedTokenizerFast) -> None:
    documents = [encode_document(lesson.end - 1 - i, 0, tokenizer) for i in range(30)]
    chats = [document for document in documents if _kinds(document)]
    layouts = [document for document in chats if document.layout is not None]
    assert (len(layouts) < len(chats)) == (lesson.words > 0)
    assert all(document.clean == lesson.clean for document in layouts)
    asked = {kind for document in layouts for kind in _kinds(document)}
    if lesson.captions:
        assert asked > {"rec", "caption", "relation"}
    else:
        assert asked == set(lesson.layout_weights) and len(chats) == 30
    told = [[kind for kind in _kinds(document) if kind != "repeat"] for document in chats]
    assert max(len(kinds) for kinds in told) <= lesson.exchanges


def test_boxes_are_copied_from_descriptions_that_have_them(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    last = CHAT_LESSONS[-1].end
    documents = [encode_document(last + i, 0, tokenizer, form="words") for i in range(12)]
    copied = 0
    for document in documents:
        described = tokenizer.decode(document.beginning)
        for text in document.texts:
            for kind, span in text.replies:
                if kind == "rec":
                    assert (
                        tokenizer.decode(text.ids[span.start : span.stop - 1]).strip() in described
                    )
                    copied += 1
    assert copied > 5


def test_the_last_lesson_has_both_forms(tokenizer: PreTrainedTokenizerFast) -> None:
    first = CHAT_LESSONS[-1].end
    documents = [encode_document(first + i, 0, tokenizer) for i in range(60)]
    layouts = [document.layout is not None for document in documents if _kinds(document)]
    assert 0.5 < sum(layouts) / len(layouts) < 0.97
    assert len(layouts) < 60  # the others are bare captions


def test_layouts_go_through_the_door_of_images(tokenizer: PreTrainedTokenizerFast) -> None:
    """Their places hold what the bridge puts there, markers and positions included."""
    last = CHAT_LESSONS[-1].end
    documents = [encode_document(last, 0, tokenizer, form=form) for form in ("words", "layout")]
    batch = batch_documents(documents, int(tokenizer.pad_token_id))
    assert batch.layouts.rows.tolist() == [1]
    table = torch.randn(len(tokenizer), WIDTH, generator=torch.Generator().manual_seed(0))
    embeds = embed_rows(table, batch.ids, batch.layouts)
    assert torch.equal(embeds[0], table[batch.ids[0]])
    assert documents[1].layout is not None
    language = LlamaConfig(hidden_size=WIDTH, num_attention_heads=HEADS)
    options = PlaceholderOptions(positions="learned")
    bridge = PlaceholderBridge(options, language, Given(CELLS, grid=(GRID, GRID)))
    bridge.start_from(table)
    ids = ImageTokenIds(len(tokenizer), len(tokenizer) + 1, len(tokenizer) + 2)
    shown = torch.tensor([[*documents[1].beginning[:LAYOUT_START], ids.start]])
    shown = torch.cat([shown, torch.tensor([[ids.image] * CELLS + [ids.end]])], dim=1)
    words = functional.embedding(shown.clamp(max=len(tokenizer) - 1), table)
    expected = bridge(words, shown, (documents[1].layout @ table)[None], [1], ids)
    torch.testing.assert_close(embeds[1, : shown.shape[1]], expected[0].detach())


def test_noise_reaches_the_cells_of_blurred_layouts_alone(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    blurred = encode_document(CHAT_LESSONS[-1].end, 0, tokenizer, form="layout")
    batch = batch_documents([blurred, encode_document(0, 0, tokenizer)], 0)
    assert batch.layouts.noisy.tolist() == [1.0, 0.0]
    table = torch.randn(len(tokenizer), WIDTH)
    plain = embed_rows(table, batch.ids, batch.layouts)
    noisy = embed_rows(table, batch.ids, batch.layouts, torch.Generator().manual_seed(1))
    changed = (plain != noisy).any(dim=-1).nonzero().tolist()
    first = LAYOUT_START + 1
    assert changed == [[0, place] for place in range(first, first + CELLS)]


def test_learns_and_exports(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    objective = LanguageObjective(0, tokenizer, images_per_step=2)
    with torch.no_grad():
        before = float(objective.loss(0)[0])
    state = train(objective, tmp_path / "run", steps=20)
    with torch.no_grad():
        after = float(objective.loss(0)[0])
    assert state.step == 20 and after < 0.9 * before
    objective.export(tmp_path / "part")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "part", dtype=torch.bfloat16)
    again = AutoTokenizer.from_pretrained(tmp_path / "part")
    assert again.chat_template == tokenizer.chat_template
    saved = dict(model.named_parameters())
    for name, weight in objective.network.named_parameters():
        assert torch.equal(saved[name], weight.detach().to(torch.bfloat16)), name


def test_attention_starts_by_matching_and_copying(tokenizer: PreTrainedTokenizerFast) -> None:
    network = LanguageObjective(0, tokenizer).network
    for layer in network.model.layers:
        attention = layer.self_attn
        queries, keys = (
            p.weight.view(HEADS, WIDTH // HEADS, -1) for p in (attention.q_proj, attention.k_proj)
        )
        equal = [torch.equal(q, k) for q, k in zip(queries, keys, strict=True)]
        assert equal == [True, False] * (HEADS // 2)
        assert torch.equal(attention.o_proj.weight, attention.v_proj.weight.T)


def test_figures_count_every_reply(tokenizer: PreTrainedTokenizerFast) -> None:
    objective = LanguageObjective(0, tokenizer, images_per_step=2)
    figures = reading_figures(objective.network.eval(), tokenizer, 0, number=6, batch=4)
    replies = [
        kind
        for index in range(6)
        for kind in _kinds(encode_document(index, 0, tokenizer, split="val", form="words"))
    ]
    assert figures["all"]["n"] == len(replies)
    assert sum(f["n"] for kind, f in figures.items() if kind != "all") == len(replies)
    assert figures["all"]["exact"] < 5.0 < 100 * figures["all"]["nats"]


def test_pretraining_writes_a_card_and_repeats_exactly(
    tmp_path: Path, few_documents: Callable[[int], None]
) -> None:
    part = "language"
    few_documents(3)
    threads = torch.get_num_threads()
    card = pretrain(part, tmp_path / "one", steps=2, threads=threads)
    assert read_card(tmp_path / "one" / part).files == card.files
    assert card.training["first document"] == 0
    assert "weights at the start" not in card.training
    for form in ("layouts", "descriptions"):
        table = card.figures[f"reading of held-out {form}"]
        assert table["all"]["replies"] > 20 and table["all"]["perplexity"] > 1
        assert "exact, scene withheld" in table["all"]
    again = pretrain(part, tmp_path / "two", steps=2, threads=threads)
    assert again.files == card.files
    resumed = pretrain(part, tmp_path / "two", steps=2, threads=threads, resume=True)
    assert resumed.files == card.files


def _kinds(document: TaughtText) -> list[str]:
    return [kind for text in document.texts for kind, _ in text.replies]

"""The language model's documents and objective: deterministic, words only, and it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from manyeyes.world.pretrain import run_language
from manyeyes.world.pretrain.cards import read_card
from manyeyes.world.pretrain.chats import (
    CONTEXT_WEIGHT,
    Document,
    batch_documents,
    encode_document,
)
from manyeyes.world.pretrain.documents import corpus, document_scene
from manyeyes.world.pretrain.language import (
    HEADS,
    WIDTH,
    LanguageObjective,
    embed_documents,
    reading_figures,
)
from manyeyes.world.pretrain.layouts import CELLS, LAYOUT_START
from manyeyes.world.pretrain.lessons import CHAT_LESSONS, Lesson
from manyeyes.world.pretrain.loop import train
from manyeyes.world.pretrain.run_language import pretrain_language
from manyeyes.world.sample import sample_scene
from manyeyes.world.tokenizer import train_tokenizer

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(corpus(100, 0))


def test_documents_are_chats_that_learn_from_replies(tokenizer: PreTrainedTokenizerFast) -> None:
    document = _first_chat(tokenizer)
    text = tokenizer.decode(document.ids)
    assert text.startswith("<s><|user|>") and text.endswith("</s>")
    assert "<image>" not in text and "<boxes>" not in text
    learnt = [t for t, w in zip(document.ids, document.weights, strict=True) if w > CONTEXT_WEIGHT]
    spans = [tokenizer.decode(document.ids[r.start : r.stop]) for _, r in document.replies]
    assert tokenizer.decode(learnt) == "".join(spans)
    assert all(span.startswith(" ") and span.endswith("</s>") for span in spans)
    for _, tokens in document.replies:
        assert {document.weights[i] for i in tokens} == {len(tokens) ** -0.5}
    assert document.weights[0] == 0.0 and document.weights[1] == CONTEXT_WEIGHT


def test_documents_match_the_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    """The ids are those that the tokenizer gives for the same conversation."""
    document = _first_chat(tokenizer)
    text = tokenizer.decode(document.ids)
    messages = []
    for turn in text.removeprefix("<s>").split("<|user|>")[1:]:
        asked, _, replied = turn.partition("<|assistant|>")
        messages.append({"role": "user", "content": asked})
        messages.append({"role": "assistant", "content": replied[1:].removesuffix("</s>")})
    again = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    assert again == document.ids


def test_documents_repeat_exactly_and_differ(tokenizer: PreTrainedTokenizerFast) -> None:
    first = [encode_document(index, 0, tokenizer).ids for index in range(5)]
    assert first == [encode_document(index, 0, tokenizer).ids for index in range(5)]
    assert len({tuple(ids) for ids in first}) == 5
    assert encode_document(0, 0, tokenizer, split="val").ids != first[0]


def test_documents_show_no_scene_of_the_data_splits() -> None:
    for split in ("train", "val", "test"):
        assert document_scene(split, 0, 0).objects != sample_scene(split, 0, 0).objects


def test_padding_carries_no_weight() -> None:
    batch = batch_documents([Document([5, 6, 7], [0, 1, 1], ()), Document([8], [1], ())], 9)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.weights.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert batch.layouts.rows.tolist() == []


def test_a_layout_stands_where_an_image_stands(tokenizer: PreTrainedTokenizerFast) -> None:
    """Its ids are those of the chat with an image; the replies alone are learnt from."""
    document = encode_document(3, 0, tokenizer, form="layout")
    cells = range(LAYOUT_START, LAYOUT_START + CELLS)
    assert [document.ids[i] for i in cells] == [tokenizer.pad_token_id] * CELLS
    assert {document.weights[i] for i in cells} == {0.0}
    content = [{"type": "image"}, {"type": "text", "text": "\nWhy?"}]
    ids = tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    before, after = (
        tokenizer(part, add_special_tokens=False)["input_ids"] for part in ids.split("<image>")
    )
    assert document.ids[:LAYOUT_START] == before
    assert document.ids[cells.stop] == after[0]
    words = tokenizer.decode(document.ids[cells.stop :])
    assert words.startswith("\n") and "<image>" not in words and "<boxes>" not in words


@pytest.mark.parametrize("lesson", CHAT_LESSONS, ids=lambda lesson: str(lesson.end))
def test_lessons_ask_what_they_say(lesson: Lesson, tokenizer: PreTrainedTokenizerFast) -> None:
    documents = [encode_document(lesson.end - 1 - i, 0, tokenizer) for i in range(30)]
    chats = [document for document in documents if document.replies]
    layouts = [document for document in chats if document.layout is not None]
    assert (len(layouts) < len(chats)) == (lesson.words > 0)
    assert all(document.clean == lesson.clean for document in layouts)
    asked = {kind for document in layouts for kind, _ in document.replies}
    if lesson.captions:
        assert asked > {"rec", "caption", "relation"}
    else:
        assert asked == set(lesson.layout_weights) and len(chats) == 30
    assert max(len(document.replies) for document in chats) <= lesson.exchanges


def test_boxes_are_copied_from_descriptions_that_have_them(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    lesson = CHAT_LESSONS[-2]
    assert lesson.placeless == 0.0
    documents = [encode_document(lesson.end - 1 - i, 0, tokenizer) for i in range(30)]
    for document in (document for document in documents if document.layout is None):
        boxes = [
            tokenizer.decode(document.ids[tokens.start : tokens.stop - 1]).strip()
            for kind, tokens in document.replies
            if kind == "rec"
        ]
        described = tokenizer.decode(document.ids[: document.replies[0][1].start])
        assert boxes and all(box in described for box in boxes)


def test_the_last_lesson_has_both_forms(tokenizer: PreTrainedTokenizerFast) -> None:
    first = CHAT_LESSONS[-1].end
    documents = [encode_document(first + i, 0, tokenizer) for i in range(60)]
    layouts = [document.layout is not None for document in documents if document.replies]
    assert 0.5 < sum(layouts) / len(layouts) < 0.95
    assert len(layouts) < 60  # the others are bare captions


def test_layouts_take_the_place_of_padding(tokenizer: PreTrainedTokenizerFast) -> None:
    objective = LanguageObjective(0, tokenizer)
    last = CHAT_LESSONS[-1].end
    documents = [encode_document(last, 0, tokenizer, form=form) for form in ("words", "layout")]
    batch = batch_documents(documents, int(tokenizer.pad_token_id))
    assert batch.layouts.rows.tolist() == [1]
    embeds = embed_documents(objective.network, batch)
    table = objective.network.get_input_embeddings().weight
    assert torch.equal(embeds[0], table[batch.ids[0]])
    assert documents[1].layout is not None
    cells = slice(LAYOUT_START, LAYOUT_START + CELLS)
    assert torch.allclose(embeds[1, cells], documents[1].layout @ table)
    assert torch.equal(embeds[1, cells.stop :], table[batch.ids[1, cells.stop :]])
    noisy = embed_documents(objective.network, batch, torch.Generator().manual_seed(1))
    assert torch.equal(noisy[0], embeds[0]) and not torch.equal(noisy[1], embeds[1])
    assert torch.equal(noisy[1, cells.stop :], embeds[1, cells.stop :])
    clean = batch_documents([encode_document(0, 0, tokenizer)], int(tokenizer.pad_token_id))
    noise = torch.Generator().manual_seed(1)
    assert torch.equal(
        embed_documents(objective.network, clean, noise), embed_documents(objective.network, clean)
    )


def test_learns_and_exports(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    objective = LanguageObjective(0, tokenizer, images_per_step=2)
    with torch.no_grad():
        before = float(objective.loss(0)[0])
    state = train(objective, tmp_path / "run", steps=10)
    with torch.no_grad():
        after = float(objective.loss(0)[0])
    assert state.step == 10 and after < 0.9 * before
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
        for kind, _ in encode_document(index, 0, tokenizer, split="val", form="words").replies
    ]
    assert figures["all"]["n"] == len(replies)
    assert sum(f["n"] for kind, f in figures.items() if kind != "all") == len(replies)
    assert figures["all"]["exact"] < 5.0 < 100 * figures["all"]["nats"]


def test_pretraining_writes_a_card_and_repeats_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_language, "CORPUS_CONVERSATIONS", 30)
    threads = torch.get_num_threads()
    card = pretrain_language("language", tmp_path / "one", steps=2, measured=3, threads=threads)
    assert read_card(tmp_path / "one/language").files == card.files
    for form in ("layouts", "descriptions"):
        table = card.figures[f"reading of held-out {form}"]
        assert table["all"]["replies"] > 20 and table["all"]["perplexity"] > 1
        assert "exact, scene withheld" in table["all"]
    again = pretrain_language("language", tmp_path / "two", steps=2, measured=3, threads=threads)
    assert again.files == card.files
    resumed = pretrain_language(
        "language", tmp_path / "two", steps=2, measured=3, threads=threads, resume=True
    )
    assert resumed.files == card.files


def _first_chat(tokenizer: PreTrainedTokenizerFast) -> Document:
    return encode_document(0, 0, tokenizer, form="words")

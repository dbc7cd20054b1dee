"""Tags in the prompt and the soft prompt: LION's acceptance checks 11 to 13, and bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

import tiny
from lion_parts import build_lion, lion_block
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.conversation.tags import SLOT, put_tags, tag_sentence, without_slots
from manyeyes.errors import DataError, RecipeError
from manyeyes.records import IGNORE, FusionText, Perceived, Sample, Tags, Turn

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]
Build = Callable[..., Built]
Pictures = list[Image.Image]

QUESTION = "What is in the photo?"
PREFIX = (
    "According to <extra_id_0>, you are allowed to use or partially use the following tags: "
    "[a, b]. "
)
MANY = tuple(f"tag{number}" for number in range(300))


@pytest.fixture(scope="module")
def sentinel_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 whose vocabulary holds the sentinel, as the real ones do."""
    folder = tiny.save_t5(tmp_path_factory.mktemp("t5"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": [SLOT]})
    torch.manual_seed(4)
    config = T5Config.from_pretrained(folder, vocab_size=len(tokenizer))
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def made(build: Build, language: Path, tags: str = "soft", **changes: Any) -> Built:
    return build(
        language={"checkpoint": str(language)},
        prompt_style="plain",
        bridge={"name": "placeholder", "start_end": False, "tags": tags},
        **changes,
    )


def sample(tags: Tags | None = (("a", "b"),), question: str = QUESTION) -> Sample:
    turns = (Turn("user", f"<image>\n{question}"), Turn("assistant", "a dog"))
    return Sample("s", ("x.png",), turns, tags=tags)


def text_of(processor: ManyEyesProcessor, row: Any) -> str:
    image = processor.image_token_ids_by_role.image
    kept = [int(token) for token in row["input_ids"] if int(token) != image]
    return str(processor.tokenizer.decode(kept))


@torch.no_grad()
def test_lion_check_11_one_position_per_sample_is_replaced(
    build: Build, sentinel_t5: Path, pictures: Pictures
) -> None:
    model, processor = made(build, sentinel_t5)
    slot = processor.image_token_ids_by_role.slot
    vocabulary = model.config.text_config.vocab_size
    assert slot < vocabulary, "the sentinel is the tokenizer's own"
    rows = [processor.encode(sample(), pictures[:1]), processor.encode(sample(), pictures[:1])]
    ids = processor.collate(rows)["input_ids"]
    assert (ids == slot).sum(dim=1).tolist() == [1, 1]
    text = ids[:, tiny.NUM_PATCHES :]
    plain = model.language_model.get_input_embeddings()(text)
    soft = model.embed(text, None, None)
    assert model.bridge.soft_prompt is not None
    assert torch.equal(soft[text == slot], model.bridge.soft_prompt.vector.expand(2, -1))
    assert torch.equal(soft[text != slot], plain[text != slot])
    assert not torch.equal(soft[text == slot], plain[text == slot])
    model.bridge.soft_prompt.vector.copy_(model.language_model.get_input_embeddings().weight[slot])
    assert torch.equal(model.embed(text, None, None), plain)


def test_lion_check_11_text_without_tags_has_no_slot(
    build: Build, sentinel_t5: Path, pictures: Pictures
) -> None:
    model, processor = made(build, sentinel_t5, tags="none")
    row = processor.encode(sample(), pictures[:1])
    assert text_of(processor, row) == f"\n{QUESTION}"
    assert model.bridge.soft_prompt is None
    hard, hard_processor = made(build, sentinel_t5, tags="hard")
    written = text_of(hard_processor, hard_processor.encode(sample(), pictures[:1]))
    assert "You are allowed to use or partially use the following tags: [a, b]. W" in written
    assert SLOT not in written and hard.bridge.soft_prompt is None


def test_lion_check_11_the_gradient_is_the_sum_over_the_batch(
    build: Build, sentinel_t5: Path, pictures: Pictures
) -> None:
    model, processor = made(build, sentinel_t5)
    model.train()
    rows = [
        processor.encode(sample(), pictures[:1]),
        processor.encode(sample(((),), "Why?"), pictures[:1]),
    ]
    gradients = []
    for group in (rows, rows[:1], rows[1:]):
        model.zero_grad()
        model(**processor.collate(group), num_items_in_batch=1).loss.backward()
        assert model.bridge.soft_prompt is not None
        gradient = model.bridge.soft_prompt.vector.grad
        assert gradient is not None
        gradients.append(gradient.clone())
    assert gradients[1].abs().sum() > 0 and gradients[2].abs().sum() > 0
    torch.testing.assert_close(gradients[0], gradients[1] + gradients[2], rtol=1e-3, atol=1e-5)


def test_the_soft_prompt_starts_as_t5_embeddings_do(build: Build, sentinel_t5: Path) -> None:
    model, _ = made(build, sentinel_t5)
    assert model.bridge.soft_prompt is not None
    assert model.bridge.soft_prompt.std == model.config.text_config.initializer_factor == 1.0
    vector = model.bridge.soft_prompt.vector
    assert vector.shape == (32,) and 0.5 < float(vector.detach().std()) < 1.5


@pytest.mark.parametrize("language", ["llama", "t5"])
def test_lion_check_12_long_tags_leave_slot_and_question(
    build: Build, parts: Path, pictures: Pictures, language: str
) -> None:
    room = 260
    model, processor = made(build, parts / language, max_tokens=room)
    rows = [
        processor.encode(sample((MANY,)), pictures[:1]),
        processor.encode(sample(((),)), pictures[:1]),
    ]
    slot = processor.image_token_ids_by_role.slot
    for row in rows:
        assert int((row["input_ids"] == slot).sum()) == 1 and len(row["input_ids"]) <= room
        assert f"]. {QUESTION}" in text_of(processor, row)
    kept = text_of(processor, rows[0]).split("tags: [")[1].split("].")[0].split(", ")
    assert 5 < len(kept) < 300 and kept == list(MANY[: len(kept)])
    assert len(rows[0]["input_ids"]) > room - 8, "no tag was left out that had room"
    model.train()
    model(**processor.collate(rows)).loss.backward()
    asked = processor.prompt(sample().turns[:1], perceived=Perceived(tags=(MANY,)))
    assert asked.count(SLOT) == 1 and asked.endswith(f"]. {QUESTION}")


def test_lion_check_13_the_prompt_to_the_letter(
    build: Build, parts: Path, pictures: Pictures
) -> None:
    _, processor = made(build, parts / "t5")
    assert tag_sentence(("a", "b"), "soft") == PREFIX
    row = processor.encode(sample(), pictures[:1])
    assert text_of(processor, row) == f"\n{PREFIX}{QUESTION}"
    assert (
        processor.prompt(sample().turns[:1], perceived=Perceived(tags=(("a", "b"),)))
        == f"<image>\n{PREFIX}{QUESTION}"
    )
    assert tag_sentence((), "soft") == PREFIX.replace("a, b", "")


def test_lion_check_13_the_qformer_reads_the_question_alone(
    sentinel_t5: Path, parts: Path, pictures: Pictures
) -> None:
    """The reader of a real LION: its Q-Former gets the ids of the question, the T5 the tags too."""
    bridge = {"name": "placeholder", "start_end": False, "tags": "soft"}
    block = {**lion_block(parts), "bridge": bridge, "language": {"checkpoint": str(sentinel_t5)}}
    model, processor = build_lion(block)
    assert processor.text_reader is not None
    alone = processor.question_inputs([QUESTION])
    letters = processor.text_reader.tokenizer.decode(alone["question_ids"][0])
    assert letters == f"<s>{QUESTION}</s>"
    prompt = processor.prompt(sample().turns[:1], perceived=Perceived(tags=(("a", "b"),)))
    given = {
        "training": processor.collate([processor.encode(sample(), pictures[:1])]),
        "answering": processor.answer_inputs([prompt], pictures[:1]),
        "call": processor(images=pictures[:1], text=[f"<image>\n{QUESTION}"], tags=[(("a", "b"),)]),
    }
    read: list[FusionText] = []
    model.fusion.register_forward_pre_hook(lambda _, args: read.append(args[1]))
    for way, inputs in given.items():
        assert torch.equal(inputs["question_ids"], alone["question_ids"]), way
        row = {"input_ids": inputs["input_ids"][0]}
        assert f"{PREFIX}{QUESTION}" in text_of(processor, row), way
    with torch.no_grad():
        model.eval()(**given["training"])
        model.generate(**given["answering"], max_new_tokens=2)
    assert len(read) == 2
    assert all(torch.equal(seen.ids, alone["question_ids"]) for seen in read)


def test_the_slot_in_what_people_write_is_taken_out(
    build: Build, parts: Path, pictures: Pictures
) -> None:
    _, processor = made(build, parts / "t5")
    slot = processor.image_token_ids_by_role.slot
    asked = sample(
        (("a <extra_id_0>", "<image>", "<boxes> b"),), f"What {SLOT} is <extra_{SLOT}id_0>?"
    )
    row = processor.encode(asked, pictures[:1])
    assert text_of(processor, row) == f"\n{PREFIX}What is?"
    assert int((row["input_ids"] == slot).sum()) == 1
    assert without_slots([Turn("user", f"a {SLOT} b")])[0].text == "a b"


def test_tags_need_no_free_place_in_any_tokenizer(
    build: Build, parts: Path, pictures: Pictures
) -> None:
    """A tokenizer without the sentinel gets one; the language model's table stays as it is."""
    model, processor = made(build, parts / "llama")
    slot = processor.image_token_ids_by_role.slot
    assert slot >= model.config.text_config.vocab_size
    batch = processor.collate([processor.encode(sample(), pictures[:1])])
    assert torch.isfinite(model(**batch).loss)
    inputs = processor.answer_inputs(
        [processor.prompt(sample().turns[:1], perceived=Perceived(tags=(("a",),)))], pictures[:1]
    )
    out = model.generate(**inputs, max_new_tokens=3, repetition_penalty=1.5, num_beams=2)
    assert out.shape[0] == 1


def test_every_image_has_its_own_sentence() -> None:
    turns = [
        Turn("user", "<image>\n<image>\nWhich?"),
        Turn("assistant", "x"),
        Turn("user", "<image>?"),
    ]
    written = put_tags(turns, (("a",), (), ("b", "c")), "hard")
    first, empty, third = (tag_sentence(t, "hard") for t in (("a",), (), ("b", "c")))
    assert written[0].text == f"<image>\n{first}<image>\n{empty}Which?"
    assert written[1] == turns[1] and written[2].text == f"<image>{third}?"


def test_missing_tags_name_the_remedy(build: Build, parts: Path, pictures: Pictures) -> None:
    _, processor = made(build, parts / "t5")
    with pytest.raises(DataError, match="manyeyes tag"):
        processor.encode(sample(None), pictures[:1])
    with pytest.raises(DataError, match="tags of 2 images, but 1 image"):
        processor.encode(sample((("a",), ("b",))), pictures[:1])
    with pytest.raises(DataError, match="manyeyes tag"):
        processor.prompt(sample().turns[:1])
    text_only = Sample("t", (), (Turn("user", "Why?"), Turn("assistant", "so")))
    assert SLOT not in text_of(processor, processor.encode(text_only, []))


def test_unknown_variant_is_refused(build: Build, parts: Path) -> None:
    with pytest.raises(RecipeError, match=r"'sofd' is not one of .*did you mean 'soft'"):
        made(build, parts / "t5", tags="sofd")


def test_chat_messages_carry_tags(build: Build, parts: Path, pictures: Pictures) -> None:
    _, processor = made(build, parts / "t5")
    image = {"type": "image", "image": pictures[0], "tags": ["a", "b"]}
    message = {"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}
    written = processor.apply_chat_template([message], add_generation_prompt=True)
    assert written == f"<image>\n{PREFIX}{QUESTION}"
    bare = {"role": "user", "content": [{"type": "image", "image": pictures[0]}]}
    with pytest.raises(DataError, match="manyeyes tag"):
        processor.apply_chat_template([bare])
    with pytest.raises(DataError, match="2 image parts, but only 1"):
        processor.apply_chat_template([message, bare])


def test_model_and_processor_survive_saving(
    build: Build, parts: Path, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = made(build, parts / "t5")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path).eval()
    reader = ManyEyesProcessor.from_pretrained(tmp_path)
    assert reader.tags == "soft"
    batch = processor.collate([processor.encode(sample(), pictures[:1])])
    other = reader.collate([reader.encode(sample(), pictures[:1])])
    assert torch.equal(batch["input_ids"], other["input_ids"])
    with torch.no_grad():
        assert torch.equal(model.eval()(**batch).logits, again(**other).logits)


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_an_encoder_decoders_answer_ends_once(
    build: Build, parts: Path, pictures: Pictures, style: str
) -> None:
    """A model's own template writes the answer and its end; else the end token is appended."""
    _, processor = build(language={"checkpoint": str(parts / "t5")}, prompt_style=style)
    row = processor.encode(sample(None), pictures[:1])
    end = processor.tokenizer.eos_token_id
    assert row["labels"].tolist().count(end) == 1 and row["labels"][-1] == end
    assert processor.tokenizer.decode(row["labels"][:-1]).strip() == "a dog"
    assert IGNORE not in row["labels"]

"""Text and images to inputs: placeholders, labels, pixels, padding, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from manyeyes import ManyEyesConfig, ManyEyesProcessor
from manyeyes.conversation.prompts import ANSWER_ENDS, PROMPT_STYLES
from manyeyes.encoders.spec import NORMALIZATIONS
from manyeyes.errors import DataError, PlaceholderError, RecipeError
from manyeyes.records import IGNORE, Sample, Turn

Pictures = list[Image.Image]
ASK = Turn("user", "<image>\nWhat is it?")


def processor(parts: Path, **changes: Any) -> ManyEyesProcessor:
    return ManyEyesProcessor.from_config(ManyEyesConfig(**{**tiny.model_block(parts), **changes}))


def sample(*turns: Turn, images: int = 1) -> Sample:
    return Sample("s", tuple("abc"[:images]), turns)


def test_comm_check_18_one_placeholder_becomes_n_patch_tokens(
    parts: Path, pictures: Pictures
) -> None:
    made = processor(parts)
    ids = made.image_token_ids_by_role
    row = made.encode(sample(ASK, Turn("assistant", "cat")), pictures[:1])["input_ids"].tolist()
    first = row.index(ids.start)
    assert made.visual_tokens == tiny.NUM_PATCHES == row.count(ids.image)
    assert row[first + 1 : first + 1 + tiny.NUM_PATCHES] == [ids.image] * tiny.NUM_PATCHES
    assert row[first + 1 + tiny.NUM_PATCHES] == ids.end
    assert row.count(ids.start) == row.count(ids.end) == 1
    bare = processor(parts, bridge={"name": "placeholder", "start_end": False})
    other = bare.encode(sample(ASK, Turn("assistant", "cat")), pictures[:1])["input_ids"].tolist()
    assert len(other) == len(row) - 2


@pytest.mark.parametrize("style", sorted(PROMPT_STYLES))
def test_comm_check_19_labels_are_the_assistants_text_and_its_end(
    parts: Path, pictures: Pictures, style: str
) -> None:
    made = processor(parts, prompt_style=style)
    turns = (ASK, Turn("assistant", "a cat"), Turn("user", "Sure?"), Turn("assistant", "yes"))
    row = made.encode(sample(*turns), pictures[:1])
    supervised = row["labels"] != IGNORE
    assert torch.equal(row["labels"][supervised], row["input_ids"][supervised])
    text = made.tokenizer.decode(row["labels"][supervised])
    end = ANSWER_ENDS.get(style, made.tokenizer.eos_token)
    assert text.replace(" ", "") == f"acat{end}yes{end}"


def test_training_and_inference_share_the_prompt(parts: Path, pictures: Pictures) -> None:
    for style in PROMPT_STYLES:
        made = processor(parts, prompt_style=style)
        row = made.encode(sample(ASK, Turn("assistant", "cat")), pictures[:1])
        asked = made.answer_inputs([made.prompt([ASK])], pictures[:1])["input_ids"][0]
        answer = int((row["labels"] != IGNORE).nonzero()[0])
        assert row["input_ids"][:answer].tolist() == asked.tolist(), style


@torch.no_grad()
def test_comm_check_20_clip_pixels_renormalise_to_imagenet(parts: Path, pictures: Pictures) -> None:
    pixels = processor(parts).pixels(pictures)
    (clip_mean, clip_std), (mean, std) = (
        [torch.tensor(v)[:, None, None] for v in NORMALIZATIONS[name]]
        for name in ("clip", "imagenet")
    )
    again = (pixels["pixel_values_clip"] * clip_std + clip_mean - mean) / std
    torch.testing.assert_close(again, pixels["pixel_values_dinov2"], rtol=1e-5, atol=1e-5)


def test_dino_can_be_fed_clip_pixels(parts: Path, pictures: Pictures) -> None:
    block = tiny.model_block(parts)
    block["encoders"][1]["normalization"] = "clip"
    pixels = ManyEyesProcessor.from_config(ManyEyesConfig(**block)).pixels(pictures)
    assert torch.equal(pixels["pixel_values_clip"], pixels["pixel_values_dinov2"])


def test_padding_keeps_the_whole_picture_on_white(parts: Path) -> None:
    black = Image.new("RGB", (20, 10))
    mean, std = NORMALIZATIONS["clip"]
    pixels = processor(parts).pixels([black])["pixel_values_clip"][0, 0]
    white, dark = (1 - mean[0]) / std[0], -mean[0] / std[0]
    assert float(pixels[0, 8]) == pytest.approx(white, abs=1e-4)
    assert float(pixels[8, 8]) == pytest.approx(dark, abs=1e-4)
    squashed = processor(parts, geometry="squash").pixels([black])["pixel_values_clip"][0, 0]
    assert float(squashed.max()) == pytest.approx(dark, abs=1e-4)


def test_boxes_are_written_in_the_recipes_style(parts: Path, pictures: Pictures) -> None:
    turns = (ASK, Turn("assistant", "there: <boxes>.", (((5.0, 3.0, 10.0, 6.0),),)))
    for style, expected in (
        ("shikra", "[0.250,0.350,0.500,0.500]"),
        ("int1000", "[250,250,500,500]"),
    ):
        made = processor(parts, box_style=style)
        row = made.encode(sample(*turns), [pictures[1]])
        text = made.tokenizer.decode(row["labels"][row["labels"] != IGNORE])
        assert text.strip() == f"there: {expected}.</s>"


def test_collate_pads_on_the_right_and_stacks_pixels(parts: Path, pictures: Pictures) -> None:
    made = processor(parts)
    short = made.encode(sample(ASK, Turn("assistant", "a")), pictures[:1])
    long = made.encode(
        sample(Turn("user", "<image><image> and?"), Turn("assistant", "both"), images=2),
        pictures[:2],
    )
    text = made.encode(sample(Turn("user", "hi"), Turn("assistant", "yo"), images=0), [])
    batch = made.collate([short, long, text])
    assert batch["pixel_values_clip"].shape == (3, 3, 16, 16)
    assert batch["image_counts"].tolist() == [1, 2, 0]
    assert "attention_mask" not in batch
    length = len(short["input_ids"])
    assert torch.equal(batch["input_ids"][0, :length], short["input_ids"])
    assert set(batch["labels"][0, length:].tolist()) == {IGNORE}


def test_encoder_decoder_rows_keep_the_answer_apart(parts: Path, pictures: Pictures) -> None:
    made = processor(parts, language={"checkpoint": str(parts / "t5")}, prompt_style="plain")
    row = made.encode(sample(ASK, Turn("assistant", "cat")), pictures[:1])
    assert made.tokenizer.decode(row["labels"]).startswith("cat")
    assert "cat" not in made.tokenizer.decode(row["input_ids"])
    batch = made.collate([row, row])
    assert batch["attention_mask"].shape == batch["input_ids"].shape


def test_truncation_never_removes_image_tokens(parts: Path, pictures: Pictures) -> None:
    turns = sample(ASK, Turn("assistant", "x" * 50))
    whole = len(processor(parts).encode(turns, pictures[:1])["input_ids"])
    cut = processor(parts, max_tokens=whole - 20).encode(turns, pictures[:1])
    assert len(cut["input_ids"]) == whole - 20
    with pytest.raises(PlaceholderError, match="would remove image tokens"):
        processor(parts, max_tokens=tiny.NUM_PATCHES).encode(turns, pictures[:1])
    with pytest.raises(DataError, match="no assistant text"):
        processor(parts, max_tokens=whole - 55).encode(turns, pictures[:1])


def test_max_tokens_limits_prompts_and_answers_of_encoder_decoders(
    parts: Path, pictures: Pictures
) -> None:
    """A prompt loses its beginning, an answer its end, as in LION; image and end tokens stay."""
    t5 = {"language": {"checkpoint": str(parts / "t5")}, "prompt_style": "plain"}
    long = sample(Turn("user", "<image>\n" + "x" * 800 + " Why?"), Turn("assistant", "y" * 900))
    whole = processor(parts, **t5).encode(long, pictures[:1])
    assert len(whole["input_ids"]) > 800 and len(whole["labels"]) > 900
    made = processor(parts, **t5, max_tokens=60)
    ids = made.image_token_ids_by_role
    row = made.encode(long, pictures[:1])
    prompt, answer = row["input_ids"].tolist(), row["labels"].tolist()
    assert len(prompt) == 60 and prompt.count(ids.image) == tiny.NUM_PATCHES
    assert prompt[0] == ids.start and prompt[tiny.NUM_PATCHES + 1] == ids.end
    assert prompt[tiny.NUM_PATCHES + 2 :] == whole["input_ids"].tolist()[-42:]
    assert answer == [*whole["labels"].tolist()[: 60 - 17], made.tokenizer.eos_token_id]
    short = sample(ASK, Turn("assistant", "cat"))
    for key, value in processor(parts, **t5).encode(short, pictures[:1]).items():
        assert torch.equal(made.encode(short, pictures[:1])[key], value), key
    with pytest.raises(PlaceholderError, match="would remove image tokens"):
        processor(parts, **t5, max_tokens=tiny.NUM_PATCHES).encode(long, pictures[:1])


def test_blip2_captions_follow_their_image_and_end_with_the_line(
    parts: Path, pictures: Pictures
) -> None:
    """LAVIS's blip2_opt.py: queries, caption, "\\n"; a prompt stands directly beside the image."""
    bare = {"bridge": {"name": "placeholder", "start_end": False}, "prompt_style": "blip2"}
    made = processor(parts, **bare)
    row = made.encode(sample(Turn("user", "<image>\n"), Turn("assistant", "a cat")), pictures[:1])
    ids = row["input_ids"].tolist()
    assert ids[: tiny.NUM_PATCHES] == [made.image_token_ids_by_role.image] * tiny.NUM_PATCHES
    assert made.tokenizer.decode(ids[tiny.NUM_PATCHES :]) == "a cat\n"
    assert row["labels"].tolist()[tiny.NUM_PATCHES :] == ids[tiny.NUM_PATCHES :]
    asked = Turn("user", "<image>\nQuestion: what? Answer:")
    row = made.encode(sample(asked, Turn("assistant", "a cat")), pictures[:1])
    text = made.tokenizer.decode(row["input_ids"][tiny.NUM_PATCHES :])
    assert text == "Question: what? Answer: a cat\n"
    said = row["labels"][row["labels"] != IGNORE]
    assert made.tokenizer.decode(said) == " a cat\n"
    assert made.prompt([asked]) == "<image>Question: what? Answer:"
    cut = processor(parts, **bare, max_tokens=tiny.NUM_PATCHES + 3)
    row = cut.encode(sample(Turn("user", "<image>\n"), Turn("assistant", "a cat")), pictures[:1])
    assert cut.tokenizer.decode(row["input_ids"][tiny.NUM_PATCHES :]) == "a c"


def test_blip2_answers_end_with_the_line(build: Callable[..., Any], pictures: Pictures) -> None:
    model, made = build(prompt_style="blip2")
    (line,) = made.tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert made.text_rows.answer_end == model.config.answer_end == line
    seen: list[Any] = []
    generate = model.language_kind.generate

    class Kind:
        answers_in_sequence = True

        def generate(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(kwargs.get("eos_token_id"))
            return generate(*args, **kwargs)

    model.language_kind = Kind()
    inputs = made.answer_inputs([made.prompt([ASK])], pictures[:1])
    model.generate(**inputs, max_new_tokens=2)
    model.generate(**inputs, max_new_tokens=2, eos_token_id=7)
    assert seen == [[made.tokenizer.eos_token_id, line], 7]


@pytest.mark.parametrize("images", [0, 2])
def test_placeholders_and_images_must_agree(parts: Path, pictures: Pictures, images: int) -> None:
    made = processor(parts)
    with pytest.raises(PlaceholderError, match=rf"16 image tokens .* {images} image\(s\) x 16"):
        made.encode(sample(ASK, Turn("assistant", "a")), pictures[:images])
    with pytest.raises(PlaceholderError, match=f"1 <image> placeholders .* {images} images"):
        made.answer_inputs([made.prompt([ASK])], pictures[:images])


def test_wrong_boxes_are_named(parts: Path, pictures: Pictures) -> None:
    made = processor(parts)
    with pytest.raises(DataError, match="1 <boxes> placeholders, but 0 groups"):
        made.encode(sample(ASK, Turn("assistant", "<boxes>")), pictures[:1])
    with pytest.raises(DataError, match="boxes refer to image 3, of 1"):
        turn = Turn("assistant", "<boxes>", (((0, 0, 1, 1),),), box_image=3)
        made.encode(sample(ASK, turn), pictures[:1])


def test_points_are_written_beside_boxes(parts: Path, pictures: Pictures) -> None:
    turn = Turn("assistant", "<points> in <boxes>", (((0, 0, 6, 3),),), points=(((3, 0),),))
    (written,) = processor(parts, box_style="lion").write_turns([turn], [(12, 6)])
    assert written.text == "[0.250,0.000] in [0.000,0.000,0.500,0.500]"
    with pytest.raises(DataError, match="1 <points> placeholders, but 0 groups of points"):
        processor(parts).encode(sample(ASK, Turn("assistant", "<points>")), pictures[:1])


def test_chat_style_needs_a_template(parts: Path) -> None:
    made = processor(parts, prompt_style="chat")
    made.tokenizer.chat_template = None
    with pytest.raises(RecipeError, match="no chat template"):
        made.prompt([ASK])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ messages | length }}{{ messages[-1]['content'] }}", "asks for an answer with other"),
        ("{% for m in messages %}{{ m.content | upper }} {% endfor %}", "rewrites the answer of"),
        ("{{ messages[0].content }}: answered", "rewrites the answer of turn 1"),
    ],
)
def test_a_template_that_hides_the_answer_is_refused(
    parts: Path, pictures: Pictures, template: str, said: str
) -> None:
    made = processor(parts, prompt_style="chat")
    made.tokenizer.chat_template = template
    with pytest.raises(RecipeError, match=said):
        made.encode(sample(ASK, Turn("assistant", "a")), pictures[:1])


def test_image_parts_of_a_chat(parts: Path, pictures: Pictures, tmp_path: Path) -> None:
    made = processor(parts, prompt_style="chat")
    pictures[0].save(tmp_path / "a.png")
    for image in ({"image": pictures[0]}, {"path": str(tmp_path / "a.png")}):
        content = [{"type": "image", **image}, {"type": "text", "text": "What?"}]
        inputs = made.apply_chat_template(
            [{"role": "user", "content": content}],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
        )
        assert inputs["pixel_values_clip"].shape == (1, 3, 16, 16)
        assert int((inputs["input_ids"] == made.image_token_ids_by_role.image).sum()) == 16
    with pytest.raises(DataError, match="image, path, url"):
        made.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}], tokenize=True)


def test_processor_round_trip(
    parts: Path, pictures: Pictures, tmp_path: Path, build: Callable[..., Any]
) -> None:
    made = processor(parts, box_style="int1000", geometry="squash", max_tokens=499)
    made.save_pretrained(tmp_path)
    again = ManyEyesProcessor.from_pretrained(tmp_path)
    row = sample(ASK, Turn("assistant", "a"))
    before, after = made.encode(row, pictures[1:2]), again.encode(row, pictures[1:2])
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (again.box_style, again.geometry, again.max_length) == ("int1000", "squash", 499)

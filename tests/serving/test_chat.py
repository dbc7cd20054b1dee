"""Conversations: images encoded once, streamed answers, mistakes that leave no trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from image_text_parts import clip_block
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import ImageError, UsageError
from manyeyes.inference.tagging import own_tagger
from manyeyes.records import Turn
from manyeyes.serving.chat import Conversation, _Stream

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


@pytest.fixture
def files(pictures: list[Image.Image], tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    return paths


@pytest.fixture
def talk(build: Callable[..., Built]) -> Conversation:
    return Conversation(*build(), max_new_tokens=6)


def count_encodings(talk: Conversation, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of images of every encoder call."""
    calls: list[int] = []
    encode = talk.model.encode

    def counted(**pixels: Any) -> Any:
        calls.append(len(next(iter(pixels.values()))))
        return encode(**pixels)

    monkeypatch.setattr(talk.model, "encode", counted)
    return calls


def test_a_fusion_that_reads_the_question_reads_each_one(
    parts: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ManyEyesConfig(**clip_block(parts, text="question", text_length=32))
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    talk, asked, seen = Conversation(model, processor, max_new_tokens=3), [], []
    reader, fusion, encode = processor.text_reader, model.fusion.forward, model.encode
    assert reader is not None

    def reading(bundle: Any, question: Any) -> Any:
        asked.append(reader.tokenizer.decode(question.ids[0], skip_special_tokens=True))
        return fusion(bundle, question)

    def looking(**pixels: Any) -> Any:
        seen.append(len(pixels))
        return encode(**pixels)

    monkeypatch.setattr(model.fusion, "forward", reading)
    monkeypatch.setattr(model, "encode", looking)
    talk.show(files[0])
    talk.ask("how many?")
    talk.ask("what colour?")
    assert asked == ["how many?", "what colour?"] and seen == [1]


def test_each_image_is_encoded_once(
    talk: Conversation, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_encodings(talk, monkeypatch)
    talk.show(files[0])
    for number in range(3):
        talk.ask(f"question {number}")
    talk.show(files[1])
    talk.ask("and here?")
    talk.show(files[0])
    talk.ask("and there again?")
    assert calls == [1, 1]


def test_answers_are_those_of_generate(talk: Conversation, files: list[Path]) -> None:
    first = talk.show(files[0])
    text = talk.ask("what?").text
    second = talk.show(files[1])
    answer = talk.ask("and this?").text
    turns = [
        Turn("user", "<image>\nwhat?"),
        Turn("assistant", text),
        Turn("user", "<image>\nand this?"),
    ]
    inputs = talk.processor.answer_inputs([talk.processor.prompt(turns)], [first, second])
    sequences = talk.model.generate(**inputs, max_new_tokens=6, do_sample=False)
    new = sequences[0, inputs["input_ids"].shape[1] :]
    assert answer == talk.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert answer


def test_the_stream_is_the_answer(talk: Conversation, files: list[Path]) -> None:
    pieces: list[str] = []
    talk.show(files[2])
    answer = talk.ask("what?", pieces.append)
    assert "".join(pieces).rstrip() == answer.text
    assert pieces and all(pieces)


def test_a_stream_begins_with_the_first_letter(talk: Conversation) -> None:
    pieces: list[str] = []
    stream = _Stream(talk.processor.tokenizer, pieces.append)
    for text in ("", " \n", " a", " cat", " ", "sits"):
        stream.on_finalized_text(text)
    assert pieces == ["a", " cat", " ", "sits"]


def test_text_alone_is_a_conversation_too(talk: Conversation) -> None:
    answer = talk.ask("hello")
    assert answer.image is None
    assert [turn.text for turn in talk.turns] == ["hello", answer.text]


def test_boxes_come_back_in_pixels_of_the_image_shown_last(
    talk: Conversation, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "_generate", lambda *_: "here [0.000,0.500,1.000,0.750]")
    talk.show(files[0])
    talk.show(files[1])
    answer = talk.ask("where?")
    assert answer.image is not None
    assert answer.image.size == (20, 12)
    ((box,),) = answer.boxes
    assert box == pytest.approx((0.0, 6.0, 20.0, 11.0))


def test_mistakes_leave_the_conversation_as_it_was(talk: Conversation, tmp_path: Path) -> None:
    talk.ask("hello")
    before = list(talk.turns)
    with pytest.raises(ImageError, match="no such file"):
        talk.show(tmp_path / "none.png")
    for wrong in ("", "  ", "see <image>", "at <boxes>"):
        with pytest.raises(UsageError):
            talk.ask(wrong)
    with pytest.raises(UsageError, match="the language model reads 2048"):
        talk.ask("long " * 500)
    assert talk.turns == before


def test_an_interrupted_answer_is_forgotten(
    talk: Conversation, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    talk.show(files[0])

    def interrupt(text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        talk.ask("what?", interrupt)
    assert talk.turns == []
    talk.ask("what?")
    assert talk.turns[0].text == "<image>\nwhat?"


def test_reset_forgets_everything(
    talk: Conversation, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_encodings(talk, monkeypatch)
    talk.show(files[0])
    talk.ask("what?")
    talk.reset()
    assert talk.turns == []
    assert talk.ask("what?").image is None
    talk.show(files[0])
    assert calls == [1, 1]


def test_sampling_needs_a_temperature(talk: Conversation) -> None:
    torch.manual_seed(0)
    talk.temperature = 5.0
    answers = set()
    for _ in range(3):
        talk.reset()
        answers.add(talk.ask("hello").text)
    assert len(answers) > 1
    with pytest.raises(UsageError, match="temperature"):
        Conversation(talk.model, talk.processor, temperature=-1.0)


def test_a_model_that_reads_tags_is_given_them_or_has_a_tagger(
    build: Callable[..., Built], files: list[Path], parts: Path, tmp_path: Path
) -> None:
    block = {"checkpoint": str(tiny.save_tagger(tmp_path / "tagger")), "threshold": 0.0}
    bridge = {"name": "placeholder", "start_end": False, "tags": "soft"}
    model, processor = build(
        language={"checkpoint": str(parts / "t5")},
        prompt_style="plain",
        bridge=bridge,
        tagger=block,
    )
    asked: list[str] = []
    written = processor.answer_inputs

    def noted(prompts: Any, *rest: Any, **more: Any) -> Any:
        asked.extend(prompts)
        return written(prompts, *rest, **more)

    processor.answer_inputs = noted  # type: ignore[method-assign]
    talk = Conversation(model, processor, max_new_tokens=2, tagger=own_tagger(model))
    talk.show(files[0])
    talk.ask("why?")
    talk.show(files[0], tags=("a", "b"))
    talk.ask("why?")
    assert asked[0].count("tags: [red, green, blue]. why?") == 1
    assert asked[1].count("tags: [a, b]. why?") == 1 and "[red, green, blue]" in asked[1]
    bare = Conversation(model, processor, max_new_tokens=2)
    with pytest.raises(UsageError, match="give the image's tags"):
        bare.show(files[0])
    assert own_tagger(build()[0]) is None

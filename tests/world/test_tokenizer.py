"""The tokenizer round-trips any text, prices boxes low, and marks the assistant's tokens."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from manyeyes.world.language.descriptions import box_text, description
from manyeyes.world.pretrain.language.documents import corpus
from manyeyes.world.sample import sample_scene
from manyeyes.world.tokenizer import COORDINATES, SPECIAL_TOKENS, VOCABULARY_SIZE, train_tokenizer

TEXTS = list(corpus(150, 0))
BOX = "[0.146,0.208,0.458,0.438]"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS)


@pytest.mark.parametrize(
    "text",
    [
        *TEXTS[:20],
        BOX,
        "[0.000,0.250,1.000,0.438;0.100,1.000,0.500,1.000]",
        "Straße – 日本, 12.5 %!  two  spaces\n\nand lines \n",
        " leading space",
        "",
    ],
)
def test_round_trip(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_box_of_whole_pixels_costs_nine_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer(BOX)["input_ids"]) == 9
    assert len(tokenizer("[0.000,0.000,1.000,1.000]")["input_ids"]) == 9
    two = BOX.replace("]", ";") + BOX[1:]
    assert len(tokenizer(two)["input_ids"]) == 17
    inside = len(tokenizer(f"the box is {BOX}.")["input_ids"])
    assert inside <= 10 + len(tokenizer("the box is.")["input_ids"])


def test_every_box_of_a_scene_is_written_in_coordinates(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for index in range(30):
        scene = sample_scene("train", index, 0)
        for item in scene.objects:
            tokens = tokenizer.tokenize(box_text(scene, item.box))
            assert len(tokens) == 9
            assert set(tokens[1::2]) <= set(COORDINATES)


def test_other_numbers_are_written_in_digits(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.tokenize("[0.147,0.5]")
    assert [token for token in tokens if token.isdigit()] == list("014705")


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.tokenize("there are 1234 shapes")
    assert [token for token in tokens if any(c.isdigit() for c in token)] == list("1234")


def test_size_and_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) <= VOCABULARY_SIZE
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))
    for name in ("<image>", "<im_start>", "<im_end>"):
        assert name not in tokenizer.get_vocab()
    assert tokenizer.decode(tokenizer("<s>red</s>")["input_ids"], skip_special_tokens=True) == "red"


def test_common_words_are_single_tokens() -> None:
    words = " red green blue yellow circle square triangle cross small large striped dotted yes no"
    tokens = train_tokenizer(corpus(300, 0)).tokenize(words)
    assert len(tokens) == len(words.split())


def test_equal_texts_give_equal_tokenizers(tokenizer: PreTrainedTokenizerFast) -> None:
    again = train_tokenizer(TEXTS)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_chat_template_and_answer_mask(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "<image>\nWhat color is it?"},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": "And\n the size?"},
        {"role": "assistant", "content": "small\n"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == (
        "<s><|system|>Be brief.<|user|><image>\nWhat color is it?<|assistant|> red</s>"
        "<|user|>And\n the size?<|assistant|> small\n</s>"
    )
    encoded = tokenizer.apply_chat_template(
        messages, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    learnt = [token for token, mask in marked if mask]
    assert tokenizer.decode(learnt) == " red</s> small\n</s>"
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert text.startswith(prompt) and prompt.endswith("<|assistant|>")


def test_chat_template_takes_parts(tokenizer: PreTrainedTokenizerFast) -> None:
    parts = [{"type": "image"}, {"type": "text", "text": "\nWhere?"}]
    text = tokenizer.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
    assert text == "<s><|user|><image>\nWhere?"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "x"},
        {"role": "user", "content": [{"type": "video"}]},
    ],
)
def test_chat_template_refuses_what_it_does_not_know(
    tokenizer: PreTrainedTokenizerFast, message: dict[str, object]
) -> None:
    with pytest.raises(Exception, match="unknown"):
        tokenizer.apply_chat_template([message], tokenize=False)


def test_reloads_without_network(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    message = [{"role": "user", "content": "How many?"}]
    assert again.apply_chat_template(message, tokenize=False) == tokenizer.apply_chat_template(
        message, tokenize=False
    )
    assert (again.pad_token, again.bos_token, again.eos_token) == ("<pad>", "<s>", "</s>")
    assert again(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]


def test_descriptions_fit_the_context(tokenizer: PreTrainedTokenizerFast) -> None:
    longest = max(
        len(tokenizer(description(sample_scene("train", i, 0, count=5), Random(i)))["input_ids"])
        for i in range(30)
    )
    assert 60 < longest < 180

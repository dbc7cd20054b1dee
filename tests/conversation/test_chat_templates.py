"""The chat formats of published models: what is supervised, one first token, one prompt."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
import torch
from PIL import Image

import tiny
from attacks import within
from chat_templates import FORMATS
from manyeyes import ManyEyesConfig, ManyEyesProcessor
from manyeyes.conversation import chat_template
from manyeyes.conversation.chat_template import ChatTemplate, takes_system
from manyeyes.conversation.prompts import PROMPT_STYLES
from manyeyes.conversation.rendering import render, turns_to_messages
from manyeyes.errors import RecipeError, UsageError
from manyeyes.evaluation.scorers.pope import parse_yes_no
from manyeyes.records import IGNORE, Sample, Turn

Pictures = list[Image.Image]
SYSTEM = Turn("system", "Be brief.")
TALK = (
    Turn("user", "<image>\nIs there a cat?"),
    Turn("assistant", "No"),
    Turn("user", "Sure?"),
    Turn("assistant", "Yes, no cat."),
    Turn("user", "And a dog?"),
    Turn("assistant", "no"),
)
AROUND = {"llama-2": (" ", " </s>"), "mistral-v0.3": (" ", "</s>"), "zephyr": ("", "</s>")}
"""What the model writes before and after its answer; elsewhere nothing and the format's end."""

every_format = pytest.mark.parametrize("name", sorted(FORMATS))
with_and_without_system = pytest.mark.parametrize("system", [(), (SYSTEM,)], ids=["", "system"])
one_to_three_answers = pytest.mark.parametrize("answers", [1, 2, 3])


@cache
def processor(parts: Path, name: str) -> ManyEyesProcessor:
    config = ManyEyesConfig(**{**tiny.model_block(parts), "prompt_style": "chat"})
    return ManyEyesProcessor.from_config(config, FORMATS[name].tokenizer())


def encoded(
    made: ManyEyesProcessor, turns: Sequence[Turn], pictures: Pictures
) -> tuple[list[int], list[int]]:
    row = made.encode(Sample("s", ("a",), tuple(turns)), pictures[:1])
    return row["input_ids"].tolist(), row["labels"].tolist()


def supervised(made: ManyEyesProcessor, ids: list[int], labels: list[int]) -> list[str]:
    """The text of each run of supervised tokens."""
    runs = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORE)
    return [made.tokenizer.decode([i for i, _ in run]) for inside, run in runs if inside]


@every_format
@with_and_without_system
@one_to_three_answers
def test_labels_are_each_answer_and_what_ends_it(
    parts: Path, pictures: Pictures, name: str, system: tuple[Turn, ...], answers: int
) -> None:
    made, form = processor(parts, name), FORMATS[name]
    lead, end = AROUND.get(name, ("", form.end))
    talk = TALK[: 2 * answers]
    found = supervised(made, *encoded(made, [*system, *talk], pictures))
    assert found == [f"{lead}{turn.text}{end}" for turn in talk if turn.role == "assistant"]


@every_format
@with_and_without_system
@one_to_three_answers
def test_the_inference_prompt_is_how_the_training_text_begins(
    parts: Path, pictures: Pictures, name: str, system: tuple[Turn, ...], answers: int
) -> None:
    made = processor(parts, name)
    turns = [*system, *TALK[: 2 * answers]]
    ids, labels = encoded(made, turns, pictures)
    asked = made.answer_inputs([made.prompt(turns[:-1])], pictures[:1])["input_ids"][0].tolist()
    firsts = [i for i in range(1, len(ids)) if labels[i - 1] == IGNORE != labels[i]]
    assert ids[: len(asked)] == asked and firsts[-1] == len(asked)
    assert made.tokenizer.decode(ids).count(SYSTEM.text) == len(system)


@every_format
@with_and_without_system
def test_a_text_begins_with_one_first_token_on_every_path(
    parts: Path, pictures: Pictures, name: str, system: tuple[Turn, ...]
) -> None:
    form = FORMATS[name]
    made = processor(parts, name)
    ids, _ = encoded(made, [*system, *TALK[:2]], pictures)
    chat = [{"role": turn.role, "content": turn.text} for turn in (*system, TALK[0])]
    chat[-1]["content"] = [
        {"type": "image", "image": pictures[0]},
        {"type": "text", "text": "Is there a cat?"},
    ]
    told = made.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    written = made.apply_chat_template(chat, add_generation_prompt=True)
    two_steps = made(images=pictures[0], text=written)
    asked = made.answer_inputs([made.prompt([*system, TALK[0]])], pictures[:1])
    for other in (told, two_steps, asked):
        assert torch.equal(other["input_ids"], told["input_ids"])
        row = other["input_ids"][0].tolist()
        assert row == ids[: len(row)]
    begin = made.tokenizer.bos_token_id
    if form.begins or form.adds_bos:
        assert ids[0] == begin and ids[1] != begin
        if name != "smollm2":  # there it begins every turn
            assert ids[:-1].count(begin) == 1
    else:
        assert begin not in ids


def test_a_text_written_by_hand_gets_its_first_token_too(parts: Path, pictures: Pictures) -> None:
    made = processor(parts, "llama-3")
    ids = made(images=pictures[0], text="<image>\nWhat?")["input_ids"][0].tolist()
    begin = made.tokenizer.bos_token_id
    assert ids[0] == begin and ids.count(begin) == 1
    bare = made(images=pictures[0], text="<image>\nWhat?", add_special_tokens=False)
    assert bare["input_ids"][0].tolist() == ids[1:]
    twice = made(images=pictures[0], text="<|begin_of_text|><image>", add_special_tokens=True)
    assert twice["input_ids"][0].tolist().count(begin) == 1


def test_qwen3_is_asked_without_thinking_in_training_and_inference(
    parts: Path, pictures: Pictures
) -> None:
    made = processor(parts, "qwen3")
    ids, labels = encoded(made, TALK[:2], pictures)
    (said,) = supervised(made, ids, labels)
    assert said == "No<|im_end|>"
    assert made.prompt(TALK[:1]).endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    answer = made.tokenizer.decode([i for i in labels if i != IGNORE], skip_special_tokens=True)
    assert parse_yes_no(answer) == "no"
    ids, _ = encoded(made, TALK, pictures)
    text = made.tokenizer.decode(ids)
    assert "assistant\nNo<|im_end|>" in text and "<think>\n\n</think>\n\nno<|im_end|>" in text
    assert text.count("<think>") == 1


def test_llama_3_2_is_told_the_same_day_whenever_it_is_asked(parts: Path) -> None:
    made = processor(parts, "llama-3.2")
    assert "Today Date: 26 Jul 2024\n" in made.prompt([Turn("user", "hi")])


def test_a_system_message_without_a_place_begins_the_first_question() -> None:
    """As Gemma 3's template does it; Gemma 2 refuses it, Mistral drops it in training."""
    messages = turns_to_messages([SYSTEM, Turn("user", "Cat?"), Turn("assistant", "no")])
    expected = {
        "gemma-2": "<bos><start_of_turn>user\nBe brief.\n\nCat?<end_of_turn>\n"
        "<start_of_turn>model\nno<end_of_turn>\n",
        "mistral-v0.3": "<s>[INST] Be brief.\n\nCat?[/INST] no</s>",
        "phi-3-medium": "<|user|>\nBe brief.\n\nCat?<|end|>\n<|assistant|>\nno<|end|>\n",
    }
    for name, text in expected.items():
        assert render(messages, FORMATS[name].tokenizer(), "chat").text == text
    gemma_2, gemma_3 = (FORMATS[name].tokenizer() for name in ("gemma-2", "gemma-3"))
    assert render(messages, gemma_2, "chat") == render(messages, gemma_3, "chat")
    assert {n for n, f in FORMATS.items() if not takes(f.tokenizer())} == {
        name for name, form in FORMATS.items() if form.system == "none"
    }


def takes(tokenizer: object) -> bool:
    source = tokenizer.get_chat_template()  # type: ignore[attr-defined]
    return takes_system(ChatTemplate(source, tokenizer, "chat"))  # type: ignore[arg-type]


@pytest.mark.parametrize("style", sorted(PROMPT_STYLES))
def test_no_style_loses_a_system_message(style: str) -> None:
    tokenizer = tiny.byte_tokenizer()
    turns = [SYSTEM, Turn("user", "<image>\nCat?"), Turn("assistant", "no")]
    whole = render(turns_to_messages(turns), tokenizer, style).text
    asked = render(turns_to_messages(turns[:2]), tokenizer, style, generation_prompt=True).text
    assert whole.count("Be brief.") == 1 and whole.startswith(asked)
    after = whole[whole.index("Be brief.") + len("Be brief.") :]
    assert after[0] in " \n"


def test_vicuna_puts_nothing_between_an_answers_end_and_the_next_question() -> None:
    """FastChat's two separators: a blank after a question, ``</s>`` after an answer (COMM §1.9)."""
    system, talk = Turn("system", "Sys."), TALK[:4]
    written = render(turns_to_messages([system, *talk]), tiny.byte_tokenizer(), "vicuna_v1.1")
    assert written.text == (
        "Sys. USER: <image>\nIs there a cat? ASSISTANT: No</s>"
        "USER: Sure? ASSISTANT: Yes, no cat.</s>"
    )


def test_answers_are_found_where_templates_strip_them() -> None:
    messages = turns_to_messages(
        [Turn("user", "a"), Turn("assistant", "  b \n"), Turn("user", "b"), Turn("assistant", "b")]
    )
    for name, said in (("llama-3", "b<|eot_id|>"), ("qwen2.5", "  b \n<|im_end|>")):
        rendered = render(messages, FORMATS[name].tokenizer(), "chat")
        first, last = (rendered.text[start:stop] for start, stop in rendered.spans)
        assert first == said and last.startswith("b<|")


def test_what_a_template_refuses_is_our_error_with_its_reason(parts: Path) -> None:
    made = processor(parts, "gemma-3")
    twice = [Turn("user", "a"), Turn("user", "b")]
    with pytest.raises(RecipeError, match=r"refuses .*\(user, user\).*must alternate"):
        made.prompt(twice)


def test_a_template_that_takes_thoughts_out_of_an_answer_is_refused() -> None:
    said = Turn("assistant", "<think>\nhm\n</think>\n\nno")
    turns = [Turn("user", "a"), said, Turn("user", "b"), Turn("assistant", "c")]
    with pytest.raises(RecipeError, match="rewrites the answer of turn 1"):
        render(turns_to_messages(turns), FORMATS["qwen3"].tokenizer(), "chat")


def test_several_templates_without_a_default_are_named() -> None:
    tokenizer = FORMATS["qwen2"].tokenizer()
    tokenizer.chat_template = {"rag": "{{ messages }}", "tool": "{{ messages }}"}
    with pytest.raises(RecipeError, match=r"none of them is named 'default' \(rag, tool\)"):
        render(turns_to_messages([Turn("user", "a")]), tokenizer, "chat")


@every_format
def test_the_assistants_mask_is_what_training_supervises(
    parts: Path, pictures: Pictures, name: str
) -> None:
    made = processor(parts, name)
    chats = [[{"role": turn.role, "content": turn.text} for turn in TALK[:n]] for n in (4, 2)]
    for chat in chats:
        parted = [
            {"type": "image", "image": pictures[0]},
            {"type": "text", "text": "Is there a cat?"},
        ]
        chat[0]["content"] = parted  # type: ignore[assignment]
    inputs = made.apply_chat_template(
        chats, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    for row, number in enumerate((4, 2)):
        ids, labels = encoded(made, TALK[:number], pictures)
        real = inputs["attention_mask"][row].bool()
        assert inputs["input_ids"][row][real].tolist() == ids
        mask = inputs["assistant_masks"][row]
        assert mask[real].tolist() == [int(label != IGNORE) for label in labels]
        assert not mask[~real].any()


def test_the_mask_beside_a_prompt_covers_earlier_answers(parts: Path, pictures: Pictures) -> None:
    made = processor(parts, "qwen3")
    chat = [{"role": turn.role, "content": turn.text} for turn in TALK[2:5]]
    inputs = made.apply_chat_template(
        chat,
        tokenize=True,
        return_dict=True,
        add_generation_prompt=True,
        return_assistant_tokens_mask=True,
    )
    (ids,), (mask,) = inputs["input_ids"], inputs["assistant_masks"]
    assert made.tokenizer.decode(ids[mask.bool()]) == "Yes, no cat.<|im_end|>"
    for lacking in ({"tokenize": True}, {"return_dict": True}, {}):
        with pytest.raises(UsageError, match="needs tokenize=True and return_dict=True"):
            made.apply_chat_template(chat, return_assistant_tokens_mask=True, **lacking)


def test_arguments_are_honoured_or_refused(parts: Path, pictures: Pictures) -> None:
    chat = [{"role": "user", "content": "Why?"}]
    qwen3, qwen2 = processor(parts, "qwen3"), processor(parts, "qwen2")
    thinking = qwen3.apply_chat_template(chat, add_generation_prompt=True, enable_thinking=True)
    assert thinking.endswith("<|im_start|>assistant\n")
    assert qwen2.apply_chat_template(chat, enable_thinking=False, tools=None).endswith(
        "Why?<|im_end|>\n"
    )
    for wrong in ({"enable_thinking": True}, {"tools": [{"name": "f"}]}, {"padding": "max_length"}):
        with pytest.raises(UsageError, match=rf"nothing reads '{next(iter(wrong))}'"):
            qwen2.apply_chat_template(chat, **wrong)
    with pytest.raises(UsageError, match="did you mean 'add_generation_prompt'"):
        qwen2.apply_chat_template(chat, add_generation_promt=True)
    with pytest.raises(UsageError, match="exclude each other"):
        qwen2.apply_chat_template(chat, add_generation_prompt=True, continue_final_message=True)
    for wrong in ({"truncation": True}, {"max_length": 5}, {"text_kwargs": {"padding": True}}):
        with pytest.raises(UsageError, match=rf"does not take {next(iter(wrong))}="):
            qwen2(text="a", **wrong)
    with pytest.raises(UsageError, match="did you mean 'images'"):
        qwen2(text="<image>", image=pictures[0])
    with pytest.raises(UsageError, match="'pt' alone"):
        qwen2(text="a", return_tensors="np")
    assert "input_ids" in qwen2(text="a", truncation=False, videos=None, return_tensors="pt")


def test_a_template_that_writes_todays_date_writes_the_same_every_day() -> None:
    """Else a model is trained and asked with another text each day."""
    source = (
        "\n{% if strftime_now is defined %}{{ strftime_now('%d %b %Y, %A') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    template = ChatTemplate(source, tiny.byte_tokenizer(), "chat")
    said = template.write([{"role": "user", "content": "!"}])
    assert said == "\n26 Jul 2024, Friday!"


def test_a_template_without_end_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_SECONDS", 0.2)
    endless = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
    template = ChatTemplate(endless, tiny.byte_tokenizer(), "chat")
    with within(20.0), pytest.raises(RecipeError, match=r"has not come to an end after 0\.2 s"):
        template.write([{"role": "user", "content": "hi"}])
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)

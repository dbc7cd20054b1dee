"""Prompt styles: how a conversation becomes one string. Training and inference share them.

A style is a Jinja chat template over messages whose content is a plain string; ``chat`` stands for
the language model's own template. The strings are each format's public definition.
"""

from __future__ import annotations

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)

_VICUNA = (
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    "{% else %}{{ '" + VICUNA_SYSTEM.replace("'", "\\'") + "' }}{% endif %}{{ ' ' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'ASSISTANT: ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

_ALPACA = (
    "{% set inputs = messages | selectattr('role', 'equalto', 'user') "
    "| map(attribute='input', default='') | list %}"
    "{{ 'Below is an instruction that describes a task' }}"
    "{% if inputs and inputs[0] %}"
    "{{ ', paired with an input that provides further context' }}{% endif %}"
    "{{ '. Write a response that appropriately completes the request.' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\n### Instruction:\\n' + message['content'] }}"
    "{% if message['input'] %}{{ '\\n\\n### Input:\\n' + message['input'] }}{% endif %}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '\\n\\n### Response:' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### Response:' }}{% endif %}"
)

_PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% elif message['role'] == 'user' %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)

_BLIP2 = (
    "{% set said = namespace(question='') %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}"
    "{% set text = message['content'] | replace('<image>\\n', '<image>') %}"
    "{% set said.question = text | replace('<image>', '') | trim %}{{ text }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ (' ' if said.question else '') + message['content'] + '\\n' }}{% endif %}"
    "{% endfor %}"
)

PROMPT_STYLES: dict[str, str | None] = {
    "alpaca": _ALPACA,
    "blip2": _BLIP2,
    "chat": None,
    "plain": _PLAIN,
    "vicuna_v1.1": _VICUNA,
}
"""Template by the name recipes use; None = the tokenizer's own chat template.

``vicuna_v1.1``: COMM and Shikra; as in FastChat, a blank follows a question and nothing the
``</s>`` of an answer. ``alpaca``: LLaMA-Adapter V2; the form with input where the first
user message has one. ``plain``: LION, nothing around prompt and answer. ``blip2``: BLIP-2 with
a decoder (LAVIS, ``blip2_opt.py``): the text directly after its image, a line end after an answer.
"""

ANSWER_ENDS = {"blip2": "\n"}
"""What ends an answer where the style decides it; elsewhere the language model's own token does."""

STYLES_WITH_INPUT = ("alpaca",)
"""Styles with a place of their own for a message's ``input``; in others it stands between the
message's images and its question (ours)."""

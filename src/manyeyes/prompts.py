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
    "{% else %}{{ '" + VICUNA_SYSTEM.replace("'", "\\'") + "' }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ ' USER: ' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ ' ASSISTANT: ' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)

_ALPACA = (
    "{{ 'Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '\\n\\n### Instruction:\\n' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '\\n\\n### Response:' + message['content'] + eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### Response:' }}{% endif %}"
)

_PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}"
)

PROMPT_STYLES: dict[str, str | None] = {
    "alpaca": _ALPACA,
    "chat": None,
    "plain": _PLAIN,
    "vicuna_v1.1": _VICUNA,
}
"""Template by the name recipes use; None = the tokenizer's own chat template.

``vicuna_v1.1``: COMM and Shikra. ``alpaca``: LLaMA-Adapter V2, without input. ``plain``: BLIP-2,
nothing around prompt and answer.
"""

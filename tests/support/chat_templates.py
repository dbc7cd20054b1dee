"""The chat formats of published language models, as test data.

Each template is written here anew, for conversations without tools, and gives the same text as the
one in the model's ``tokenizer_config.json``, whose repository stands beside it.

    FORMATS["qwen3"].tokenizer()    # one token per byte, and the format's own tokens
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

import tiny


@dataclass(frozen=True)
class Format:
    """``source``: repository on the Hugging Face hub. ``tokens``: what the template writes as
    single tokens. ``end``: what ends an answer. ``system``: "own", or "none" where the template has
    no place for a system message. ``begins``: it writes ``bos``. ``adds_bos``: so does the
    tokenizer by itself, before every text."""

    source: str
    template: str
    bos: str | None
    eos: str
    end: str
    tokens: tuple[str, ...] = ()
    system: str = "own"
    begins: bool = True
    adds_bos: bool = False

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Return a byte-level tokenizer with this format's tokens and template."""
        made = tiny.byte_tokenizer()
        made.bos_token = None
        made.add_special_tokens({"eos_token": self.eos})
        if self.bos is not None:
            made.add_special_tokens({"bos_token": self.bos})
        more = list(dict.fromkeys([*self.tokens, self.end]))
        made.add_special_tokens({"additional_special_tokens": more})
        made.chat_template = self.template
        if self.adds_bos:
            tiny.begin_texts(made)
        return made


_NO_TWO = (
    "{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') -}}"
    "{%- endif -%}"
)


def _chatml(default: str = "") -> str:
    """ChatML with a system message of its own where the conversation has none."""
    first = f"<|im_start|>system\\n{default}<|im_end|>\\n"
    return (
        ("{%- if messages[0].role != 'system' -%}{{- '" + first + "' -}}{%- endif -%}")
        * bool(default)
        + "{%- for m in messages -%}"
        "{{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    )


_QWEN3 = (
    "{%- set last = namespace(question=messages | length - 1, open=true) -%}"
    "{%- for m in messages | reverse -%}"
    "{%- if last.open and m.role == 'user' and not (m.content.startswith('<tool_response>') "
    "and m.content.endswith('</tool_response>')) -%}"
    "{%- set last.open = false -%}{%- set last.question = messages | length - loop.index -%}"
    "{%- endif -%}{%- endfor -%}"
    "{%- for m in messages -%}"
    "{%- if m.role == 'assistant' -%}"
    "{%- set said, thought = m.content, '' -%}"
    "{%- if '</think>' in said -%}"
    "{%- set thought = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') "
    "-%}{%- set said = said.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}"
    "{{- '<|im_start|>assistant\\n' -}}"
    "{%- if loop.index0 > last.question and (loop.last or thought) -%}"
    "{{- '<think>\\n' ~ thought.strip('\\n') ~ '\\n</think>\\n\\n' ~ said.lstrip('\\n') -}}"
    "{%- else -%}{{- said -}}{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- else -%}{{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}{%- endif -%}"
)

_LLAMA_2 = (
    "{%- set talk = messages -%}{%- set system = '' -%}"
    "{%- if messages[0].role == 'system' -%}{%- set talk = messages[1:] -%}"
    "{%- set system = '<<SYS>>\\n' ~ messages[0].content ~ '\\n<</SYS>>\\n\\n' -%}{%- endif -%}"
    "{%- for m in talk -%}" + _NO_TWO + "{%- if m.role == 'user' -%}"
    "{{- bos_token ~ '[INST] ' ~ ((system if loop.first else '') ~ m.content).strip() ~ ' [/INST]' "
    "-}}{%- else -%}{{- ' ' ~ m.content.strip() ~ ' ' ~ eos_token -}}{%- endif -%}{%- endfor -%}"
)

_LLAMA_3_TURN = (
    "{{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' ~ (m.content | trim) "
    "~ '<|eot_id|>' -}}"
)
_LLAMA_3_ASK = (
    "{%- if add_generation_prompt -%}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}"
)
_LLAMA_3 = (
    "{{- bos_token -}}{%- for m in messages -%}" + _LLAMA_3_TURN + "{%- endfor -%}" + _LLAMA_3_ASK
)
_LLAMA_3_2 = (
    "{{- bos_token -}}{%- set talk = messages -%}{%- set system = '' -%}"
    "{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content | trim -%}"
    "{%- set talk = messages[1:] -%}{%- endif -%}"
    "{%- set today = date_string if date_string is defined else strftime_now('%d %b %Y') -%}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' -}}"
    "{{- 'Cutting Knowledge Date: December 2023\\nToday Date: ' ~ today ~ '\\n\\n' -}}"
    "{{- system ~ '<|eot_id|>' -}}"
    "{%- for m in talk -%}" + _LLAMA_3_TURN + "{%- endfor -%}" + _LLAMA_3_ASK
)

_MISTRAL_3 = (
    "{{- bos_token -}}{%- set talk = messages -%}"
    "{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content -%}"
    "{%- set talk = messages[1:] -%}{%- endif -%}"
    "{%- for m in talk -%}" + _NO_TWO + "{%- if m.role == 'user' -%}"
    "{%- set lead = system ~ '\\n\\n' if loop.last and system is defined else '' -%}"
    "{{- '[INST] ' ~ lead ~ m.content ~ '[/INST]' -}}"
    "{%- else -%}{{- ' ' ~ (m.content | trim) ~ eos_token -}}{%- endif -%}{%- endfor -%}"
)

_GEMMA_TURN = (
    "{{- '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\\n' "
    "~ (lead if loop.first else '') ~ (m.content | trim) ~ '<end_of_turn>\\n' -}}"
)
_GEMMA_ASK = "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}"
_GEMMA_2 = (
    "{{- bos_token -}}{%- set lead = '' -%}{%- if messages[0].role == 'system' -%}"
    "{{- raise_exception('System role not supported') -}}{%- endif -%}"
    "{%- for m in messages -%}" + _NO_TWO + _GEMMA_TURN + "{%- endfor -%}" + _GEMMA_ASK
)
_GEMMA_3 = (
    "{{- bos_token -}}{%- set talk = messages -%}{%- set lead = '' -%}"
    "{%- if messages[0].role == 'system' -%}{%- set lead = messages[0].content ~ '\\n\\n' -%}"
    "{%- set talk = messages[1:] -%}{%- endif -%}"
    "{%- for m in talk -%}" + _NO_TWO + _GEMMA_TURN + "{%- endfor -%}" + _GEMMA_ASK
)

_PHI_3 = (
    "{%- for m in messages -%}"
    "{{- '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '<|end|>\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}"
    "{%- else -%}{{- eos_token -}}{%- endif -%}"
)
_PHI_3_MEDIUM = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}"
    "{{- '<|user|>\\n' ~ m.content ~ '<|end|>\\n<|assistant|>\\n' -}}"
    "{%- elif m.role == 'assistant' -%}{{- m.content ~ '<|end|>\\n' -}}{%- endif -%}{%- endfor -%}"
)
_PHI_4 = (
    "{%- for m in messages -%}"
    "{{- '<|im_start|>' ~ m.role ~ '<|im_sep|>' ~ m.content ~ '<|im_end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant<|im_sep|>' -}}{%- endif -%}"
)

_OLMO_2 = (
    "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'assistant' -%}"
    "{{- '<|assistant|>\\n' ~ m.content ~ eos_token ~ ('' if loop.last else '\\n') -}}"
    "{%- else -%}{{- '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '\\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
)
_ZEPHYR = (
    "{%- for m in messages -%}{{- '<|' ~ m.role ~ '|>\\n' ~ m.content ~ eos_token ~ '\\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"
)

_IM = ("<|im_start|>", "<|im_end|>")
_HEADER = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_ROLES = ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
_QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
_SMOL_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_TEXT_END = "<|endoftext|>"

FORMATS: dict[str, Format] = {
    "qwen2": Format(
        "Qwen/Qwen2-7B-Instruct", _chatml("You are a helpful assistant."), None,
        "<|im_end|>", "<|im_end|>", _IM, begins=False,
    ),
    "qwen2.5": Format(
        "Qwen/Qwen2.5-7B-Instruct", _chatml(_QWEN_SYSTEM), None,
        "<|im_end|>", "<|im_end|>", _IM, begins=False,
    ),
    "qwen3": Format(
        "Qwen/Qwen3-0.6B", _QWEN3, None,
        "<|im_end|>", "<|im_end|>", (*_IM, "<think>", "</think>"), begins=False,
    ),
    "llama-2": Format(
        "meta-llama/Llama-2-7b-chat-hf", _LLAMA_2, "<s>", "</s>", "</s>", adds_bos=True
    ),
    "llama-3": Format(
        "meta-llama/Meta-Llama-3-8B-Instruct", _LLAMA_3, "<|begin_of_text|>",
        "<|eot_id|>", "<|eot_id|>", _HEADER, adds_bos=True,
    ),
    "llama-3.2": Format(
        "meta-llama/Llama-3.2-3B-Instruct", _LLAMA_3_2, "<|begin_of_text|>",
        "<|eot_id|>", "<|eot_id|>", _HEADER, adds_bos=True,
    ),
    "mistral-v0.3": Format(
        "mistralai/Mistral-7B-Instruct-v0.3", _MISTRAL_3, "<s>", "</s>", "</s>",
        ("[INST]", "[/INST]"), system="none", adds_bos=True,
    ),
    "gemma-2": Format(
        "google/gemma-2-2b-it", _GEMMA_2, "<bos>", "<eos>", "<end_of_turn>",
        ("<start_of_turn>",), system="none", adds_bos=True,
    ),
    "gemma-3": Format(
        "google/gemma-3-4b-it", _GEMMA_3, "<bos>", "<eos>", "<end_of_turn>",
        ("<start_of_turn>",), adds_bos=True,
    ),
    "phi-3": Format(
        "microsoft/Phi-3-mini-4k-instruct", _PHI_3, "<s>", _TEXT_END, "<|end|>", _ROLES,
        begins=False,
    ),
    "phi-3-medium": Format(
        "microsoft/Phi-3-medium-4k-instruct, as first published", _PHI_3_MEDIUM, "<s>",
        _TEXT_END, "<|end|>", _ROLES, system="none", begins=False,
    ),
    "phi-4": Format(
        "microsoft/phi-4", _PHI_4, _TEXT_END, "<|im_end|>", "<|im_end|>",
        (*_IM, "<|im_sep|>"), begins=False,
    ),
    "smollm2": Format(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct", _chatml(_SMOL_SYSTEM), "<|im_start|>",
        "<|im_end|>", "<|im_end|>", _IM,
    ),
    "olmo-2": Format(
        "allenai/OLMo-2-1124-7B-Instruct", _OLMO_2, _TEXT_END, _TEXT_END, _TEXT_END
    ),
    "zephyr": Format(
        "HuggingFaceH4/zephyr-7b-beta", _ZEPHYR, "<s>", "</s>", "</s>",
        begins=False, adds_bos=True,
    ),
}  # fmt: skip

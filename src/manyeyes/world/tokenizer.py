"""The tokenizer of the world's language models: byte-level BPE, digits one by one, cheap boxes.

Any text round-trips (bytes are the fallback). Every digit is its own token, so numbers are read and
written digit by digit. The pieces of a box such as ``[0.156,0.203,0.469,0.438]`` that carry no
information are single tokens (``[0.``, ``,0.``, ...): a box costs 17 tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

VOCABULARY_SIZE = 640
"""All tokens together: special ones, 256 bytes, box pieces, merges."""

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, UNKNOWN, SYSTEM, USER, ASSISTANT)
BOX_PIECES = ("[0.", "[1.", ",0.", ",1.", ";0.", ";1.")

CHAT_TEMPLATE = (
    "{{- bos_token -}}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set text = message['content'] -%}"
    "{%- else -%}"
    "{%- set pieces = namespace(text='') -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}"
    "{%- set pieces.text = pieces.text + '<image>' -%}"
    "{%- elif part['type'] == 'text' -%}"
    "{%- set pieces.text = pieces.text + part['text'] -%}"
    "{%- else -%}"
    "{{- raise_exception('unknown content type: ' + part['type']) -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set text = pieces.text -%}"
    "{%- endif -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' -}}"
    "{%- generation -%}{{- ' ' + text + eos_token -}}{%- endgeneration -%}"
    "{%- elif message['role'] in ('user', 'system') -%}"
    "{{- '<|' + message['role'] + '|>' + text -}}"
    "{%- else -%}"
    "{{- raise_exception('unknown role: ' + message['role']) -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""One marker before each message and ``</s>`` after each reply; no line breaks of its own.

A reply begins with a space, as in Llama 2's format, so that its first word is the same token that
it is inside a sentence. Content is a string or a list of ``{"type": "text", "text": ...}`` and
``{"type": "image"}`` parts; an image becomes ``<image>``, which a processor expands."""


def train_tokenizer(texts: Iterable[str], size: int = VOCABULARY_SIZE) -> PreTrainedTokenizerFast:
    """Train the tokenizer on ``texts``; equal texts in equal order give an equal tokenizer.

    Args:
        texts: documents without special tokens.
        size: number of tokens in all; never more than that, fewer if the texts give no more merges.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(BOX_PIECES),
        min_frequency=8,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in BOX_PIECES])
    return wrap_tokenizer(tokenizer)


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Return the Hugging Face tokenizer with special tokens and chat template set."""
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        padding_side="right",
        model_max_length=2048,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped

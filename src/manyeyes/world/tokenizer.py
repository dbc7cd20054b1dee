"""The tokenizer of the world's language models: byte-level BPE, digits one by one, coordinates.

Any text round-trips (bytes are the fallback). Every digit is its own token, but the coordinates
that boxes of a world's picture can have, whole pixels over its side as in
``[0.146,0.208,0.458,0.438]``, are single tokens: such a box costs 9. Any other number is written
digit by digit.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from manyeyes.world.sample import IMAGE_SIZE

VOCABULARY_SIZE = 640
"""All tokens together: special ones, 256 bytes, coordinates, merges."""

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL_TOKENS = (PAD, BOS, EOS, UNKNOWN, SYSTEM, USER, ASSISTANT)

COORDINATES = tuple(f"{pixel / IMAGE_SIZE:.3f}" for pixel in range(IMAGE_SIZE + 1))
"""Every coordinate of a box in a square picture of the world, from its first edge to its last."""

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
        vocab_size=size - len(COORDINATES),
        min_frequency=8,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in COORDINATES])
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

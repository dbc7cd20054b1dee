"""Text that a fusion reads beside the images: which text, in which tokenizer's ids.

    question   what the user asks, for fusions that look for its answer (InstructBLIP, LION)
    caption    what the image shows, for the image-text objectives (BLIP-2, X-Former)

Shapes: I images, T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from manyeyes.checkpoints import hub
from manyeyes.checkpoints.trust import trusts_remote_code
from manyeyes.errors import CheckpointError, DataError, PartError
from manyeyes.records import IMAGE_PLACEHOLDER, FusionText, Turn

ReaderKind = Literal["question", "caption"]

DECODE = "[DEC]"
"""First token of text that is being written; the last entry of the vocabulary."""

MAX_WORDS = 50
"""Words of a caption that are kept (LAVIS)."""

_PUNCTUATION = re.compile(r"[.!\"()*#:;~]")


@dataclass(frozen=True)
class ReaderSpec:
    """What the processor must know of a fusion that reads text.

    tokenizer: hub id, folder or ``world:`` part. kind: which text. length: longest, in tokens.
    vocab_size: entries of the fusion's embedding, ``[DEC]`` included.
    """

    tokenizer: str
    kind: ReaderKind
    length: int
    vocab_size: int


class TextReader:
    """A BERT-type tokenizer and the choice of text.

    Args:
        tokenizer: with padding, and first and last tokens ([CLS], [SEP], or else bos, eos).
        kind: which text. length: longest text in tokens, first and last included; a question loses
            its beginning (LION §1.1), a caption its end (BLIP-2).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, kind: ReaderKind, length: int) -> None:
        self.tokenizer, self.kind, self.length = tokenizer, kind, length
        add_decode_token(tokenizer)
        self.first = _one_of(tokenizer, "cls_token_id", "bos_token_id")
        self.last = _one_of(tokenizer, "sep_token_id", "eos_token_id")
        self.pad = _one_of(tokenizer, "pad_token_id")

    @classmethod
    def from_spec(cls, spec: ReaderSpec) -> TextReader:
        """Build the reader of a fusion.

        Raises:
            CheckpointError: no tokenizer. PartError: it does not fit the fusion's vocabulary.
        """
        tokenizer = fusion_tokenizer(spec.tokenizer)
        if len(tokenizer) != spec.vocab_size:
            raise PartError(
                f"fusion.vocab_size is {spec.vocab_size}, but the tokenizer {spec.tokenizer!r} has "
                f"{len(tokenizer)} entries with {DECODE}"
            )
        return cls(tokenizer, spec.kind, spec.length)

    @classmethod
    def load(cls, place: str, subfolder: str, kind: ReaderKind, length: int) -> TextReader:
        """Load the reader of a checkpoint; ``subfolder`` holds its tokenizer."""
        tokenizer = AutoTokenizer.from_pretrained(
            place, subfolder=subfolder, trust_remote_code=trusts_remote_code()
        )
        return cls(tokenizer, kind, length)

    def text(self, turns: Sequence[Turn]) -> str:
        """Return the text to read in a conversation: its last question, or all that it answers."""
        if self.kind == "question":
            return question_of(turns)
        answers = [turn.text for turn in turns if turn.role == "assistant"]
        return clean_caption(without_placeholders(" ".join(answers)))

    def ids(self, text: str) -> Tensor:
        """Return the ids ``[T]`` of one text, at most ``length``."""
        inner = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        room = self.length - 2
        kept = inner[:room] if self.kind == "caption" else inner[max(0, len(inner) - room) :]
        return torch.tensor([self.first, *kept, self.last])

    def row(self, turns: Sequence[Turn], images: int, name: str) -> dict[str, Tensor]:
        """Return ``<kind>_ids`` ``[T]`` of one conversation with so many images.

        Raises:
            DataError: a caption of anything but one image, or none; ``name`` is the sample's.
        """
        text = self.text(turns)
        if self.kind == "caption" and (images != 1 or not text):
            raise DataError(
                f"sample {name!r}: image-text objectives need one image and its text, got "
                f"{images} image(s) and {'a' if text else 'no'} text"
            )
        return {f"{self.kind}_ids": self.ids(text)}

    def inputs(self, rows: Sequence[Tensor], images: Sequence[int]) -> dict[str, Tensor]:
        """Return ``<kind>_ids`` and ``<kind>_mask`` ``[I, T]``, a row once for each of its images.

        Empty where there is no image.
        """
        each = [row for row, count in zip(rows, images, strict=True) for _ in range(count)]
        if not each:
            return {}
        batch = self.batch(each)
        return {f"{self.kind}_ids": batch.ids, f"{self.kind}_mask": batch.mask}

    def question_inputs(
        self, questions: Sequence[str], images: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """Return ``inputs`` of questions; ``images``: how many each is about, None = one."""
        rows = [self.ids(without_placeholders(question)) for question in questions]
        return self.inputs(rows, [1] * len(rows) if images is None else images)

    def batch(self, rows: Sequence[Tensor]) -> FusionText:
        """Pad rows of ids on the right."""
        padded = torch.nn.utils.rnn.pad_sequence(
            list(rows), batch_first=True, padding_value=float(self.pad)
        )
        lengths = torch.tensor([len(row) for row in rows])
        return FusionText(padded, (torch.arange(padded.shape[1]) < lengths[:, None]).long())

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files."""
        self.tokenizer.save_pretrained(folder)


def fusion_tokenizer(checkpoint: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a fusion's text side, ``[DEC]`` added.

    Raises:
        CheckpointError: none there.
    """
    try:
        with hub.reading(checkpoint):
            tokenizer: Any = AutoTokenizer.from_pretrained(
                hub.resolve(checkpoint), trust_remote_code=trusts_remote_code()
            )
    except CheckpointError as error:
        raise CheckpointError(f"fusion.tokenizer: no usable tokenizer: {error}") from error
    add_decode_token(tokenizer)
    return tokenizer


def add_decode_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Add ``[DEC]`` to a tokenizer that lacks it."""
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [DECODE]}, replace_extra_special_tokens=False
    )


def clean_caption(text: str) -> str:
    """Return a caption in lower case, without marks, of at most 50 words. Source: LAVIS."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split()[:MAX_WORDS])


def question_of(turns: Sequence[Turn]) -> str:
    """Return the last question of a conversation."""
    asked = [turn.text for turn in turns if turn.role == "user"]
    return without_placeholders(asked[-1]) if asked else ""


def without_placeholders(text: str) -> str:
    """Return a turn's text without what stands for images; boxes are words by now."""
    return text.replace(IMAGE_PLACEHOLDER, " ").strip()


def _one_of(tokenizer: PreTrainedTokenizerBase, *names: str) -> int:
    for name in names:
        found = getattr(tokenizer, name, None)
        if found is not None:
            return int(found)
    raise PartError(f"fusion.tokenizer: the tokenizer has no {' or '.join(names)}")

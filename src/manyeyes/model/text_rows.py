"""Conversations to rows of token ids: the text half of the processor.

Shapes: T positions, A answer length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from manyeyes.bridge import ImageTokenIds
from manyeyes.conversation.prompts import ANSWER_ENDS
from manyeyes.conversation.rendering import Rendered, render, turns_to_messages, without_images
from manyeyes.conversation.tags import check_tags, fitting, put_tags, without_slots
from manyeyes.errors import DataError, PlaceholderError, RecipeError
from manyeyes.language import IGNORE
from manyeyes.records import IMAGE_PLACEHOLDER, Tags, Turn


class TextRows:
    """How a conversation with images and tags becomes ids and labels; see ``ManyEyesProcessor``."""

    tokenizer: Any
    prompt_style: str
    max_length: int | None
    visual_tokens: int
    start_end: bool
    answers_in_sequence: bool
    tags: str
    image_token_ids_by_role: ImageTokenIds

    def clean(self, turns: Sequence[Turn]) -> list[Turn]:
        """Return the turns without words that would be read as the soft prompt's slot."""
        return without_slots(turns) if self.tags == "soft" else list(turns)

    def with_tags(self, turns: Sequence[Turn], tags: Tags | None, name: str) -> list[Turn]:
        """Put every image's tag sentence into the turns; ``max_length`` takes tags, nothing else.

        Raises:
            DataError: the model reads tags, but there are none.
        """
        if self.tags == "none":
            return list(turns)
        images = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in turns)
        tags = check_tags(tags, images, name)
        limit = self.max_length

        def fits(some: Tags) -> bool:
            return limit is None or self._length(put_tags(turns, some, self.tags)) <= limit

        return put_tags(turns, fitting(tags, fits), self.tags)

    def _length(self, turns: Sequence[Turn]) -> int:
        """Count the tokens that ``max_length`` limits, visual ones included."""
        messages = turns_to_messages(turns)
        apart = not self.answers_in_sequence and messages[-1]["role"] == "assistant"
        rendered = render(
            messages[:-1] if apart else messages,
            self.tokenizer,
            self.prompt_style,
            generation_prompt=apart or messages[-1]["role"] != "assistant",
        )
        if self.images_leave_no_token:
            rendered, _ = without_images(rendered)
        return len(self.prompt_ids([rendered.text])[0])

    @property
    def images_leave_no_token(self) -> bool:
        """Whether an image's placeholder becomes nothing at all in the text."""
        return self.visual_tokens == 0 and not self.start_end

    def expand(self, token: int) -> list[int]:
        """Return what stands for one token of a rendered text: an image is a run of tokens."""
        ids = self.image_token_ids_by_role
        if token != ids.image:
            return [token]
        run = [ids.image] * self.visual_tokens
        return [ids.start, *run, ids.end] if self.start_end else run

    def prompt_ids(
        self, texts: Sequence[str], add_special_tokens: bool | None = None
    ) -> list[list[int]]:
        """Return the ids of each text, its images expanded; see ``tokenized``."""
        if self.images_leave_no_token:
            texts = [without_images(Rendered(text, ()))[0].text for text in texts]
        rows = [self.tokenized(text, add_special_tokens)[0] for text in texts]
        return [[part for token in row for part in self.expand(token)] for row in rows]

    def tokenized(
        self, text: str, add_special_tokens: bool | None = None
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Return a text's ids and the characters [first, last) of each.

        ``add_special_tokens``: True = the tokenizer's own; False = none; None = as the prompt style
        does: a model's own chat template writes its tokens itself, so at most the token that begins
        every text is added, where the template did not write it. It is never written twice.
        """
        own = add_special_tokens is None and self.prompt_style == "chat"
        begin = self.tokenizer.bos_token
        begun = begin is not None and text.startswith(begin)
        added = not own if add_special_tokens is None else add_special_tokens
        encoded = self.tokenizer(
            text, add_special_tokens=added and not begun, return_offsets_mapping=True
        )
        ids, places = list(encoded["input_ids"]), list(encoded["offset_mapping"])
        if own and not begun and self._begins_texts:
            return [self.tokenizer.bos_token_id, *ids], [(0, 0), *places]
        return ids, places

    @property
    def _begins_texts(self) -> bool:
        """Whether the tokenizer begins every text with its first token."""
        begin = self.tokenizer.bos_token_id
        return begin is not None and self.tokenizer("")["input_ids"][:1] == [begin]

    @property
    def answer_end(self) -> int | None:
        """The token that ends an answer where the prompt style decides it, see ``ANSWER_ENDS``.

        Raises:
            RecipeError: the tokenizer does not write it as one token.
        """
        end = ANSWER_ENDS.get(self.prompt_style)
        if end is None or not self.answers_in_sequence:
            return None
        ids = self.tokenizer(end, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise RecipeError(
                f"model.prompt_style {self.prompt_style!r} ends answers with {end!r}, which this "
                f"tokenizer writes as {len(ids)} tokens: choose another prompt_style"
            )
        return int(ids[0])

    def supervised(self, rendered: Rendered) -> tuple[list[int], list[bool]]:
        """Return a rendered text's ids, images expanded, and whether each is the assistant's."""
        ids: list[int] = []
        inside: list[bool] = []
        for token, (first, last) in zip(*self.tokenized(rendered.text), strict=True):
            expanded = self.expand(token)
            ids.extend(expanded)
            inside.extend([first < last and rendered.supervises(first, last)] * len(expanded))
        return ids, inside

    def encode_in_sequence(self, rendered: Rendered, name: str) -> dict[str, Tensor]:
        """Return ids and labels of a whole conversation, the assistant's text supervised.

        Raises:
            PlaceholderError: ``max_length`` would cut image tokens off.
            DataError: nothing is left to supervise.
        """
        ids, inside = self.supervised(rendered)
        ids_T = torch.tensor(ids)
        labels_T = torch.where(torch.tensor(inside, dtype=torch.bool), ids_T, IGNORE)
        return self._truncate(ids_T, labels_T, name)

    def encode_apart(
        self, messages: list[dict[str, str]], whole: Rendered, name: str, *, cut: bool = True
    ) -> dict[str, Tensor]:
        """Return ids of the prompt for the encoder, and labels of the answer at ``whole``'s end.

        ``cut``: to ``max_length``, as LION does: a prompt loses the beginning of its text, an
        answer its end but for the end token. An answer may be as long as a prompt's text beside one
        image may be.

        Raises:
            PlaceholderError: ``max_length`` leaves no room for the image tokens.
        """
        prompt = render(messages[:-1], self.tokenizer, self.prompt_style, generation_prompt=True)
        (ids,) = self.prompt_ids([prompt.text])
        ids_T, labels_A = torch.tensor(ids), self._answer(messages, whole)
        if not cut or self.max_length is None:
            return {"input_ids": ids_T, "labels": labels_A}
        room = max(2, self.max_length - self.visual_tokens)
        if len(labels_A) > room:
            labels_A = torch.cat([labels_A[: room - 1], labels_A[-1:]])
        return {"input_ids": self._without_beginning(ids_T, name), "labels": labels_A}

    def _without_beginning(self, ids_T: Tensor, name: str) -> Tensor:
        """Leave out words from the left until ``max_length`` holds; image tokens and slots stay."""
        excess = len(ids_T) - (self.max_length or len(ids_T))
        if excess <= 0:
            return ids_T
        words = (~torch.isin(ids_T, torch.tensor(self.image_token_ids_by_role))).nonzero()[:, 0]
        if len(words) < excess:
            raise self._no_room(len(ids_T), name)
        kept = torch.ones(len(ids_T), dtype=torch.bool)
        kept[words[:excess]] = False
        return ids_T[kept]

    def _answer(self, messages: Sequence[dict[str, str]], whole: Rendered) -> Tensor:
        """Return the decoder's labels ``[A]``, which end with the end token.

        A model's own chat template writes the answer as the model knows it; in other styles the
        tokenizer does.
        """
        if self.prompt_style == "chat":
            first, last = whole.spans[-1]
            text = whole.text[first:last]
            return torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = self.tokenizer(text_target=messages[-1]["content"])["input_ids"]
        end = self.tokenizer.eos_token_id
        return torch.tensor(ids if end is None or ids[-1:] == [end] else [*ids, end])

    def _truncate(self, ids_T: Tensor, labels_T: Tensor, name: str) -> dict[str, Tensor]:
        if self.max_length is not None and len(ids_T) > self.max_length:
            cut = ids_T[self.max_length :]
            if bool(torch.isin(cut, torch.tensor(self.image_token_ids_by_role)).any()):
                raise self._no_room(len(ids_T), name)
            ids_T, labels_T = ids_T[: self.max_length], labels_T[: self.max_length]
        if not bool((labels_T[1:] != IGNORE).any()):
            raise DataError(f"sample {name!r}: no assistant text to learn from within max_length")
        return {"input_ids": ids_T, "labels": labels_T}

    def _no_room(self, length: int, name: str) -> PlaceholderError:
        return PlaceholderError(
            f"sample {name!r}: {length} tokens do not fit max_length {self.max_length}, and "
            "cutting would remove image tokens"
        )

"""Turns to rows of token ids: the text half of the processor.

    turns ─tags→ messages ─prompt style→ text ─tokenizer, images expanded→ ids, labels

Shapes: T positions, A answer length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manyeyes.bridge import ImageTokenIds
from manyeyes.conversation.prompts import ANSWER_ENDS
from manyeyes.conversation.rendering import Rendered, render, turns_to_messages, without_images
from manyeyes.conversation.tags import check_tags, fitting, put_tags, without_slots
from manyeyes.errors import DataError, PlaceholderError, RecipeError
from manyeyes.language import too_long
from manyeyes.layers.tiling import TileLayout
from manyeyes.model.pictures.tiles import need_sizes
from manyeyes.records import IGNORE, IMAGE_PLACEHOLDER, Tags, Turn


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """How conversations whose boxes and objects are words become ids and labels.

    The fields are those of ``ManyEyesProcessor``; ``image_ids`` are the tokens of images,
    ``layout`` says how many of them a picture in tiles has. ``lengths`` of a method are those of
    the images in reading order; None = ``visual_tokens`` each.
    """

    tokenizer: Any
    image_ids: ImageTokenIds
    prompt_style: str
    visual_tokens: int
    layout: TileLayout | None
    start_end: bool
    max_length: int | None
    positions: int | None
    answers_in_sequence: bool
    tags: str

    def row(
        self,
        turns: Sequence[Turn],
        tags: Tags | None,
        lengths: Sequence[int],
        name: str,
        *,
        cut: bool = True,
    ) -> dict[str, Tensor]:
        """Return ``input_ids`` ``[T]`` and ``labels``, ``[T]`` or ``[A]``, of one conversation.

        Args:
            tags, lengths: of its images. name: of the sample, for messages.
            cut: what an encoder-decoder model reads is cut to ``max_length``, as in training.

        Raises:
            PlaceholderError: placeholders and images disagree, or ``max_length`` would cut images.
            DataError: nothing is left to supervise, or the conversation is longer than the
                language model reads and ``max_length`` does not cut it.
        """
        messages = turns_to_messages(self.with_tags(turns, tags, name))
        rendered = render(messages, self.tokenizer, self.prompt_style)
        if self.images_leave_no_token:
            rendered, found = without_images(rendered)
            _check_placeholders(found, len(lengths), name)
        if self.answers_in_sequence:
            row = self._in_sequence(rendered, lengths, name)
        else:
            row = self._apart(messages, rendered, name, cut=cut)
        self._check_images(row["input_ids"], lengths, name)
        self._check_length(row, name)
        return row

    def batch(self, rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Pad the ids and labels of rows on the right.

        A decoder-only batch gets no attention mask: behind causal attention right padding is never
        seen by a real token, and attention without a mask is faster.
        """
        ids = [row["input_ids"] for row in rows]
        batch = {
            "input_ids": _pad_right(ids, self.tokenizer.pad_token_id),
            "labels": _pad_right([row["labels"] for row in rows], IGNORE),
        }
        if not self.answers_in_sequence:
            batch["attention_mask"] = _pad_right([torch.ones_like(x) for x in ids], 0)
        return batch

    def prompt(self, turns: Sequence[Turn], tags: Tags | None, name: str) -> str:
        """Return the string of a conversation that awaits an answer.

        Raises:
            DataError: the model reads tags, but there are none.
        """
        messages = turns_to_messages(self.with_tags(turns, tags, name))
        return render(messages, self.tokenizer, self.prompt_style, generation_prompt=True).text

    def tagged(self, text: str, tags: Tags) -> str:
        """Return a prompt with the tag sentences of its images, whatever its length.

        Raises:
            DataError: tags of another number of images.
        """
        checked = check_tags(tags, text.count(IMAGE_PLACEHOLDER), "the prompt")
        return put_tags(self.clean([Turn("user", text)]), checked, self.tags)[0].text

    def clean(self, turns: Sequence[Turn]) -> list[Turn]:
        """Return the turns without words that would be read as the soft prompt's slot."""
        return without_slots(turns) if self.tags == "soft" else list(turns)

    def with_tags(self, turns: Sequence[Turn], tags: Tags | None, name: str) -> list[Turn]:
        """Put every image's tag sentence into the turns, with as many tags as ``max_length`` holds.

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
        """Count the tokens that ``max_length`` limits, visual ones included.

        Of pictures in tiles the most: training and answering leave out the same tags.
        """
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
        images = rendered.text.count(IMAGE_PLACEHOLDER)
        longest = self.visual_tokens if self.layout is None else self.layout.longest
        return len(self.ids([rendered.text], lengths=[longest] * images)[0])

    @property
    def images_leave_no_token(self) -> bool:
        """Whether an image's placeholder becomes nothing at all in the text."""
        return self.visual_tokens == 0 and not self.start_end

    def runs(self, lengths: Sequence[int] | None = None) -> Iterator[int]:
        """Yield the tokens of one image after another, without end: too many are found later.

        Raises:
            UsageError: pictures are seen in tiles, and ``lengths`` is None.
        """
        if lengths is None and self.layout is not None:
            raise need_sizes()
        yield from lengths or ()
        while True:
            yield self.visual_tokens

    def _expand(self, token: int, runs: Iterator[int]) -> list[int]:
        """Return what stands for one token of a rendered text: an image is a run of tokens."""
        ids = self.image_ids
        if token != ids.image:
            return [token]
        run = [ids.image] * next(runs)
        return [ids.start, *run, ids.end] if self.start_end else run

    def ids(
        self,
        texts: Sequence[str],
        add_special_tokens: bool | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[list[int]]:
        """Return the ids of each text, its images expanded; see ``_tokenized``.

        ``lengths``: of the images of all texts.

        Raises:
            UsageError: see ``runs``.
        """
        runs = self.runs(lengths)
        if self.images_leave_no_token:
            texts = [without_images(Rendered(text, ()))[0].text for text in texts]
        rows = [self._tokenized(text, add_special_tokens)[0] for text in texts]
        return [[part for token in row for part in self._expand(token, runs)] for row in rows]

    def _tokenized(
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

    def padded(
        self,
        texts: Sequence[str],
        add_special_tokens: bool | None,
        padding: bool | str,
        padding_side: str,
        lengths: Sequence[int] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``input_ids`` and ``attention_mask`` ``[B, T]`` of texts; see ``ids``."""
        padded = self.tokenizer.pad(
            {"input_ids": self.ids(texts, add_special_tokens, lengths)},
            padding=padding,
            padding_side=padding_side,
            return_tensors="pt",
        )
        return {name: padded[name] for name in ("input_ids", "attention_mask")}

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

    def supervised(self, rendered: Rendered, runs: Iterator[int]) -> tuple[list[int], list[bool]]:
        """Return a rendered text's ids, images expanded, and whether each is the assistant's.

        ``runs``: the tokens of its images, see ``runs``.
        """
        ids: list[int] = []
        answers: list[bool] = []
        for token, (first, last) in zip(*self._tokenized(rendered.text), strict=True):
            expanded = self._expand(token, runs)
            ids.extend(expanded)
            answers.extend([first < last and rendered.supervises(first, last)] * len(expanded))
        return ids, answers

    def _in_sequence(
        self, rendered: Rendered, lengths: Sequence[int], name: str
    ) -> dict[str, Tensor]:
        """Return ids and labels of a whole conversation, the assistant's text supervised.

        Raises:
            PlaceholderError: ``max_length`` would cut image tokens off.
            DataError: nothing is left to supervise.
        """
        ids, answers = self.supervised(rendered, self.runs(lengths))
        ids_T = torch.tensor(ids)
        labels_T = torch.where(torch.tensor(answers, dtype=torch.bool), ids_T, IGNORE)
        return self._truncate(ids_T, labels_T, name)

    def _apart(
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
        (ids,) = self.ids([prompt.text])
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
        words = (~torch.isin(ids_T, torch.tensor(self.image_ids))).nonzero()[:, 0]
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
            if bool(torch.isin(cut, torch.tensor(self.image_ids)).any()):
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

    def _check_images(self, ids_T: Tensor, lengths: Sequence[int], name: str) -> None:
        found, images = int((ids_T == self.image_ids.image).sum()), len(lengths)
        if found == sum(lengths):
            return
        expected = f"{images} image(s) x {self.visual_tokens} visual tokens = {sum(lengths)}"
        if self.layout is not None:
            expected = f"its {images} image(s) in tiles have {sum(lengths)}"
        raise PlaceholderError(f"sample {name!r}: {found} image tokens in the text, but {expected}")

    def _check_length(self, row: Mapping[str, Tensor], name: str) -> None:
        longest = max(len(row["input_ids"]), len(row["labels"]))
        problem = too_long(longest, self.positions)
        if problem is not None:
            raise DataError(
                f"sample {name!r}: {problem}; shorten it, or let the recipe cut it with "
                f"model.max_tokens: {self.positions}"
            )


def _check_placeholders(found: int, images: int, name: str) -> None:
    if found != images:
        raise PlaceholderError(
            f"sample {name!r}: {found} {IMAGE_PLACEHOLDER} placeholders in the text, but "
            f"{images} image(s)"
        )


def _pad_right(rows: Sequence[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)

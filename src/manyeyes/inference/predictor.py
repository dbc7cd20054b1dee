"""Our model as a `Predictor`: every image is encoded once, however many questions it gets.

Shapes: I images of a group, B questions of a batch, T positions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from manyeyes.conversation.task_types import REGION
from manyeyes.errors import DataError, UsageError
from manyeyes.images.reading import image_size, load_image
from manyeyes.inference.decoding import GREEDY, Decoding
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.inference.fingerprint import answers_fingerprint
from manyeyes.inference.groups import Group, has_places, image_paths, said_sizes
from manyeyes.inference.perceived import NOTHING_KNOWN, PerceivedImages
from manyeyes.inference.prefix_cache import PrefixCache
from manyeyes.inference.questions import AnswerKind, Item
from manyeyes.inference.ranking import (
    Likelihood,
    RankedQuestion,
    ShownImages,
    rank_candidates,
    ranked_question,
)
from manyeyes.language import position_limit, too_long
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import Perceived

MAX_NEW_TOKENS: Mapping[AnswerKind, int] = {
    "boxes": 64,
    "caption": 64,
    "detections": 1024,
    "long": 256,
    "short": 16,
}
"""Length limit of an answer by its kind."""

REGION_ANSWERS: tuple[AnswerKind, ...] = ("boxes", "detections")
"""Kinds of answers that are about regions, whatever the question's form (LION §2.2)."""


class ModelPredictor:
    """Answers of a manyeyes model, in its recipe's prompt style.

    Args:
        model, processor: a trained pair; the model is put in ``eval()``.
        batch_size: questions that are generated together, sorted by length and padded on the left.
        image_batch: images that are encoded together.
        max_new_tokens: limits by answer kind, instead of ``MAX_NEW_TOKENS``.
        decoding: arguments of ``generate`` instead of greedy decoding, see ``inference.decoding``.
        perceived: tags of images, for models that read them, and objects in place of those that
            the model's own detector finds.
        dtype: run under autocast in this type (``torch.bfloat16`` is several times faster on CPUs
            that have it; answers can differ in rare ties).

    Raises:
        UsageError: a batch size below 1.
    """

    def __init__(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        *,
        batch_size: int = 32,
        image_batch: int = 32,
        max_new_tokens: Mapping[AnswerKind, int] | None = None,
        decoding: Decoding = GREEDY,
        dtype: torch.dtype | None = None,
        perceived: PerceivedImages = NOTHING_KNOWN,
    ) -> None:
        if batch_size < 1 or image_batch < 1:
            raise UsageError(f"batch sizes must be at least 1, got {batch_size} and {image_batch}")
        self.model, self.processor = model, processor
        self.model.eval()
        self.batch_size, self.image_batch = batch_size, image_batch
        limits = MAX_NEW_TOKENS
        if decoding.max_new_tokens is not None:
            limits = dict.fromkeys(limits, decoding.max_new_tokens)
        self.max_new_tokens = {**limits, **(max_new_tokens or {})}
        self.decoding = dict(decoding.arguments)
        self.perceived, self.dtype = perceived, dtype
        self.positions = position_limit(model.config.text_config)
        self._prefixes = PrefixCache(model)

    @property
    def box_style(self) -> str:
        """The recipe's box style."""
        return self.processor.box_style

    @property
    def generation(self) -> Mapping[str, Any]:
        """How answers are decoded, and their limits."""
        return {
            **self.decoding,
            "max_new_tokens": dict(self.max_new_tokens),
            "dtype": str(self.dtype or next(self.model.parameters()).dtype),
            "prompt_style": self.processor.prompt_style,
            **self.perceived.record,
        }

    def with_perceived(self, perceived: PerceivedImages) -> ModelPredictor:
        """Return a predictor that is told this of the images."""
        other = copy.copy(self)
        other.__dict__.pop("fingerprint", None)
        other.perceived = perceived
        return other

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all weights and the generation arguments."""
        return answers_fingerprint(self.model, self.generation)

    def check_lengths(self, items: Sequence[Item]) -> None:
        """Make sure that the language model can read every question, before any is answered.

        Detected objects, which are not known yet, are counted when the question is asked.

        Raises:
            DataError: names the questions that are too long, and their tokens.
        """
        if self.positions is None:
            return
        prompts = []
        for item in items:
            turns = item.turns(shown=True)
            sizes = said_sizes(item) if has_places(turns) else []
            tags = [Perceived(tags=self.perceived.tags_of(image)) for image in item.images]
            known = Perceived.of_images(tags)
            prompts.append(
                self.processor.prompt(turns, image_sizes=sizes, perceived=Perceived(known.tags))
            )
        tiled = self.processor.tiles is not None
        shown = [image for item in items for image in item.images]
        self._lengths(items, prompts, [image_size(image) for image in shown] if tiled else None)

    def answer(self, items: Sequence[Item], *, with_images: bool) -> list[str]:
        """One raw answer per item, in order; without images the prompts hold no placeholder.

        1. group    the questions of an image stand together, ``image_batch`` images to a group
        2. encode   each image of the group once
        3. generate the group's questions in batches of equal limit and similar length

        Raises:
            DataError: a question that is longer than the language model reads.
        """
        answers = [""] * len(items)
        for positions in self._groups(items):
            group = [items[position] for position in positions]
            for place, text in self._answer_group(group, with_images):
                answers[positions[place]] = text
        return answers

    def rank(self, items: Sequence[Item], *, with_images: bool) -> list[list[Likelihood]]:
        """The likelihood of every candidate of every item, in order; see `ranking`.

        Each image is encoded once, and each prompt is read once for all of its candidates.
        """
        found: list[list[Likelihood]] = [[] for _ in items]
        for positions in self._groups(items):
            group = [items[position] for position in positions]
            ranked = self._rank_group(group, with_images)
            for position, likelihoods in zip(positions, ranked, strict=True):
                found[position] = likelihoods
        return found

    @torch.inference_mode()
    def _rank_group(self, items: Sequence[Item], with_images: bool) -> list[list[Likelihood]]:
        ranked: list[list[Likelihood]] = []
        with self._computing():
            group = self._group(items, with_images)
            fused_apart = with_images and self.processor.reads_questions
            together = self.batch_size if fused_apart else len(items)
            for start in range(0, len(items), together):
                places = range(start, min(start + together, len(items)))
                questions = [self._ranked(items[place], group) for place in places]
                shown = self._shown(group, places)
                ranked += rank_candidates(self.model, questions, shown, batch_size=self.batch_size)
        return ranked

    def _ranked(self, item: Item, group: Group) -> RankedQuestion:
        if item.more_images or item.before:
            raise DataError(
                f"question {item.id!r} has several images or earlier turns: candidates are ranked "
                "for one question about one image"
            )
        asked = group.question(item)
        try:
            return ranked_question(
                self.processor,
                asked.turns[-1],
                item.candidates,
                image_sizes=asked.sizes,
                perceived=asked.perceived,
                lengths=self.processor.image_lengths(group.sizes([item])),
            )
        except DataError as error:
            raise DataError(f"question {item.id!r}: {error}") from error

    def _groups(self, items: Sequence[Item]) -> Iterator[list[int]]:
        by_image: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            by_image.setdefault(item.image, []).append(position)
        images = list(by_image.values())
        for start in range(0, len(images), self.image_batch):
            yield [p for positions in images[start : start + self.image_batch] for p in positions]

    @torch.inference_mode()
    def _answer_group(self, items: Sequence[Item], with_images: bool) -> list[tuple[int, str]]:
        """Answers of one group of images as (place in ``items``, text)."""
        answered: list[tuple[int, str]] = []
        with self._computing():
            group = self._group(items, with_images)
            prompts = [self._prompt(item, group) for item in items]
            rooms = self._rooms(items, self._lengths(items, prompts, group.sizes(items)))
            for batch in self._batches(rooms, self._order(group, prompts)):
                texts = self._generate(
                    [prompts[place] for place in batch],
                    [items[place] for place in batch],
                    self._shown(group, batch),
                    rooms[batch[0]],
                    group.sizes([items[place] for place in batch]),
                )
                answered.extend(zip(batch, texts, strict=True))
        return answered

    def _computing(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, self.dtype, enabled=self.dtype is not None)

    def _group(self, items: Sequence[Item], with_images: bool) -> Group:
        if not with_images:
            return Group(items, None)
        paths = image_paths(items)
        known = [self.perceived.of(path) for path in paths]
        pictures = [load_image(path) for path in paths]
        # encoders and fusion run here, once for all questions about these pictures
        return Group(items, EncodedImages(self.model, self.processor, pictures, known))

    def _shown(self, group: Group, places: Sequence[int]) -> ShownImages | None:
        """What the items at some places of a group are shown."""
        if group.images is None:
            return None
        chosen = [group.items[place] for place in places]
        asked: list[str] = []
        for item in chosen if self.processor.reads_questions else ():
            asked += [self._asked(item)] * len(item.images)
        rows = [group.rows[image] for item in chosen for image in item.images]
        return group.images.shown(rows, asked)

    def _prompt(self, item: Item, group: Group) -> str:
        asked = group.question(item)
        return self.processor.prompt(
            asked.turns, image_sizes=asked.sizes, perceived=asked.perceived
        )

    def _asked(self, item: Item) -> str:
        """The question with its boxes written, as a fusion and the choice of a route read it."""
        asked = Group([item], None).question(item)
        return self.processor.write_turns(asked.turns, asked.sizes)[-1].text

    def _lengths(
        self,
        items: Sequence[Item],
        prompts: Sequence[str],
        sizes: Sequence[tuple[int, int]] | None,
    ) -> list[int]:
        """Return the tokens of each prompt; DataError if the language model cannot read one.

        ``sizes``: of the pictures of all items.
        """
        visual = self.processor.image_lengths(sizes)
        lengths = [len(ids) for ids in self.processor.text_rows.ids(prompts, lengths=visual)]
        answered = self.processor.answers_in_sequence
        bad = [
            f"{item.id!r} has {problem}"
            for item, length in zip(items, lengths, strict=True)
            if (problem := too_long(length, self.positions, answered=answered)) is not None
        ]
        if bad:
            raise DataError(
                f"{len(bad)} of {len(items)} questions cannot be asked: question {bad[0]}; shorten "
                "them or leave them out"
                + (f" (also {', '.join(text.split()[0] for text in bad[1:6])})" if bad[1:] else "")
            )
        return lengths

    def _rooms(self, items: Sequence[Item], lengths: Sequence[int]) -> list[int]:
        """How many tokens each answer may have: its kind's limit, or what positions are left."""
        wanted = [self.max_new_tokens[item.answer] for item in items]
        if self.positions is None or not self.processor.answers_in_sequence:
            return wanted
        left = [self.positions - length for length in lengths]
        return [min(pair) for pair in zip(wanted, left, strict=True)]

    def _order(self, group: Group, prompts: Sequence[str]) -> list[tuple[int, int]]:
        """What each prompt is sorted by: its image, where its beginning is shared, then length."""
        together = group.images is not None and not self.processor.reads_questions
        shared = together and self._prefixes.usable
        return [
            (group.rows[item.image] if shared else 0, len(prompt))
            for item, prompt in zip(group.items, prompts, strict=True)
        ]

    def _batches(
        self, rooms: Sequence[int], order: Sequence[tuple[int, int]]
    ) -> Iterator[list[int]]:
        by_room: dict[int, list[int]] = {}
        for place, room in enumerate(rooms):
            by_room.setdefault(room, []).append(place)
        for places in by_room.values():
            places.sort(key=order.__getitem__)
            for start in range(0, len(places), self.batch_size):
                yield places[start : start + self.batch_size]

    def _generate(
        self,
        prompts: Sequence[str],
        items: Sequence[Item],
        shown: ShownImages | None,
        room: int,
        sizes: Sequence[tuple[int, int]] | None,
    ) -> list[str]:
        """Continuations of the prompts of B items, each of at most ``room`` tokens."""
        inputs = self.processor.answer_inputs(
            prompts,
            images_encoded=shown is not None,
            questions=[self._asked(item) for item in items],
            tasks=[REGION if item.answer in REGION_ANSWERS else None for item in items],
            image_sizes=sizes,
        )
        placed = {key: value.to(self.model.device) for key, value in inputs.items()}
        begun = self._begun(placed, shown)
        sequences = self.model.generate(
            **begun,
            evidence=None if shown is None else shown.evidence,
            image_index=None if shown is None else shown.rows,
            **self.decoding,
            max_new_tokens=room,
        )
        if self.processor.answers_in_sequence:
            sequences = sequences[:, begun["input_ids"].shape[1] :]
        decoded = self.processor.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return [str(text) for text in decoded]

    def _begun(self, inputs: Mapping[str, Tensor], shown: ShownImages | None) -> dict[str, Any]:
        """The inputs, where prompts begin alike with the beginnings read."""
        if shown is None or len(shown.rows.unique()) == len(shown.rows):
            return dict(inputs)
        copies = int(self.decoding.get("num_beams", 1))
        return self._prefixes.share(inputs, shown, shown.rows.tolist(), copies=copies)

"""A conversation with a model about images: each image is encoded once, answers are streamed.

Shapes: I images of the conversation, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import TextStreamer

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.conversation.rendering import checked_question
from manyeyes.conversation.task_types import routes_of
from manyeyes.encoders import Tagger
from manyeyes.errors import UsageError
from manyeyes.images.reading import load_image
from manyeyes.inference.decoding import GREEDY, Decoding
from manyeyes.inference.prefix_cache import PrefixCache
from manyeyes.inference.seen_images import SeenImage, Sight
from manyeyes.language import position_limit, too_long
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import IMAGE_PLACEHOLDER, Box, Turn

KEPT_BYTES = 2**29
"""Keys and values of prompts' beginnings that a conversation keeps at most."""

_ShownFile = tuple[str, Image.Image, SeenImage]
"""The path of an image file, its picture, and what the model saw in it."""


@dataclass(frozen=True)
class Answer:
    """What the model said, the groups of boxes in it, and the image they lie in.

    Boxes are in pixels of the original image.
    """

    text: str
    boxes: tuple[tuple[Box, ...], ...] = ()
    image: Image.Image | None = None


@dataclass(frozen=True)
class Asked:
    """The last question, the file of the image shown last, and the tags it was told of."""

    question: str
    image: str
    tags: tuple[str, ...]


class Conversation:
    """Turns so far, and the images shown so far.

    Args:
        model, processor: a trained pair. max_new_tokens: longest answer in tokens.
        temperature: 0 = the likeliest token each time; above 0 = sampling.
        tagger: tags the images of a model that reads tags, unless ``show`` is given them.
        decoding: how an answer is decoded; its limit of tokens takes the place of
            ``max_new_tokens``. task: one of ``TASK_TYPES``, for models that route; None = by the
            question.

    Raises:
        UsageError: a value that makes no sense, or a task for a model that does not route.
    """

    def __init__(
        self,
        model: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        tagger: Tagger | None = None,
        decoding: Decoding = GREEDY,
        task: str | None = None,
    ) -> None:
        if max_new_tokens < 1 or temperature < 0:
            raise UsageError("max_new_tokens must be at least 1 and temperature at least 0")
        if task is not None and not processor.routed:
            raise UsageError(f"task {task!r}: this model does not route by task type")
        routes_of(task, [""])  # names an unknown one
        self.model: Any = model.train(False)
        self.processor = processor
        self._sight = Sight(model, processor, tagger)
        self._prefixes = PrefixCache(model, limit=KEPT_BYTES)
        self.max_new_tokens = decoding.max_new_tokens or max_new_tokens
        self.temperature, self.decoding, self.task = temperature, dict(decoding.arguments), task
        self.turns: list[Turn] = []
        self._seen: dict[tuple[str, int, tuple[str, ...]], SeenImage] = {}
        self._shown: list[_ShownFile] = []
        self._pending: list[_ShownFile] = []

    def reset(self) -> None:
        """Forget all turns and images."""
        self.turns, self._seen, self._shown, self._pending = [], {}, [], []
        self._prefixes.forget()

    @property
    def asked(self) -> Asked | None:
        """The last question that was answered about an image; None = there is none."""
        if not self._shown:
            return None
        file, _, seen = self._shown[-1]
        question = self.turns[-2].text.replace(f"{IMAGE_PLACEHOLDER}\n", "")
        return Asked(question, file, seen.tags)

    def show(self, path: str | Path, tags: Sequence[str] | None = None) -> Image.Image:
        """Put an image before the next question; encode it unless this file was shown before.

        ``tags``: what a model that reads tags is told of it; None = what the tagger finds.

        Raises:
            ImageError: the file cannot be read as an image; the conversation is unchanged.
            UsageError: no path, or the model reads tags, but there are neither tags nor a tagger.
        """
        if not isinstance(path, str | Path):
            raise UsageError(
                f"show takes the path of an image file, got a {type(path).__name__}: save the "
                "picture to a file first, or call the model and its processor directly"
            )
        picture = load_image(path)
        names = self._tags(picture, tags)
        file = str(Path(path).resolve())
        key = (file, Path(path).stat().st_mtime_ns, names)
        if key not in self._seen:
            (self._seen[key],) = self._sight.see([picture], [names])
        self._pending.append((file, picture, self._seen[key]))
        return picture

    def _tags(self, picture: Image.Image, given: Sequence[str] | None) -> tuple[str, ...]:
        if given is None or not self._sight.reads_tags:
            return self._sight.tags([picture])[0]
        return tuple(given)

    def ask(self, question: str, on_text: Callable[[str], None] | None = None) -> Answer:
        """Answer ``question``; ``on_text`` receives the answer piece by piece as it is written.

        If it is interrupted or fails, the conversation stays as it was.

        Raises:
            UsageError: an empty question, a reserved word in it, or a conversation longer than the
                language model reads.
        """
        shown = [*self._shown, *self._pending]
        lead = f"{IMAGE_PLACEHOLDER}\n" * len(self._pending)
        turns = [*self.turns, Turn("user", lead + checked_question(question))]
        text = self._generate(turns, [seen for _, _, seen in shown], on_text)
        self.turns = [*turns, Turn("assistant", text)]
        self._shown, self._pending = shown, []
        if not shown:
            return Answer(text)
        picture = shown[-1][1]
        style, (width, height) = self.processor.box_style, picture.size
        groups = parse_boxes(text, style=style, width=width, height=height)
        return Answer(text, tuple(tuple(group) for group in groups), picture)

    @torch.inference_mode()
    def _generate(
        self,
        turns: list[Turn],
        images: Sequence[SeenImage],
        on_text: Callable[[str], None] | None,
    ) -> str:
        question = turns[-1].text
        batch = self.processor.answer_inputs(
            [self._sight.prompt(turns, images)],
            images_encoded=True,
            questions=[question],
            tasks=self.task,
            image_sizes=[image.size for image in images],
        )
        inputs = {name: value.to(self.model.device) for name, value in batch.items()}
        room = self._room(inputs["input_ids"].shape[1])
        decoding = dict(self.decoding)
        if self.temperature:
            decoding |= {"do_sample": True, "temperature": self.temperature}
        beams = int(decoding.get("num_beams", 1))
        stream = None
        if on_text is not None and beams == 1:
            stream = _Stream(self.processor.tokenizer, on_text)
        shown = self._sight.shown(images, [question] * len(images))
        if not self._sight.reads_questions:
            inputs = self._prefixes.share(inputs, shown, images, copies=beams)
        sequences: Tensor = self.model.generate(
            **inputs,
            evidence=None if shown is None else shown.evidence,
            image_index=None if shown is None else shown.rows,
            max_new_tokens=room,
            streamer=stream,
            **decoding,
        )
        length = inputs["input_ids"].shape[1]
        new = sequences[0, length:] if self.processor.answers_in_sequence else sequences[0]
        text = str(self.processor.tokenizer.decode(new, skip_special_tokens=True)).strip()
        if on_text is not None and stream is None:
            on_text(text)
        return text

    def _room(self, length: int) -> int:
        """Return how many tokens the answer may have after a prompt of ``length`` tokens."""
        in_sequence = self.processor.answers_in_sequence
        limit = position_limit(self.model.config.text_config)
        problem = too_long(length, limit, answered=in_sequence)
        if problem is not None:
            raise UsageError(f"the conversation has {problem}: start a new one")
        if limit is None or not in_sequence:
            return self.max_new_tokens
        return min(self.max_new_tokens, limit - length)


class _Stream(TextStreamer):
    """Hands decoded words to a function instead of printing them, from the first letter on."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text, self._begun = on_text, False

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        text = text if self._begun else text.lstrip()
        self._begun = self._begun or bool(text)
        if text:
            self._on_text(text)

"""A conversation with a model about images: each image is encoded once, answers are streamed.

Shapes: I images of the conversation, T positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import TextStreamer

from manyeyes.conversation.boxes import parse_boxes
from manyeyes.conversation.rendering import checked_question
from manyeyes.encoders import Tagger
from manyeyes.errors import UsageError
from manyeyes.images.reading import load_image
from manyeyes.inference.decoding import GREEDY, Decoding
from manyeyes.inference.tagging import tag_images
from manyeyes.language import position_limit, too_long
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import (
    IMAGE_PLACEHOLDER,
    Box,
    Detections,
    FeatureBundle,
    FusionText,
    Turn,
    VisualEvidence,
)


@dataclass(frozen=True)
class Answer:
    """What the model said, the groups of boxes in it, and the image they lie in.

    Boxes are in pixels of the original image.
    """

    text: str
    boxes: tuple[tuple[Box, ...], ...] = ()
    image: Image.Image | None = None


@dataclass(frozen=True)
class _SeenImage:
    """An image that has been encoded: its file's identity, its picture and its evidence.

    ``features`` in place of evidence where the fusion reads the question; ``objects``: what the
    model's detector found.
    """

    key: tuple[str, int]
    picture: Image.Image
    evidence: VisualEvidence | None
    features: FeatureBundle
    objects: Detections | None = None
    tags: tuple[str, ...] = ()


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
            ``max_new_tokens``. task: one of ``TASKS``, for models that route; None = by the
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
        processor.routes([""], task)  # names an unknown one
        self.model: Any = model.train(False)
        self.processor, self.tagger = processor, tagger
        self.max_new_tokens = decoding.max_new_tokens or max_new_tokens
        self.temperature, self.decoding, self.task = temperature, dict(decoding.arguments), task
        self.turns: list[Turn] = []
        self._seen: list[_SeenImage] = []
        self._shown: list[int] = []
        self._pending: list[int] = []

    def reset(self) -> None:
        """Forget all turns and images."""
        self.turns, self._seen, self._shown, self._pending = [], [], [], []

    @property
    def asked(self) -> Asked | None:
        """The last question that was answered about an image; None = there is none."""
        if not self._shown:
            return None
        seen = self._seen[self._shown[-1]]
        question = self.turns[-2].text.replace(f"{IMAGE_PLACEHOLDER}\n", "")
        return Asked(question, seen.key[0], seen.tags)

    @torch.inference_mode()
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
        key = (str(Path(path).resolve()), Path(path).stat().st_mtime_ns)
        names = self._tags(picture, tags)
        known = [p for p, s in enumerate(self._seen) if s.key == key and s.tags == names]
        if not known:
            pixels = self.processor.pixels([picture])
            placed = {name: value.to(self.model.device) for name, value in pixels.items()}
            self._seen.append(replace(self._look(key, picture, placed), tags=names))
            known = [len(self._seen) - 1]
        self._pending.append(known[0])
        return picture

    def _tags(self, picture: Image.Image, given: Sequence[str] | None) -> tuple[str, ...]:
        if self.processor.tags == "none":
            return ()
        if given is None and self.tagger is None:
            raise UsageError(
                "this model reads tags of its images, and has no tagger: give the image's tags"
            )
        if given is not None or self.tagger is None:
            return tuple(given or ())
        (features,) = tag_images(self.tagger, [picture])
        return features.names[0]

    def _look(
        self, key: tuple[str, int], picture: Image.Image, pixels: dict[str, Tensor]
    ) -> _SeenImage:
        if self.processor.object_writer is None and not self._reads_questions:
            return _SeenImage(key, picture, self.model.encode_images(**pixels), {})
        features = self.model.encode(**pixels)
        found = None
        if self.processor.object_writer is not None:
            found = self.processor.read_objects(features, [picture.size])
        words = self.processor.object_inputs(found, [picture.size])
        if words:
            placed = (words[f"perception_{part}"].to(self.model.device) for part in ("ids", "mask"))
            features = self.model.told(features, FusionText(*placed))
        evidence = None if self._reads_questions else self.model.fusion(features)
        return _SeenImage(key, picture, evidence, features, None if found is None else found[0])

    @property
    def _reads_questions(self) -> bool:
        return bool(self.processor.question_inputs(["?"]))

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
        text = self._generate(turns, shown, on_text)
        self.turns = [*turns, Turn("assistant", text)]
        self._shown, self._pending = shown, []
        if not shown:
            return Answer(text)
        picture = self._seen[shown[-1]].picture
        style, (width, height) = self.processor.box_style, picture.size
        groups = parse_boxes(text, style=style, width=width, height=height)
        return Answer(text, tuple(tuple(group) for group in groups), picture)

    @torch.inference_mode()
    def _generate(
        self, turns: list[Turn], shown: list[int], on_text: Callable[[str], None] | None
    ) -> str:
        sizes = [self._seen[place].picture.size for place in shown]
        found = [self._seen[place].objects for place in shown]
        objects = [] if None in found else [o for o in found if o is not None]
        tags = tuple(self._seen[place].tags for place in shown)
        prompt = self.processor.prompt(turns, image_sizes=sizes, objects=objects or None, tags=tags)
        batch = self.processor.answer_inputs(
            [prompt], images_encoded=True, questions=[turns[-1].text], tasks=self.task
        )
        inputs = {name: value.to(self.model.device) for name, value in batch.items()}
        length = inputs["input_ids"].shape[1]
        decoding = dict(self.decoding)
        if self.temperature:
            decoding |= {"do_sample": True, "temperature": self.temperature}
        stream = None
        if on_text is not None and decoding.get("num_beams", 1) == 1:
            stream = _Stream(self.processor.tokenizer, on_text)
        sequences: Tensor = self.model.generate(
            **inputs,
            evidence=self._evidence(turns[-1].text) if shown else None,
            image_index=torch.tensor(shown, device=self.model.device) if shown else None,
            max_new_tokens=self._room(length),
            streamer=stream,
            **decoding,
        )
        new = sequences[0, length:] if self.processor.answers_in_sequence else sequences[0]
        text = str(self.processor.tokenizer.decode(new, skip_special_tokens=True)).strip()
        if on_text is not None and stream is None:
            on_text(text)
        return text

    def _evidence(self, question: str) -> VisualEvidence:
        """Return the evidence of all images seen, one row each, for ``question``."""
        inputs = self.processor.question_inputs([question])
        names = [name for name in ("question_ids", "question_mask") if name in inputs]
        placed = [inputs[name].to(self.model.device) for name in names]
        parts = [
            self.model.fusion(seen.features, FusionText(*placed))
            if seen.evidence is None
            else seen.evidence
            for seen in self._seen
        ]
        return VisualEvidence(
            tokens=_rows([part.tokens for part in parts]),
            prompts=_rows([part.prompts for part in parts]),
        )

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
    """Hands decoded words to a function instead of printing them."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._on_text = on_text

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._on_text(text)


def _rows(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.cat(there) if there else None

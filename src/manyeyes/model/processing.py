"""Text and images to model inputs, in training and in inference alike.

Shapes: B samples, T positions, I images of the batch, K visual tokens per image.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from manyeyes.checkpoints import hub
from manyeyes.checkpoints.trust import trusting, trusts_remote_code
from manyeyes.conversation.chat_parts import flatten_images
from manyeyes.conversation.fusion_text import TextReader, question_of, without_placeholders
from manyeyes.conversation.rendering import render, turns_to_messages, without_images
from manyeyes.conversation.tags import SLOT, check_tags, put_tags, without_sentence
from manyeyes.conversation.task_types import route_of, routes_of
from manyeyes.errors import DataError, PartError, PlaceholderError, UsageError, nearest
from manyeyes.language import IGNORE, too_long
from manyeyes.model.chat_inputs import ChatInputs, check_tensors
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.pixels import saved_rule, to_pixels
from manyeyes.model.processor_fields import check_saved_pair, processor_fields
from manyeyes.model.tokenization import IMAGE_TOKENS, image_token_ids, load_tokenizer
from manyeyes.perception.steps import ObjectTexts, join_objects
from manyeyes.perception.targets import target_batch, target_row
from manyeyes.records import IMAGE_PLACEHOLDER, Detections, Sample, Tags, Turn

READER_FOLDER = "reader"
"""Of a checkpoint: the tokenizer of the text that the fusion reads."""


class ManyEyesProcessor(ObjectTexts, ChatInputs, ProcessorMixin):  # type: ignore[misc]
    """Tokenizer plus one pixel transform per encoder.

    ``encode`` and ``collate`` serve training (right padding, labels on assistant text only);
    ``__call__`` and ``apply_chat_template`` serve inference (left padding) as in ``transformers``.

    Args:
        tokenizer: a fast tokenizer; the image tokens are added to it.
        encoders: per encoder ``{name, fused, size, mean, std, resample}``.
        visual_tokens: K; with 0 and no ``start_end`` a placeholder leaves nothing in the text.
        start_end: images stand between two marker tokens.
        geometry, pad_color, box_style, prompt_style: see ``ManyEyesConfig``.
        max_length: its ``max_tokens``. positions: how many tokens the language model reads; None =
            any number. target_labels: its ``target_labels``, see ``targets``.
        answers_in_sequence: False for encoder-decoder language models.
        routed: every sample needs the route of its task type, see ``conversation.task_types``.
        tags: how the tags of an image stand in the prompt, see ``manyeyes.conversation.tags``.
        reader: ``{kind, length}`` of the text that the fusion reads beside the images; its
            tokenizer is kept in ``text_reader``, and in the folder ``reader`` of a checkpoint.
        perception_text: see ``PerceptionOptions``; None = detected objects are not written.
    """

    tokenizer_class = "AutoTokenizer"

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        encoders: Sequence[Mapping[str, Any]] = (),
        visual_tokens: int = 0,
        start_end: bool = True,
        geometry: str = "pad",
        pad_color: Sequence[int] = (255, 255, 255),
        box_style: str = "shikra",
        prompt_style: str = "chat",
        max_length: int | None = None,
        positions: int | None = None,
        answers_in_sequence: bool = True,
        routed: bool = False,
        tags: str = "none",
        reader: Mapping[str, Any] | None = None,
        target_labels: Sequence[str] | None = None,
        perception_text: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
    ) -> None:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": [*IMAGE_TOKENS, *([SLOT] if tags == "soft" else [])]},
            replace_extra_special_tokens=False,
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        if tokenizer.pad_token is None:
            raise PartError(
                "the tokenizer has neither a padding token nor an end token; its "
                "tokenizer_config.json is missing or damaged"
            )
        self.encoders = [dict(encoder) for encoder in encoders]
        self.visual_tokens, self.start_end = visual_tokens, start_end
        self.geometry, self.pad_color = geometry, list(pad_color)
        self.box_style, self.prompt_style = box_style, prompt_style
        self.max_length, self.positions = max_length, positions
        self.answers_in_sequence = answers_in_sequence
        self.routed, self.tags = routed, tags
        self.reader = None if reader is None else dict(reader)
        self.text_reader: TextReader | None = None
        self.target_labels = None if target_labels is None else list(target_labels)
        self.perception_text = None if perception_text is None else dict(perception_text)
        super().__init__(tokenizer, chat_template=chat_template)
        self.image_token_ids_by_role = image_token_ids(tokenizer, soft=tags == "soft")

    @classmethod
    def from_config(
        cls, config: ManyEyesConfig, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> ManyEyesProcessor:
        """Build the processor of a configuration and write its image token ids into it.

        Raises:
            CheckpointError: a part's checkpoint is missing, or the language model's has no
                tokenizer.
        """
        config.resolve()
        tokenizer = tokenizer or load_tokenizer(config.language["checkpoint"])
        processor = cls(tokenizer, **processor_fields(config))
        config.image_tokens = list(processor.image_token_ids_by_role)
        config.answer_end = processor.answer_end
        spec = config.reader
        if spec is not None:
            processor.reader = {"kind": spec.kind, "length": spec.length}
            processor.text_reader = TextReader.from_spec(spec)
        return processor

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Write as ``transformers`` does, the fusion's tokenizer in a folder of its own."""
        if self.text_reader is not None:
            self.text_reader.save(Path(save_directory) / READER_FOLDER)
        return super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any
    ) -> ManyEyesProcessor:
        """Load as ``transformers`` does.

        Raises:
            CheckpointError: not found, damaged, or it asks to run code of its own.
        """
        place = str(pretrained_model_name_or_path)
        with trusting(kwargs.pop("trust_remote_code", None)), hub.reading(place):
            kwargs["trust_remote_code"] = trusts_remote_code()
            processor = super().from_pretrained(place, *args, **kwargs)
            if processor.reader is not None:
                tokenizer = AutoTokenizer.from_pretrained(
                    place, subfolder=READER_FOLDER, trust_remote_code=trusts_remote_code()
                )
                processor.text_reader = TextReader(tokenizer, **processor.reader)
            check_saved_pair(Path(place), processor)
        return processor

    # ---- training -------------------------------------------------------------------------

    def encode(self, sample: Sample, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Return one unpadded training row.

        ``input_ids`` ``[T]``, ``labels`` ``[T]`` (decoder-only) or ``[A]`` (encoder-decoder),
        ``image_counts`` ``[1]``, ``routes`` ``[1]`` where the model has any, and
        ``pixel_values_<encoder>`` ``[images, 3, height, width]``.

        Raises:
            PlaceholderError: ``<image>`` placeholders and images disagree.
            DataError: nothing is left to supervise, or the sample is longer than the language model
                reads and ``max_length`` does not cut it.
        """
        row = self.encode_text(sample, [image.size for image in images])
        return {**row, **self.pixels(images, self.fused)}

    def encode_text(
        self, sample: Sample, image_sizes: Sequence[tuple[int, int]], *, cut: bool = True
    ) -> dict[str, Tensor]:
        """Return ``encode``'s row without pixels; ``image_sizes``: (width, height) of its images.

        ``cut``: what an encoder-decoder model reads is cut to ``max_length``, as in training.

        Raises:
            PlaceholderError, DataError: see ``encode``.
        """
        turns = self.clean(self.write_boxes(sample.turns, image_sizes, sample.objects))
        messages = turns_to_messages(self.with_tags(turns, sample.tags, sample.id))
        rendered = render(messages, self.tokenizer, self.prompt_style)
        if self.images_leave_no_token:
            rendered, found = without_images(rendered)
            self._check_placeholders(found, len(image_sizes), sample.id)
        if self.answers_in_sequence:
            row = self.encode_in_sequence(rendered, sample.id)
        else:
            row = self.encode_apart(messages, rendered, sample.id, cut=cut)
        self._check_images(row["input_ids"], len(image_sizes), sample.id)
        self._check_length(row, sample.id)
        row["image_counts"] = torch.tensor([len(image_sizes)])
        row |= target_row(sample, image_sizes, self.target_labels)
        row |= self.object_inputs(sample.objects, image_sizes)
        if self.routed:
            row["routes"] = torch.tensor([route_of(sample.task, question_of(turns))])
        return {**row, **self._fusion_text(turns, len(image_sizes), sample.id)}

    def _fusion_text(self, turns: Sequence[Turn], images: int, name: str) -> dict[str, Tensor]:
        reader = self.text_reader
        if reader is None:
            return {}
        text = reader.text(turns)
        if reader.kind == "caption" and (images != 1 or not text):
            raise DataError(
                f"sample {name!r}: image-text objectives need one image and its text, got "
                f"{images} image(s) and {'a' if text else 'no'} text"
            )
        return {f"{reader.kind}_ids": reader.ids(text)}

    def collate(self, rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Pad rows on the right into a batch ``[B, T]``; all pixels are stacked ``[I, ...]``.

        A decoder-only batch gets no attention mask: behind causal attention right padding is never
        seen by a real token, and attention without a mask is faster.
        """
        ids = [row["input_ids"] for row in rows]
        batch = {
            "input_ids": _pad_right(ids, self.tokenizer.pad_token_id),
            "labels": _pad_right([row["labels"] for row in rows], IGNORE),
            "image_counts": torch.cat([row["image_counts"] for row in rows]),
        }
        if self.routed:
            batch["routes"] = torch.cat([row["routes"] for row in rows])
        if not self.answers_in_sequence:
            batch["attention_mask"] = _pad_right([torch.ones_like(x) for x in ids], 0)
        for key in rows[0]:
            if key.startswith(("pixel_values_", "features_")):
                batch[key] = torch.cat([row[key] for row in rows])
        batch |= target_batch(rows)
        batch |= join_objects(rows)
        if self.text_reader is not None:
            texts = [row[f"{self.text_reader.kind}_ids"] for row in rows]
            batch.update(self._per_image(texts, batch["image_counts"].tolist()))
        return batch

    def _per_image(self, texts: Sequence[Tensor], images: Sequence[int]) -> dict[str, Tensor]:
        """Return ``<kind>_ids`` and ``<kind>_mask`` ``[I, T]``, a text once for each image."""
        reader = self.text_reader
        each = [text for text, count in zip(texts, images, strict=True) for _ in range(count)]
        if reader is None or not each:
            return {}
        batch = reader.batch(each)
        return {f"{reader.kind}_ids": batch.ids, f"{reader.kind}_mask": batch.mask}

    def question_inputs(self, questions: Sequence[str]) -> dict[str, Tensor]:
        """Return ``question_ids`` and ``question_mask`` ``[I, T]``, one question per image.

        Empty where the fusion reads no question.
        """
        if self.text_reader is None or self.text_reader.kind != "question":
            return {}
        texts = [self.text_reader.ids(without_placeholders(text)) for text in questions]
        return self._per_image(texts, [1] * len(texts))

    # ---- inference ------------------------------------------------------------------------

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        padding: bool | str = True,
        padding_side: str = "left",
        return_tensors: str | None = "pt",
        add_special_tokens: bool | None = None,
        images_encoded: bool = False,
        questions: Sequence[str] | None = None,
        tasks: str | Sequence[str | None] | None = None,
        tags: Sequence[Tags] | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Return ``input_ids``, ``attention_mask`` ``[B, T]``, ``image_counts`` ``[B]`` and pixels.

        Where the fusion reads the question, also ``question_ids`` and ``question_mask`` ``[I, T]``;
        where the model routes by task type, also ``routes`` ``[B]``.

        Args:
            images: one image, a flat list in reading order, or one list per text; PIL or paths.
            text: prompts with one ``<image>`` per image.
            padding, padding_side: as for tokenizers.
            add_special_tokens: None = as the prompt style does, see ``tokenized``; the token that
                begins a text is never written twice.
            images_encoded: the caller hands the images' evidence to the model; no pixels here.
            questions: what the fusion reads beside the images of each text; None = the texts.
            tasks: one of ``TASKS`` for all texts, or for each; None = by the question's form.
            tags: of the images of each text, one list per image, for models that read them; None =
                the texts hold their sentences already, as those of ``prompt`` do.

        Raises:
            PlaceholderError: placeholders and images disagree.
            DataError: tags of another number of images than there are.
            UsageError: an unknown task type, or an argument that this processor does not take.
        """
        check_tensors(return_tensors)
        _refuse(unknown)
        texts = [text] if isinstance(text, str) else list(text or [])
        if questions is None:
            questions = [without_sentence(text) for text in texts]
        if tags is not None:
            texts = [self._tagged(text, own) for text, own in zip(texts, tags, strict=True)]
        pictures = flatten_images(images)
        counts = [text.count(IMAGE_PLACEHOLDER) for text in texts]
        routes = self.routes(questions, tasks)
        asked = [
            question
            for question, count in zip(questions, counts, strict=True)
            for _ in range(count)
        ]
        if sum(counts) != len(pictures) and not images_encoded:
            raise PlaceholderError(
                f"{sum(counts)} {IMAGE_PLACEHOLDER} placeholders in the text, "
                f"but {len(pictures)} images"
            )
        padded = self.tokenizer.pad(
            {"input_ids": self.prompt_ids(texts, add_special_tokens)},
            padding=padding,
            padding_side=padding_side,
            return_tensors="pt",
        )
        return BatchFeature(
            {
                "input_ids": padded["input_ids"],
                "attention_mask": padded["attention_mask"],
                "image_counts": torch.tensor(counts),
                **({"routes": torch.tensor(routes)} if self.routed else {}),
                **(
                    self.pixels(pictures, self.fused) | self.question_inputs(asked)
                    if pictures
                    else {}
                ),
            }
        )

    def prompt(
        self,
        turns: Sequence[Turn],
        *,
        image_sizes: Sequence[tuple[int, int]] = (),
        objects: Sequence[Detections] | None = None,
        tags: Tags | None = None,
    ) -> str:
        """Return the string of a conversation that awaits an answer.

        ``image_sizes``: (width, height), for boxes; ``objects``: what was detected in each image.
        ``tags``: one list per image, for models that read them.

        Raises:
            DataError: the model reads tags, but there are none.
        """
        written = self.clean(self.write_boxes(turns, image_sizes, objects))
        messages = turns_to_messages(self.with_tags(written, tags, "the conversation"))
        return render(messages, self.tokenizer, self.prompt_style, generation_prompt=True).text

    def answer_inputs(
        self,
        prompts: Sequence[str],
        images: Sequence[Image.Image] = (),
        *,
        images_encoded: bool = False,
        questions: Sequence[str] | None = None,
        tasks: str | Sequence[str | None] | None = None,
    ) -> BatchFeature:
        """Return left-padded inputs for strings made by ``prompt``.

        ``images_encoded``: the images are given to the model as evidence, without pixels here.
        ``questions``, ``tasks``: see ``__call__``.
        """
        return self(
            images=list(images),
            text=list(prompts),
            images_encoded=images_encoded,
            questions=questions,
            tasks=tasks,
        )

    def routes(
        self, questions: Sequence[str], tasks: str | Sequence[str | None] | None = None
    ) -> list[int]:
        """Return the route of each question's task type, see ``task_types.routes_of``."""
        return routes_of(tasks, [without_placeholders(question) for question in questions])

    def _tagged(self, text: str, tags: Tags) -> str:
        (turn,) = self.clean([Turn("user", text)])
        checked = check_tags(tags, text.count(IMAGE_PLACEHOLDER), "the prompt")
        return put_tags([turn], checked, self.tags)[0].text

    # ---- shared ---------------------------------------------------------------------------

    def pixels(
        self, images: Sequence[Image.Image], only: Collection[str] | None = None
    ) -> dict[str, Tensor]:
        """Return ``pixel_values_<encoder>`` ``[images, 3, height, width]`` of decoded images.

        ``only``: of these encoders.
        """
        return {
            f"pixel_values_{encoder['name']}": to_pixels(
                images, saved_rule(encoder), self.geometry, self.pad_color
            )
            for encoder in self.encoders
            if only is None or encoder["name"] in only
        }

    def _check_placeholders(self, found: int, num_images: int, name: str) -> None:
        if found != num_images:
            raise PlaceholderError(
                f"sample {name!r}: {found} {IMAGE_PLACEHOLDER} placeholders in the text, but "
                f"{num_images} image(s)"
            )

    def _check_length(self, row: Mapping[str, Tensor], name: str) -> None:
        longest = max(len(row["input_ids"]), len(row["labels"]))
        problem = too_long(longest, self.positions)
        if problem is not None:
            raise DataError(
                f"sample {name!r}: {problem}; shorten it, or let the recipe cut it with "
                f"model.max_tokens: {self.positions}"
            )

    def _check_images(self, ids_T: Tensor, num_images: int, name: str) -> None:
        found = int((ids_T == self.image_token_ids_by_role.image).sum())
        if found != num_images * self.visual_tokens:
            raise PlaceholderError(
                f"sample {name!r}: {found} image tokens in the text, but {num_images} image(s) x "
                f"{self.visual_tokens} visual tokens = {num_images * self.visual_tokens}"
            )


_ARGUMENTS = (
    "images",
    "text",
    "padding",
    "padding_side",
    "return_tensors",
    "add_special_tokens",
    "images_encoded",
    "questions",
    "tasks",
    "tags",
)


def _refuse(unknown: Mapping[str, Any]) -> None:
    """Raise ``UsageError`` for what a call does not read; None and False ask for nothing."""
    for name, value in unknown.items():
        if value is not None and value is not False:
            raise UsageError(
                f"the processor does not take {name}={value!r}{nearest(name, _ARGUMENTS)}; "
                f"it takes {', '.join(_ARGUMENTS)}"
            )


def _pad_right(rows: Sequence[Tensor], value: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_value=value)

"""Text and images to model inputs, in training and in inference alike.

Shapes: B samples, T positions, I images of the batch, K visual tokens per image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from manyeyes.checkpoints import hub
from manyeyes.checkpoints.trust import trusting, trusts_remote_code
from manyeyes.conversation.chat_parts import chat_arguments, flatten_images, placeholder_counts
from manyeyes.conversation.fusion_text import TextReader, question_of
from manyeyes.conversation.rendering import check_written_size, write_boxes
from manyeyes.conversation.tags import without_sentence
from manyeyes.conversation.task_types import route_of, routes_of
from manyeyes.errors import UsageError
from manyeyes.model.auto.folder_code import WritesCode, auto_map
from manyeyes.model.chat_inputs import (
    argument_names,
    assistant_masks,
    check_tensors,
    refuse,
    render_chats,
)
from manyeyes.model.configuration import ManyEyesConfig
from manyeyes.model.inputs import batch_of
from manyeyes.model.processor.fields import check_saved_pair, processor_fields
from manyeyes.model.processor.parts import ProcessorParts
from manyeyes.model.tokenization import add_image_tokens, image_token_ids, load_tokenizer
from manyeyes.perception.targets import target_row
from manyeyes.records import NOTHING_PERCEIVED, Perceived, Sample, Tags, Turn

READER_FOLDER = "reader"
"""Of a checkpoint: the tokenizer of the text that the fusion reads."""


class ManyEyesProcessor(ProcessorParts, WritesCode, ProcessorMixin):
    """Tokenizer plus one pixel transform per encoder.

    ``encode`` and ``collate`` serve training (right padding, labels on assistant text only);
    ``__call__`` and ``apply_chat_template`` serve inference (left padding) as in ``transformers``.
    The work is done by its parts, see ``ProcessorParts``: ``pixels`` (images to tensors),
    ``perception`` (detected objects to words), ``text_rows`` (turns to ids and labels) and
    ``text_reader`` (what a fusion reads).

    Args:
        tokenizer: a fast tokenizer; the image tokens are added to it.
        encoders: per encoder ``{name, fused, size, mean, std, resample}``.
        visual_tokens: K, of a picture or a tile; with 0 and no ``start_end`` a placeholder leaves
            nothing in the text.
        start_end: images stand between two marker tokens.
        geometry, pad_color, box_style, prompt_style: see ``ManyEyesConfig``.
        max_length: longest training sequence, the ``max_tokens`` of ``ManyEyesConfig``.
        positions: how many tokens the language model reads; None = any number.
        target_labels: the detector's class names, for rows with true objects, see ``targets``.
        answers_in_sequence: False for encoder-decoder language models.
        routed: every sample needs the route of its task type, see ``conversation.task_types``.
        tags: how the tags of an image stand in the prompt, see ``manyeyes.conversation.tags``.
        reader: ``{kind, length}`` of the text that the fusion reads beside the images; its
            tokenizer is ``text_reader``, and the folder ``reader`` of a checkpoint.
        perception_text: see ``PerceptionOptions``; None = detected objects are not written.
        tiling: how pictures are seen in tiles, as ``Tiles.saved`` writes it; None = they are not.
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
        tiling: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
    ) -> None:
        add_image_tokens(tokenizer, soft=tags == "soft")
        self.encoders = [dict(encoder) for encoder in encoders]
        self.visual_tokens, self.start_end = visual_tokens, start_end
        self.geometry, self.pad_color = geometry, list(pad_color)
        self.box_style, self.prompt_style = box_style, prompt_style
        self.max_length, self.positions = max_length, positions
        self.answers_in_sequence, self.routed, self.tags = answers_in_sequence, routed, tags
        self.reader = None if reader is None else dict(reader)
        self.text_reader: TextReader | None = None
        self.target_labels = None if target_labels is None else list(target_labels)
        self.perception_text = None if perception_text is None else dict(perception_text)
        self.tiling = None if tiling is None else dict(tiling)
        super().__init__(tokenizer, chat_template=chat_template)
        self.auto_map = auto_map("AutoProcessor")
        self.image_token_ids_by_role = image_token_ids(tokenizer, soft=tags == "soft")

    # ---- made, saved, loaded ----------------------------------------------------------------

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
        config.answer_end = processor.text_rows.answer_end
        if (spec := config.reader) is not None:
            processor.reader = {"kind": spec.kind, "length": spec.length}
            processor.text_reader = TextReader.from_spec(spec)
        return processor

    def to_json_file(self, json_file_path: Any, *args: Any, **kwargs: Any) -> None:
        """Write as ``transformers`` does, the fusion's tokenizer in a folder of its own."""
        super().to_json_file(json_file_path, *args, **kwargs)
        if self.text_reader is not None:
            self.text_reader.save(Path(json_file_path).with_name(READER_FOLDER))

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
                processor.text_reader = TextReader.load(place, READER_FOLDER, **processor.reader)
            check_saved_pair(Path(place), processor)
        return processor

    # ---- training -------------------------------------------------------------------------

    def encode(self, sample: Sample, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Return one unpadded training row.

        ``input_ids`` ``[T]``, ``labels`` ``[T]`` (decoder-only) or ``[A]`` (encoder-decoder),
        ``image_counts`` ``[1]``, ``routes`` ``[1]`` where the model has any, and
        ``pixel_values_<encoder>`` ``[images, 3, height, width]``, see ``Pixels``.

        Raises:
            PlaceholderError: ``<image>`` placeholders and images disagree.
            DataError: nothing is left to supervise, or the sample is longer than the language model
                reads and ``max_length`` does not cut it.
        """
        row = self.encode_text(sample, [image.size for image in images])
        return {**row, **self.pixels(images, self.pixels.fused)}

    def encode_text(
        self, sample: Sample, image_sizes: Sequence[tuple[int, int]], *, cut: bool = True
    ) -> dict[str, Tensor]:
        """Return ``encode``'s row without pixels; ``image_sizes``: (width, height) of its images.

        ``cut``: what an encoder-decoder model reads is cut to ``max_length``, as in training.

        Raises:
            PlaceholderError, DataError: see ``encode``.
        """
        check_written_size(sample, image_sizes)
        perceived = sample.perceived
        turns = self.write_turns(sample.turns, image_sizes, perceived)
        lengths = self.image_lengths(image_sizes) or []
        row = self.text_rows.row(turns, perceived.tags, lengths, sample.id, cut=cut)
        row["image_counts"] = torch.tensor([len(image_sizes)])
        row |= target_row(sample, image_sizes, self.target_labels)
        row |= self.perception.fusion_inputs(perceived.objects, image_sizes)
        if self.routed:
            row["routes"] = torch.tensor([route_of(sample.task, question_of(turns))])
        if self.text_reader is not None:
            row |= self.text_reader.row(turns, len(image_sizes), sample.id)
        return row

    def collate(self, rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Pad rows on the right into a batch ``[B, T]``; all pixels are stacked ``[I, ...]``."""
        return batch_of(rows, self.text_rows, self.text_reader, routed=self.routed)

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
        image_sizes: Sequence[tuple[int, int]] | None = None,
        **unknown: Any,
    ) -> BatchFeature:
        """Return ``input_ids``, ``attention_mask`` ``[B, T]``, ``image_counts`` ``[B]`` and pixels.

        Where the fusion reads the question, also ``question_ids`` and ``question_mask`` ``[I, T]``;
        where the model routes by task type, also ``routes`` ``[B]``.

        Args:
            images: one image, a flat list in reading order, or one list per text; PIL or paths.
            text: prompts with one ``<image>`` per image.
            padding, padding_side: as for tokenizers.
            add_special_tokens: None = as the prompt style does, see ``TextRows``; the token that
                begins a text is never written twice.
            images_encoded: the caller hands the images' evidence to the model; no pixels here.
            questions: what the fusion reads beside the images of each text; None = the texts.
            tasks: one of ``TASK_TYPES`` for all texts, or for each; None = by the question's form.
            tags: of the images of each text, one list per image, for models that read them; None =
                the texts hold their sentences already, as those of ``prompt`` do.
            image_sizes: (width, height) of images that are encoded, in reading order, for models
                that see pictures in tiles.

        Raises:
            PlaceholderError: placeholders and images disagree.
            DataError: tags of another number of images than there are.
            UsageError: an unknown task type, or an argument that this processor does not take.
        """
        check_tensors(return_tensors)
        refuse(unknown, self.__call__)
        texts = [text] if isinstance(text, str) else list(text or [])
        if questions is None:
            questions = [without_sentence(text) for text in texts]
        routes = routes_of(tasks, questions)
        if tags is not None:
            texts = [self.text_rows.tagged(*pair) for pair in zip(texts, tags, strict=True)]
        pictures = flatten_images(images)
        counts = placeholder_counts(texts, None if images_encoded else len(pictures))
        sizes = [image.size for image in pictures] if pictures else image_sizes
        lengths = self.image_lengths(sizes)
        inputs = self.text_rows.padded(texts, add_special_tokens, padding, padding_side, lengths)
        inputs["image_counts"] = torch.tensor(counts)
        if self.routed:
            inputs["routes"] = torch.tensor(routes)
        if pictures:
            inputs |= self.pixels(pictures, self.pixels.fused)
            inputs |= self.question_inputs(questions, counts)
        return BatchFeature(inputs)

    def apply_chat_template(  # type: ignore[override]
        self,
        conversation: Any,
        chat_template: str | None = None,
        tokenize: bool = False,
        return_dict: bool = False,
        return_tensors: str | None = "pt",
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        return_assistant_tokens_mask: bool = False,
        processor_kwargs: Mapping[str, Any] | None = None,
        **variables: Any,
    ) -> Any:
        """Render one conversation or a list of them, with ``{"type": "image"}`` parts.

        An image part carries ``image`` (PIL), ``path`` or ``url``, and ``tags``, a list of names,
        where the model reads them. Returns strings, or with ``tokenize`` and ``return_dict`` the
        model inputs; ``return_assistant_tokens_mask`` adds ``assistant_masks`` ``[B, T]``, 1 where
        a token is the assistant's: those that training supervises. ``variables``: of the template.

        Raises:
            UsageError: an argument that nothing reads, or that makes no sense with the others.
        """
        check_tensors(return_tensors)
        if return_assistant_tokens_mask and not (tokenize and return_dict):
            raise UsageError(
                "return_assistant_tokens_mask=True needs tokenize=True and return_dict=True"
            )
        single = isinstance(conversation[0], Mapping)
        conversations = [conversation] if single else list(conversation)
        rendered = render_chats(
            self.text_rows,
            conversations,
            template=chat_template,
            generation_prompt=add_generation_prompt,
            continue_final=continue_final_message,
            spans=return_assistant_tokens_mask,
            variables=variables,
            known=argument_names(self.apply_chat_template),
        )
        texts = [item.text for item in rendered]
        if not tokenize:
            return texts[0] if single else texts
        inputs = self(text=texts, **chat_arguments(conversations), **dict(processor_kwargs or {}))
        if return_assistant_tokens_mask:
            inputs["assistant_masks"] = assistant_masks(self.text_rows, rendered, inputs)
        return inputs if return_dict else inputs["input_ids"]

    def prompt(
        self,
        turns: Sequence[Turn],
        *,
        image_sizes: Sequence[tuple[int, int]] = (),
        perceived: Perceived = NOTHING_PERCEIVED,
    ) -> str:
        """Return the string of a conversation that awaits an answer.

        ``image_sizes``: (width, height), for boxes; ``perceived``: objects and tags of the images,
        for models that read them.

        Raises:
            DataError: the model reads tags, but there are none.
        """
        written = self.write_turns(turns, image_sizes, perceived)
        return self.text_rows.prompt(written, perceived.tags, "the conversation")

    def answer_inputs(
        self,
        prompts: Sequence[str],
        images: Sequence[Image.Image] = (),
        *,
        images_encoded: bool = False,
        questions: Sequence[str] | None = None,
        tasks: str | Sequence[str | None] | None = None,
        image_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> BatchFeature:
        """Return left-padded inputs for strings made by ``prompt``.

        ``images_encoded``: the images are given to the model as evidence, without pixels here.
        ``questions``, ``tasks``, ``image_sizes``: see ``__call__``.
        """
        return self(
            list(images),
            prompts,
            images_encoded=images_encoded,
            questions=questions,
            tasks=tasks,
            image_sizes=image_sizes,
        )

    # ---- shared ---------------------------------------------------------------------------

    def write_turns(
        self,
        turns: Sequence[Turn],
        image_sizes: Sequence[tuple[int, int]] = (),
        perceived: Perceived = NOTHING_PERCEIVED,
    ) -> list[Turn]:
        """Return turns whose boxes, points and detected objects are words; tags come later.

        ``image_sizes``: (width, height) of their images.

        Raises:
            DataError: boxes without an image, or objects of another number of images.
        """
        written = [write_boxes(turn, image_sizes, self.box_style) for turn in turns]
        told = self.perception.add_to(written, perceived.objects, image_sizes)
        return self.text_rows.clean(told)

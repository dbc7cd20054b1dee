"""manyeyes models in lmms-eval, found through the entry-point group ``lmms_eval.models``.

    lmms-eval eval --model manyeyes --model_args pretrained=runs/comm/model --tasks ...

lmms-eval imports this module; nothing else does. Observed with lmms-eval 0.7.3: a request's
arguments are (context, options, doc_to_visual, doc_id, task, split) for "simple" models and
(context, doc_to_messages, options, doc_id, task, split) for "chat" models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from lmms_eval.protocol import ChatMessages
from PIL import Image
from tqdm import tqdm

from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.language import position_limit, too_long
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.records import IMAGE_PLACEHOLDER

MAX_NEW_TOKENS = 1024
"""Where a task sets no limit."""

SAMPLING = ("temperature", "top_k", "top_p")
PASSED_ON = ("length_penalty", "min_new_tokens", "num_beams", "repetition_penalty")
"""Options of a task that ``generate`` gets as they are; others have no meaning here."""

_DTYPES = ("auto", "bfloat16", "float16", "float32")
_OPTIONS = ("pretrained", "dtype", "device", "batch_size")
_NO_LIKELIHOOD = (
    "manyeyes answers generation tasks of lmms-eval only: lmms-eval 0.7.3 turns the likelihoods of "
    "multiple-choice tasks into text. To rank candidates: manyeyes evaluate --choice loglik"
)

Message = dict[str, Any]


def manifest() -> ModelManifest:
    """What the entry point gives: the model ``manyeyes``, as a chat and as a simple model."""
    here = "manyeyes.evaluation.harness.lmms_eval"
    return ModelManifest(
        model_id="manyeyes",
        simple_class_path=f"{here}.SimpleManyEyes",
        chat_class_path=f"{here}.ChatManyEyes",
    )


@dataclass(frozen=True)
class Question:
    """One request: a conversation whose image parts hold pictures, and the task's options."""

    messages: Sequence[Message]
    options: Mapping[str, Any]

    @property
    def length(self) -> int:
        """Characters of text, to batch similar lengths."""
        parts = [part for message in self.messages for part in message["content"]]
        return sum(len(part.get("text", "")) for part in parts)


class ManyEyes(lmms):
    """What both kinds of model share.

    Args:
        pretrained: folder or hub id of a trained model. dtype: ``auto`` (as stored) or a name.
        batch_size: questions that are generated together. device: default: that of accelerate.

    Raises:
        UsageError: an unknown option, or one of a wrong value.
        CheckpointError: no such model, or a damaged one.
    """

    def __init__(
        self,
        pretrained: str = "",
        dtype: str = "auto",
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
        **unknown: Any,
    ) -> None:
        super().__init__()
        for name in unknown:
            known = ", ".join(_OPTIONS)
            raise UsageError(f"unknown model_args {name!r}{nearest(name, _OPTIONS)}: {known}")
        if not pretrained:
            raise UsageError("give the model: --model_args pretrained=FOLDER")
        self.batch_size = _batch_size(batch_size)
        self.accelerator = Accelerator()
        self._rank = self.accelerator.process_index
        self._world_size = self.accelerator.num_processes
        several = self._world_size > 1
        self.device = self.accelerator.device if several or device is None else torch.device(device)
        self.model, self.processor = _load(pretrained, dtype, self.device)

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise UsageError(_NO_LIKELIHOOD)

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise UsageError("manyeyes answers no tasks of several rounds in lmms-eval")

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answers in the order of the requests; batches have equal options and similar lengths."""
        questions = [self._question(request.args) for request in requests]
        answers = [""] * len(questions)
        with tqdm(total=len(questions), desc="manyeyes", disable=self._rank != 0) as bar:
            for places in _batches(questions, self.batch_size):
                texts = self._answer([questions[place] for place in places])
                for place, text in zip(places, texts, strict=True):
                    answers[place] = text
                bar.update(len(places))
        return answers

    def _question(self, arguments: tuple[Any, ...]) -> Question:
        raise NotImplementedError

    def _document(self, doc_id: int, task: str, split: str) -> Mapping[str, Any]:
        document: Mapping[str, Any] = self.task_dict[task][split][doc_id]
        return document

    @torch.inference_mode()
    def _answer(self, questions: Sequence[Question]) -> list[str]:
        batch = self.processor.apply_chat_template(
            [question.messages for question in questions],
            tokenize=True,
            return_dict=True,
            add_generation_prompt=True,
        )
        inputs = {name: value.to(self.device) for name, value in batch.items()}
        length = inputs["input_ids"].shape[1]
        options = questions[0].options
        arguments = generation_arguments(options, self._room(length))
        sequences = self.model.generate(**inputs, **arguments)
        if self.processor.answers_in_sequence:
            sequences = sequences[:, length:]
        texts = self.processor.tokenizer.batch_decode(sequences, skip_special_tokens=True)
        return [cut(text, options.get("until")) for text in texts]

    def _room(self, length: int) -> int | None:
        """How many tokens the language model can write after a prompt of ``length``; None: any."""
        in_sequence = self.processor.answers_in_sequence
        limit = position_limit(self.model.config.text_config)
        problem = too_long(length, limit, answered=in_sequence)
        if problem is not None:
            raise DataError(f"a question has {problem}")
        return None if limit is None or not in_sequence else limit - length


class SimpleManyEyes(ManyEyes):
    """Tasks with a text and a list of pictures, which stand before it unless it places them."""

    is_simple = True

    def _question(self, arguments: tuple[Any, ...]) -> Question:
        context, options, doc_to_visual, doc_id, task, split = arguments
        visuals = doc_to_visual(self._document(doc_id, task, split)) or []
        where = f"task {task}, document {doc_id}"
        for visual in visuals:
            if not isinstance(visual, Image.Image):
                raise DataError(f"{where}: expected pictures, got a {type(visual).__name__}")
        return Question([{"role": "user", "content": parts(context, visuals, where)}], options)


class ChatManyEyes(ManyEyes):
    """Tasks with a conversation."""

    is_simple = False

    def _question(self, arguments: tuple[Any, ...]) -> Question:
        _, doc_to_messages, options, doc_id, task, split = arguments
        chat = ChatMessages(messages=doc_to_messages(self._document(doc_id, task, split)))
        _, videos, audios = chat.extract_media()
        if videos or audios:
            kind = "videos" if videos else "audio"
            raise DataError(f"task {task}, document {doc_id}: manyeyes reads no {kind}")
        return Question(chat.to_hf_messages(), options)


def parts(text: str, pictures: Sequence[Image.Image], where: str) -> list[dict[str, Any]]:
    """Content parts of a text and its pictures, at ``<image>`` if it has that, else before it.

    Raises:
        DataError: placeholders and pictures disagree.
    """
    pieces = text.split(IMAGE_PLACEHOLDER)
    if len(pieces) == 1:
        pieces = [""] * len(pictures) + pieces
    if len(pieces) != len(pictures) + 1:
        raise DataError(
            f"{where}: {len(pieces) - 1} {IMAGE_PLACEHOLDER} in the text, {len(pictures)} pictures"
        )
    content: list[dict[str, Any]] = [{"type": "text", "text": pieces[0]}]
    for picture, piece in zip(pictures, pieces[1:], strict=True):
        content += [{"type": "image", "image": picture}]
        content += [{"type": "text", "text": piece.removeprefix("\n")}]
    return [part for part in content if part.get("text") != ""]


def generation_arguments(options: Mapping[str, Any], room: int | None) -> dict[str, Any]:
    """Arguments of ``generate`` for a task's options; greedy unless it asks for a temperature."""
    wanted = int(options.get("max_new_tokens") or MAX_NEW_TOKENS)
    found = {"max_new_tokens": wanted if room is None else min(wanted, room)}
    temperature = options.get("temperature")
    sampled = temperature != 0 and options.get("do_sample", temperature is not None)
    taken = (*PASSED_ON, *SAMPLING) if sampled else PASSED_ON
    found |= {name: options[name] for name in taken if options.get(name) is not None}
    return {**found, "do_sample": bool(sampled)}


def cut(text: str, until: str | Sequence[str] | None) -> str:
    """The text before the first of the stop strings."""
    for stop in [until] if isinstance(until, str) else until or ():
        text = text.partition(stop)[0] if stop else text
    return text


def _batches(questions: Sequence[Question], batch_size: int) -> Iterator[list[int]]:
    by_options: dict[str, list[int]] = {}
    for place, question in enumerate(questions):
        key = json.dumps(question.options, sort_keys=True, default=str)
        by_options.setdefault(key, []).append(place)
    for places in by_options.values():
        places.sort(key=lambda place: questions[place].length)
        for start in range(0, len(places), batch_size):
            yield places[start : start + batch_size]


def _batch_size(value: int | str) -> int:
    if not str(value).isdecimal() or int(value) < 1:
        raise UsageError(f"--batch_size must be a whole number of at least 1, got {value!r}")
    return int(value)


def _load(
    pretrained: str, dtype: str, device: torch.device
) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    if dtype not in _DTYPES:
        known = ", ".join(_DTYPES)
        raise UsageError(f"unknown dtype {dtype!r}{nearest(dtype, _DTYPES)}; known: {known}")
    stored: Any = dtype if dtype == "auto" else getattr(torch, dtype)
    model: Any = ManyEyesForConditionalGeneration.from_pretrained(pretrained, dtype=stored)
    processor = ManyEyesProcessor.from_pretrained(pretrained)
    return model.to(device).eval(), processor

"""A detector's list read and rewritten by the language model: text-mode refinement (MR-MLLM §1.5).

Shapes: B images of a batch, T new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from manyeyes.errors import UsageError
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.perception.text import REFINE_PROMPT, ParsedObjects, parse_objects
from manyeyes.records import IMAGE_PLACEHOLDER, Detection, Detections, Perceived, Turn


@dataclass(frozen=True)
class Written:
    """What the language model wrote about one image.

    ``objects``: what could be read, each with the mean probability of its name's tokens as score.
    ``malformed``: items that could not.
    """

    text: str
    objects: Detections
    malformed: tuple[str, ...] = ()


@torch.inference_mode()
def rewrite_objects(
    model: Any,
    processor: ManyEyesProcessor,
    images: EncodedImages,
    objects: Sequence[Detections],
    *,
    max_new_tokens: int = 512,
) -> list[Written]:
    """Show the language model each image with its detected objects and read its own list.

    Args:
        images: encoded. objects: of each image, as the prompts write them.

    Raises:
        UsageError: the model does not write detected objects into its prompts.
    """
    if processor.perception.writer is None:
        raise UsageError(
            "text refinement needs a model that reads detected objects (model.perception_text)"
        )
    turn = Turn("user", f"{IMAGE_PLACEHOLDER}\n{REFINE_PROMPT}")
    prompts = [
        processor.prompt([turn], image_sizes=[size], perceived=Perceived(objects=(found,)))
        for size, found in zip(images.sizes, objects, strict=True)
    ]
    shown = images.shown(list(range(len(prompts))), [REFINE_PROMPT] * len(prompts))
    inputs = processor.answer_inputs(prompts, images_encoded=True)
    result = model.generate(
        **{name: value.to(model.device) for name, value in inputs.items()},
        evidence=shown.evidence,
        image_index=shown.rows,
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        return_dict_in_generate=True,
        output_scores=True,
    )
    start = inputs["input_ids"].shape[1] if processor.answers_in_sequence else 1
    tokens_BT = result.sequences[:, start:]
    shares_BT = token_probabilities(result.scores, tokens_BT)
    return [
        _read(processor, row, shares, size)
        for row, shares, size in zip(tokens_BT, shares_BT, images.sizes, strict=True)
    ]


def token_probabilities(scores: Sequence[Tensor], tokens_BT: Tensor) -> Tensor:
    """Return every generated token's probability ``[B, T]``; ``scores``: T times ``[B, V]``."""
    shares = [
        score.float().softmax(dim=-1).gather(1, tokens_BT[:, place, None])
        for place, score in enumerate(scores)
    ]
    return torch.cat(shares, dim=1)


def token_ends(tokenizer: Any, tokens_T: Tensor) -> tuple[str, list[int]]:
    """Return the text of tokens, and after each of them the number of characters written."""
    ends, text = [], ""
    for place in range(len(tokens_T)):
        text = tokenizer.decode(
            tokens_T[: place + 1], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        ends.append(len(text))
    return text, ends


def name_probability(span: tuple[int, int], ends: Sequence[int], shares: Sequence[float]) -> float:
    """Return the mean probability of the tokens that wrote the characters ``span``."""
    starts = [0, *ends[:-1]]
    inside = [
        share
        for first, last, share in zip(starts, ends, shares, strict=True)
        if first < span[1] and last > span[0]
    ]
    return sum(inside) / len(inside)


def _read(
    processor: ManyEyesProcessor, tokens_T: Tensor, shares_T: Tensor, size: tuple[int, int]
) -> Written:
    text, ends = token_ends(processor.tokenizer, tokens_T)
    width, height = size
    parsed: ParsedObjects = parse_objects(
        text, style=processor.box_style, width=width, height=height
    )
    shares = shares_T.tolist()
    found: list[Detection] = [
        replace(item.found, score=name_probability(item.name_span, ends, shares))
        for item in parsed.items
    ]
    return Written(text.strip(), tuple(found), parsed.malformed)

"""What ``transformers`` says of the names in a checkpoint, without what means nothing.

A part is often read out of a larger model: an image tower out of CLIP, EVA out of BLIP-2. For the
tensors of the rest ``transformers`` prints a table. It is left out where the part is known not to
use any of them, and stays in all other cases.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

_LOGGER = "transformers.modeling_utils"
_TITLE = "LOAD REPORT"

_TEXT_TOWER = r"text_model\..*|text_projection\..*|logit_scale|logit_bias"
_BLIP2 = (
    r"query_tokens|qformer\..*|language_model\..*|language_projection\..*|embeddings\."
    r"(word|position)_embeddings\..*|(vision|text)_projection\..*|itm_head\..*"
)
_CLASSIFIER = r"classifier\..*"
_DEPTH = r"(neck|head|auxiliary_head)\..*"
_SAM = (
    r"(prompt_encoder|mask_decoder|shared_image_embedding|memory_\w+|object_pointer_\w+|text_encoder|"
    r"text_projection|geometry_encoder|detr_\w+|tracker_\w+|dot_product_scoring)\..*|no_memory_embedding"
)
UNREAD: Mapping[str, str] = {
    **dict.fromkeys(("ConvNextModel", "ConvNextV2Model", "SwinModel", "Swinv2Model"), _CLASSIFIER),
    "Aimv2VisionModel": rf"{_TEXT_TOWER}|visual_projection\..*|head\..*",
    "CLIPVisionModel": rf"{_TEXT_TOWER}|visual_projection\..*",
    "CLIPVisionModelWithProjection": _TEXT_TOWER,
    "DptTower": _DEPTH,
    "Dinov2Model": _DEPTH,
    "MetaClip2VisionModel": rf"{_TEXT_TOWER}|visual_projection\..*",
    "Sam2VisionModel": _SAM,
    "Sam3VisionModel": rf"(detector_model\.)?({_SAM})",
    "SamVisionModel": _SAM,
    "SiglipVisionModel": rf"{_TEXT_TOWER}|(vision_model\.)?head\..*",
    "Siglip2VisionModel": rf"{_TEXT_TOWER}|(vision_model\.)?head\..*",
    "Blip2VisionModel": _BLIP2,
    "TimmWrapperModel": r"(timm_model\.)?(head|head_dist|fc|classifier)\..*",
    "Tipsv2VisionModel": rf"{_TEXT_TOWER}|temperature",
    "VJepa2Tower": r"predictor\..*",
    "ViTMAEModel": r"decoder\..*",
}
"""By the class of a part: what else the files hold that it is read from."""

PREFIXES: Mapping[str, str] = {
    "Aimv2VisionModel": r"^vision_model\.",
    "Blip2VisionModel": r"^vision_model\.",
    "Dinov2Model": r"^backbone\.",
    "Sam2VisionModel": r"^vision_encoder\.",
    "Sam3VisionModel": r"^(detector_model\.)?vision_encoder\.",
}
"""By the class of a part: how its names begin in the files of a whole model, where that is not
known to ``transformers``."""


def renaming(class_name: str) -> dict[str, str]:
    """Return the ``key_mapping`` by which a part is found in the files of a whole model too."""
    return {PREFIXES[class_name]: ""} if class_name in PREFIXES else {}


def means_nothing(class_name: str, unexpected: Collection[str]) -> bool:
    """Tell whether a part of this class is known to use none of the ``unexpected`` names."""
    pattern = re.compile(UNREAD.get(class_name, r"(?!)"))
    return all(pattern.fullmatch(name) for name in unexpected)


class _Held(logging.Filter):
    """Keeps this thread's reports for later."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self._thread or _TITLE not in str(record.msg):
            return True
        self.records.append(record)
        return False


@contextmanager
def held_report() -> Iterator[list[logging.LogRecord]]:
    """Hold back the tables of a block; print at its end what the yielded list still holds."""
    logger, held = logging.getLogger(_LOGGER), _Held()
    logger.addFilter(held)
    try:
        yield held.records
    finally:
        logger.removeFilter(held)
        for record in held.records:
            logger.handle(record)

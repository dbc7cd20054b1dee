"""File formats. To add one: a module with ``matches`` and ``read``, and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.data.readers import (
    coco_captions,
    coco_instances,
    llava,
    openai_messages,
    pope,
    refcoco,
    refcoco_pickle,
    sharegpt,
    vqa,
)
from manyeyes.data.readers.contract import Outcome, Reader

READERS: Mapping[str, Reader] = {
    "coco_captions": Reader("COCO captions", "object", coco_captions.matches, coco_captions.read),
    "coco_instances": Reader(
        "COCO instances", "object", coco_instances.matches, coco_instances.read
    ),
    "llava": Reader("LLaVA JSON or JSON lines", "records", llava.matches, llava.read),
    "openai": Reader(
        "OpenAI or Hugging Face messages", "records", openai_messages.matches, openai_messages.read
    ),
    "pope": Reader("POPE yes/no questions", "records", pope.matches, pope.read),
    "refcoco": Reader("referring expressions", "records", refcoco.matches, refcoco.read),
    "refcoco_pickle": Reader(
        "RefCOCO's refs pickle and instances.json",
        "object",
        refcoco_pickle.matches,
        refcoco_pickle.read,
    ),
    "sharegpt": Reader("ShareGPT with images", "records", sharegpt.matches, sharegpt.read),
    "vqa": Reader("VQA questions and annotations", "object", vqa.matches, vqa.read),
}
"""Known formats by name."""

__all__ = ["READERS", "Outcome", "Reader"]

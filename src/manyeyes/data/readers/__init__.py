"""File formats. To add one: a module with ``matches`` and ``read``, and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from manyeyes.data.readers import (
    coco_captions,
    coco_instances,
    flickr30k_entities,
    gqa,
    image_text,
    karpathy,
    llava,
    openai_messages,
    pope,
    question_answer,
    refcoco,
    refcoco_pickle,
    sharegpt,
    shikra,
    visual_genome,
    vqa,
)
from manyeyes.data.readers.contract import Outcome, Reader

READERS: Mapping[str, Reader] = {
    "coco_captions": Reader("COCO captions", "object", coco_captions.matches, coco_captions.read),
    "coco_instances": Reader(
        "COCO instances", "object", coco_instances.matches, coco_instances.read
    ),
    "flickr30k_entities": Reader(
        "Flickr30k Entities", "object", flickr30k_entities.matches, flickr30k_entities.read
    ),
    "gqa": Reader("GQA questions", "object", gqa.matches, gqa.read),
    "image_text": Reader("images with a caption", "records", image_text.matches, image_text.read),
    "karpathy": Reader("Karpathy's captions", "object", karpathy.matches, karpathy.read),
    "llava": Reader("LLaVA JSON or JSON lines", "records", llava.matches, llava.read),
    "openai": Reader(
        "OpenAI or Hugging Face messages", "records", openai_messages.matches, openai_messages.read
    ),
    "pope": Reader("POPE yes/no questions", "records", pope.matches, pope.read),
    "question_answer": Reader(
        "questions with one answer", "records", question_answer.matches, question_answer.read
    ),
    "refcoco": Reader("referring expressions", "records", refcoco.matches, refcoco.read),
    "refcoco_pickle": Reader(
        "RefCOCO's refs pickle and instances.json",
        "object",
        refcoco_pickle.matches,
        refcoco_pickle.read,
    ),
    "sharegpt": Reader("ShareGPT with images", "records", sharegpt.matches, sharegpt.read),
    "shikra": Reader("Shikra JSON lines", "records", shikra.matches, shikra.read),
    "visual_genome": Reader(
        "Visual Genome regions and questions",
        "records",
        visual_genome.matches,
        visual_genome.read,
    ),
    "vqa": Reader("VQA questions and annotations", "object", vqa.matches, vqa.read),
}
"""Known formats by name."""

__all__ = ["READERS", "Outcome", "Reader"]

"""Tiny recipes of the four methods with the stages of their packaged recipes, for whole runs.

What each stage trains, with which objectives, which changes of the model and which start, is read
from the recipe at real size, so that a run here is a run of that recipe with tiny parts and data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import image_text_parts
import lion_parts
import tiny
import tiny_detector
from manyeyes.recipes import load_recipe

SOURCES: Mapping[str, str] = {
    "comm": "comm/paper",
    "xformer": "xformer/paper",
    "lion": "lion/paper-xl",
    "mr-mllm": "mr-mllm/paper",
}
"""Method → the recipe whose stages are run."""

STAGES = [
    (method, stage.name) for method, name in SOURCES.items() for stage in load_recipe(name).stages
]
"""Every stage of every method."""

PICTURES = 8


def save_method_parts(folder: Path) -> Path:
    """Save what the four models are put together from."""
    tiny.save_parts(folder)
    tiny.save_t5(folder / "t5")
    image_text_parts.save_mae(folder / "mae")
    image_text_parts.save_opt(folder / "opt")
    tiny_detector.save_detector(folder / "detr")
    return folder


def save_method_data(folder: Path) -> Path:
    """Save pictures; questions, captions, tags and objects of them."""
    tiny.save_data(folder, samples=PICTURES)
    names = [f"{number}.png" for number in range(PICTURES)]
    words = ["a square", "a bright spot", "one box on black", "noise"]
    captions = [{"image": name, "caption": words[n % 4]} for n, name in enumerate(names)]
    (folder / "captions.json").write_text(json.dumps(captions))
    tags = [json.dumps({"image": name, "tags": words[: 1 + n % 3]}) for n, name in enumerate(names)]
    (folder / "tags.jsonl").write_text("\n".join(tags) + "\n")
    objects = {
        "images": [
            {"id": n, "file_name": name, "width": 16, "height": 16} for n, name in enumerate(names)
        ],
        "categories": [{"id": 7, "name": "red"}, {"id": 9, "name": "blue"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 7 + 2 * (n % 2), "bbox": [n, 1, 4, 5 + n % 3]}
            for n in range(PICTURES)
        ],
    }
    (folder / "instances.json").write_text(json.dumps(objects))
    return folder


def method_recipe(method: str, parts: Path, *, dtype: str = "float32") -> dict[str, Any]:
    """Return a recipe with every stage of ``method``: two steps of four samples each.

    ``dtype``: of what is frozen; with bfloat16 training computes in it too.
    """
    source = load_recipe(SOURCES[method])
    stages = [
        {
            "name": stage.name,
            "train": stage.model_dump()["train"],
            "objectives": stage.objectives,
            "model": stage.model,
            "start": [s.model_dump() for s in stage.start if s.stage is not None],
            "fresh": stage.fresh,
            "mixture": stage.mixture,
            "data": _DATA[method](stage.name),
        }
        for stage in source.stages
    ]
    training = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "max_steps": 2,
        "logging_steps": 1,
        "save_steps": 1,
        "report_to": "none",
        "bf16": dtype == "bfloat16",
    }
    return {
        "name": method,
        "dtype": dtype,
        "model": _MODELS[method](parts),
        "training": training,
        "stages": stages,
    }


def _comm_model(parts: Path) -> dict[str, Any]:
    return tiny.model_block(parts)


def _xformer_model(parts: Path) -> dict[str, Any]:
    block = image_text_parts.clip_block(parts, "xformer")
    return {**block, "language": {"checkpoint": str(parts / "opt")}}


def _lion_model(parts: Path) -> dict[str, Any]:
    fusion = {"text": "question", "aggregator_levels": [3, 2, 1]}
    block = lion_parts.lion_block(parts, fusion=fusion)
    bridge = {**block["bridge"], "tags": "soft"}
    return {**block, "bridge": bridge, "max_tokens": 256}


def _mr_mllm_model(parts: Path) -> dict[str, Any]:
    changes = tiny_detector.block(parts, refine=True)
    added = load_recipe("mr-mllm/paper").model["language"]["added_biases"]
    return {
        **tiny.model_block(parts),
        **changes,
        "language": {"checkpoint": str(parts / "llama"), "added_biases": added},
        "prompt_style": "chat",
        "box_style": "int1000",
        "geometry": "squash",
        "perception_text": {"min_score": 0.0, "max_objects": 2},
    }


def _questions(stage: str) -> list[dict[str, Any]]:
    return [{"path": "train.json"}]


def _captions(stage: str) -> list[dict[str, Any]]:
    return [{"path": "captions.json"}]


def _image_and_region(stage: str) -> list[dict[str, Any]]:
    kinds = {"image": ["captions.json"], "region": ["train.json"]}
    more = {"tags": "tags.jsonl"} if stage == "tags" else {}
    paths = kinds.get(stage, ["captions.json", "train.json"])
    return [{"path": path, **more} for path in paths]


def _with_objects(stage: str) -> list[dict[str, Any]]:
    plain, seen = {"path": "train.json"}, {"path": "train.json", "objects": {}}
    marked = {"path": "instances.json", "objects": "instances.json"}
    own = {"path": "instances.json", "objects": {}, "refine": True}
    return {"pretrain": [plain], "finetune": [plain, seen], "refine": [marked, own]}[stage]


_MODELS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "comm": _comm_model,
    "xformer": _xformer_model,
    "lion": _lion_model,
    "mr-mllm": _mr_mllm_model,
}
_DATA: Mapping[str, Callable[[str], list[dict[str, Any]]]] = {
    "comm": _questions,
    "xformer": _captions,
    "lion": _image_and_region,
    "mr-mllm": _with_objects,
}

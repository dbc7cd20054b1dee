"""Weights that are missing, or no numbers, are errors that name the tensor, however one loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.checkpoints.weight_names import missing_names
from manyeyes.errors import CheckpointError
from manyeyes.model.loading import load_model
from manyeyes.recipes import WeightSource
from manyeyes.training.build import continued_model
from manyeyes.training.saving.weights import take_weights

HEAD, PROJECTOR = "language_model.lm_head.weight", "fusion.projector.0.weight"
CLASS = "encoders.clip.backbone.embeddings.class_embedding"


def start_a_stage(folder: str) -> None:
    config = ManyEyesConfig.from_pretrained(folder)
    config.references = {}
    model = ManyEyesForConditionalGeneration.from_parts(config)
    take_weights(model, Path(folder), WeightSource(stage="before"))


WAYS: dict[str, Callable[[str], Any]] = {
    "from_pretrained": ManyEyesForConditionalGeneration.from_pretrained,
    "Auto class": AutoModelForImageTextToText.from_pretrained,
    "answering": load_model,
    "resuming": lambda folder: continued_model(Path(folder)),
    "starting a stage": start_a_stage,
}


@pytest.fixture
def saved(parts: Path, tmp_path: Path) -> Path:
    """A light checkpoint: a trained projector and head, all else of the parts frozen."""
    config = ManyEyesConfig(**tiny.model_block(parts))
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    with torch.no_grad():
        model.language_model.lm_head.weight.mul_(2.0)
    model.requires_grad_(False)
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [PROJECTOR, HEAD])
def test_a_deleted_tensor_is_named(saved: Path, way: str, name: str) -> None:
    """The head would be taken from the language model's own checkpoint, without its training."""
    WAYS[way](str(saved))
    edit(saved, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=rf"lacks '{name}'"):
        WAYS[way](str(saved))


@pytest.mark.parametrize("way", [way for way in WAYS if way != "starting a stage"])
def test_a_dropped_reference_is_named(saved: Path, way: str) -> None:
    fields = json.loads((saved / "config.json").read_text())
    del fields["references"]["encoders.clip.backbone"]
    (saved / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"lacks 'encoders\.clip\.backbone\.\S+' and \d+"):
        WAYS[way](str(saved))
    (saved / "config.json").write_text(json.dumps({**fields, "references": {}}))
    with pytest.raises(CheckpointError, match=r"lacks 'encoders\.clip\.backbone\.\S+' and \d+"):
        WAYS[way](str(saved))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(saved: Path, way: str, value: float) -> None:
    edit(saved, lambda tensors: tensors[PROJECTOR].view(-1)[3:4].fill_(value))
    with pytest.raises(CheckpointError, match=rf"NaN or infinite values in '{PROJECTOR}'"):
        WAYS[way](str(saved))


@pytest.mark.parametrize("wrong", ["missing", "nan", "unknown"])
def test_self_contained_checkpoints_are_checked_too(
    saved: Path, tmp_path: Path, wrong: str
) -> None:
    model = ManyEyesForConditionalGeneration.from_pretrained(saved)
    model.save_pretrained(tmp_path / "full", self_contained=True)
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "missing": lambda tensors: tensors.pop(CLASS),
        "nan": lambda tensors: tensors[CLASS].fill_(float("nan")),
        "unknown": lambda tensors: tensors.update({"fusion.other": torch.ones(1)}),
    }
    edit(tmp_path / "full", changes[wrong])
    said = {"missing": f"lacks '{CLASS}'", "nan": f"in '{CLASS}'", "unknown": "'fusion.other'"}
    with pytest.raises(CheckpointError, match=said[wrong]):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "full")


@pytest.mark.parametrize("wrong", ["missing", "nan"])
def test_parts_are_checked_too(tmp_path: Path, wrong: str) -> None:
    parts = tiny.save_parts(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"
    if wrong == "missing":
        edit(parts / "llama", lambda tensors: tensors.pop(name))
    else:
        edit(parts / "llama", lambda tensors: tensors[name].fill_(float("inf")))
    with pytest.raises(CheckpointError, match=rf"llama'.*'{name}'"):
        ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**tiny.model_block(parts)))


def test_a_tensor_that_its_shard_lacks_is_named(saved: Path) -> None:
    index = {"weight_map": dict.fromkeys((PROJECTOR, "fusion.lost"), "model.safetensors")}
    (saved / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks 'fusion\.lost'"):
        ManyEyesForConditionalGeneration.from_pretrained(saved)


def test_what_a_foreign_file_should_hold() -> None:
    layer = "fusion.qformer.encoder.layer.{}.output.dense.{}"
    own = [layer.format(n, kind) for n in (0, 1) for kind in ("weight", "bias")]
    own += ["fusion.text.word_embeddings.weight", "fusion.heads.temperature"]
    assert missing_names(own, own, "bert") == []
    assert missing_names(own[:3] + own[4:5], own, "bert") == [own[3]]
    assert missing_names(own[4:5], own, "bert") == []
    assert missing_names(own[:4], own, "bert") == ["fusion.text.word_embeddings.weight"]

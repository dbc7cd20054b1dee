"""Light and self-contained checkpoints: what is saved, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
)

import tiny
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import CheckpointError, WriteError
from whole_model import Build, Pictures, batch, freeze


def test_comm_check_22_light_checkpoint_round_trip(
    build: Build, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = build()
    freeze(model, "encoders.")
    model.train()
    model.eval()
    model.save_pretrained(tmp_path / "m")
    processor.save_pretrained(tmp_path / "m")
    saved = load_file(tmp_path / "m" / "model.safetensors")
    assert not [name for name in saved if name.startswith("encoders.")]
    for part in (
        "fusion.mergers.",
        "fusion.align.",
        "fusion.projector.",
        "bridge.",
        "language_model.",
    ):
        assert [name for name in saved if name.startswith(part)], part
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "m")
    assert isinstance(again, ManyEyesForConditionalGeneration)
    rows = batch(AutoProcessor.from_pretrained(tmp_path / "m"), pictures)
    with torch.no_grad():
        assert torch.equal(again(**rows).logits, model(**rows).logits)
    assert AutoConfig.from_pretrained(tmp_path / "m").visual_tokens == 16


def test_a_model_with_a_token_limit_is_saved(build: Build, tmp_path: Path) -> None:
    """transformers refuses configurations that set ``max_length``, a generation parameter."""
    model, processor = build(max_tokens=96)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert ManyEyesConfig.from_pretrained(tmp_path).max_tokens == 96
    assert ManyEyesProcessor.from_pretrained(tmp_path).max_length == 96


def test_a_self_contained_export_needs_nothing_else(
    build: Build, pictures: Pictures, tmp_path: Path, parts: Path
) -> None:
    import shutil

    copy = tmp_path / "parts"
    shutil.copytree(parts, copy)
    block = tiny.model_block(copy)
    config = ManyEyesConfig(**block)
    processor = ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    freeze(model, "encoders.", "language_model.")
    model.save_pretrained(tmp_path / "full", self_contained=True)
    model.save_pretrained(tmp_path / "light")
    shutil.rmtree(copy)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "full")
    rows = batch(processor, pictures)
    with torch.no_grad():
        assert torch.equal(again(**rows).logits, model(**rows).logits)
    assert again.config.references == {}
    with pytest.raises(CheckpointError, match=r"clip.*hf download"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "light")


def test_another_base_model_is_refused(build: Build, tmp_path: Path, parts: Path) -> None:
    import shutil

    copy = tmp_path / "parts"
    shutil.copytree(parts, copy)
    config = ManyEyesConfig(**tiny.model_block(copy))
    ManyEyesProcessor.from_config(config)
    model = ManyEyesForConditionalGeneration.from_parts(config)
    freeze(model, "encoders.", "language_model.")
    model.save_pretrained(tmp_path / "m")
    tiny.save_clip(copy / "clip", seed=99)
    with pytest.raises(CheckpointError, match=r"'encoders.clip.backbone'.*is not the checkpoint"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")


def test_parts_stored_in_half_precision_stay_the_same_part(parts: Path, tmp_path: Path) -> None:
    """A stage loads in float32 what a stage before loaded in float32 and saved."""
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(parts / "llama", dtype=torch.bfloat16).save_pretrained(
        half
    )
    block = tiny.model_block(parts)
    block["language"] = {**block["language"], "checkpoint": str(half)}
    model = ManyEyesForConditionalGeneration.from_parts(
        ManyEyesConfig(**block), dtype=torch.float32
    )
    freeze(model, "language_model.")
    for place in ("first", "second", "third"):
        model.save_pretrained(tmp_path / place)
        stored = load_file(tmp_path / place / "model.safetensors")
        assert not [name for name in stored if name.startswith("language_model.")]
        again = ManyEyesForConditionalGeneration.from_pretrained(
            tmp_path / place, dtype=torch.float32
        )
        assert all(
            torch.equal(a, b)
            for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True)
        )
        freeze(again, "language_model.")
        model = again


def test_a_truncated_file_is_refused(build: Build, tmp_path: Path) -> None:
    model, _ = build()
    model.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or truncated"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    file.unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")


def test_a_full_disk_leaves_the_previous_checkpoint(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from transformers import PreTrainedModel

    model, _ = build()
    model.save_pretrained(tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()

    def full(self: Any, folder: Path, **_: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(
        WriteError, match=r"/m: .*disk is full \(No space left.*before is unchanged"
    ):
        model.save_pretrained(tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_save_takes_the_place_of_an_earlier_one_in_shards(build: Build, tmp_path: Path) -> None:
    """Shards and their index must not outlive the weights that were saved after them."""
    model, processor = build()
    model.save_pretrained(tmp_path / "m", max_shard_size="100KB")
    processor.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    assert (tmp_path / "m" / "model.safetensors.index.json").is_file()
    with torch.no_grad():
        model.language_model.lm_head.weight.add_(1.0)
    model.save_pretrained(tmp_path / "m")
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    assert torch.equal(again.language_model.lm_head.weight, model.language_model.lm_head.weight)
    assert [path.name for path in (tmp_path / "m").glob("*.safetensors*")] == ["model.safetensors"]
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"
    assert ManyEyesProcessor.from_pretrained(tmp_path / "m").visual_tokens == 16


def test_a_part_trained_in_an_earlier_stage_stays_in_the_checkpoint(
    build: Build, tmp_path: Path
) -> None:
    model, _ = build()
    freeze(model, "encoders.")
    model.train()
    with torch.no_grad():
        model.language_model.lm_head.weight.add_(1.0)
    freeze(model, "encoders.", "language_model.")
    model.train()
    model.save_pretrained(tmp_path / "m")
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(
        again.language_model.lm_head.weight, model.language_model.lm_head.weight
    )
    freeze(again, "encoders.", "language_model.")
    again.save_pretrained(tmp_path / "n")
    third = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "n")
    assert torch.equal(third.language_model.lm_head.weight, again.language_model.lm_head.weight)


def test_references_carry_checkpoint_and_sha256(build: Build, tmp_path: Path, parts: Path) -> None:
    model, _ = build()
    freeze(model, "encoders.", "language_model.")
    model.save_pretrained(tmp_path)
    references = json.loads((tmp_path / "config.json").read_text())["references"]
    assert set(references) == {
        "encoders.clip.backbone",
        "encoders.dinov2.backbone",
        "language_model",
    }
    assert references["language_model"]["checkpoint"] == str(parts / "llama")
    assert all(len(entry["sha256"]) == 64 for entry in references.values())


def test_seeds_decide_the_fresh_parts(parts: Path) -> None:
    def projector(seed: int) -> Tensor:
        config = ManyEyesConfig(**tiny.model_block(parts))
        model = ManyEyesForConditionalGeneration.from_parts(config, seed=seed)
        return model.fusion.projector[0].weight

    assert torch.equal(projector(1), projector(1))
    assert not torch.equal(projector(1), projector(2))

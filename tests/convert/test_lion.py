"""LION's released layout: written from our model, read back with identical logits (LION §8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lion_parts import build_lion, lion_block, stir
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.checkpoints.weight_names import our_name
from manyeyes.cli import build_app
from manyeyes.convert.lion import convert, official_name, official_state
from manyeyes.errors import CheckpointError
from manyeyes.recipes.yaml_io import dump_yaml
from manyeyes.records import Sample, Turn


@pytest.fixture
def recipe(parts: Path, tmp_path: Path) -> Path:
    block = lion_block(parts)
    block["bridge"]["tags"] = "soft"
    path = tmp_path / "tiny.yaml"
    stage = {"name": "tags", "train": {"fusion": True}, "data": [{"path": "x.json"}]}
    path.write_text(dump_yaml({"name": "tiny", "model": block, "stages": [stage]}))
    return path


@pytest.fixture
def trained(parts: Path) -> tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]:
    block = lion_block(parts)
    block["bridge"]["tags"] = "soft"
    model, processor = build_lion(block)
    stir(model.fusion, scale=0.1)
    stir(model.bridge)
    return model, processor


def released(model: Any, file: Path, **more: Any) -> Path:
    """A file as the released ones are: optimizer moments, an epoch, T5's tied embedding."""
    state = official_state(model) | {
        "t5_model.encoder.embed_tokens.weight": torch.zeros(3, dtype=torch.bfloat16),
        "Qformer.bert.embeddings.position_ids": torch.arange(4)[None],
        **more,
    }
    moments = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}
    torch.save({"model": state, "optimizer": moments, "epoch": 9}, file)
    return file


def arguments(file: Path, out: Path, recipe: Path) -> list[str]:
    return ["convert", "lion", str(file), "--out", str(out), "--recipe", str(recipe)]


def logits(model: Any, processor: ManyEyesProcessor, picture: Image.Image, task: str) -> Any:
    turns = (Turn("user", "<image>\nQ?"), Turn("assistant", "red"))
    sample = Sample("a", ("x",), turns, task, tags=(("cup",),))
    with torch.no_grad():
        return model(**processor.collate([processor.encode(sample, [picture])])).logits


def test_lion_check_16_a_round_trip_gives_identical_logits(
    trained: Any, recipe: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    model, processor = trained
    file = released(model, tmp_path / "lion.pth")
    done = CliRunner().invoke(
        build_app(),
        [
            "convert",
            "lion",
            str(file),
            "--out",
            str(tmp_path / "out"),
            "--recipe",
            str(recipe),
            "--json",
        ],
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["unexpected"] == report["missing"] == []
    assert len(report["left_out"]) == 2
    assert report["taken"] == len(official_state(model))
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "out")
    reread = ManyEyesProcessor.from_pretrained(tmp_path / "out")
    for task in ("region_level", "image_level"):
        expected = logits(model, processor, pictures[0], task)
        assert torch.equal(logits(again, reread, pictures[0], task), expected)


def test_lion_check_16_a_bare_state_dict_is_read_too(
    trained: Any, recipe: Path, tmp_path: Path
) -> None:
    state = official_state(trained[0])
    torch.save(state, tmp_path / "bare.pth")
    model, _, report = convert(tmp_path / "bare.pth", recipe=recipe)
    assert report.unexpected == report.missing == report.left_out == ()
    assert all(torch.equal(x, state[name]) for name, x in official_state(model).items())


def test_names_are_those_of_the_released_files(trained: Any) -> None:
    names = set(official_state(trained[0]))
    assert {
        "t5_model.encoder.block.1.layer.1.adapter.adapters.0.down_proj.weight",
        "t5_model.decoder.block.0.layer.2.adapter.adapters.1.up_proj.bias",
        "t5_model.decoder.block.1.layer.2.adapter.adapters.1.scale",
        "t5_model.encoder.block.0.layer.1.adapter.router_ratio1",
        "t5_model.encoder.block.0.layer.1.adapter.router_ratio2",
        "fusion_adapter.blocks.0.attention.self.query.weight",
        "fusion_adapter.blocks.1.attention.output.LayerNorm.bias",
        "fusion_adapter.blocks.1.crossattention.self.value.bias",
        "fusion_adapter.blocks.0.crossattention.output.dense.weight",
        "fusion_adapter.blocks.0.intermediate.dense.weight",
        "fusion_adapter.blocks.0.output.dense.weight",
        "fusion_adapter.blocks.0.output.LayerNorm.weight",
        "adapter_proj.0.weight",
        "adapter_proj.2.bias",
        "ln_adapter.weight",
        "ln_vision.bias",
        "query_tokens",
        "t5_proj.weight",
        "soft_prompt_hint",
        "Qformer.bert.embeddings.word_embeddings.weight",
        "Qformer.bert.embeddings.LayerNorm.weight",
        "Qformer.bert.encoder.layer.0.crossattention.self.key.weight",
        "Qformer.bert.encoder.layer.1.output_query.dense.weight",
    } <= names


def test_the_q_former_is_named_as_in_other_lavis_files(trained: Any) -> None:
    shared = [n for n in trained[0].state_dict() if n.startswith(("fusion.q", "fusion.text."))]
    assert shared
    for name in shared:
        assert our_name(str(official_name(name)), "lavis") == name


def test_what_does_not_belong_is_reported(trained: Any, recipe: Path, tmp_path: Path) -> None:
    file = released(trained[0], tmp_path / "odd.pth", strange=torch.ones(1))
    _, _, report = convert(file, recipe=recipe)
    assert report.unexpected == ("strange",)
    arguments = [
        "convert",
        "lion",
        str(file),
        "--out",
        str(tmp_path / "o"),
        "--recipe",
        str(recipe),
    ]
    done = CliRunner().invoke(build_app(), arguments)
    assert done.exit_code == 1 and not (tmp_path / "o").exists()
    state = official_state(trained[0])
    del state["adapter_proj.0.weight"]
    torch.save({"model": state}, tmp_path / "less.pth")
    _, _, report = convert(tmp_path / "less.pth", recipe=recipe)
    assert report.missing == ("fusion.aggregator_proj.0.weight",)


def test_files_of_another_kind_or_shape_are_refused(
    trained: Any, recipe: Path, tmp_path: Path
) -> None:
    torch.save({"model": {"a": torch.ones(2)}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="holds no adapters"):
        convert(tmp_path / "other.pth", recipe=recipe)
    file = released(trained[0], tmp_path / "lion.pth")
    with pytest.raises(CheckpointError, match=r"width 32 fit no released LION .*--recipe"):
        convert(file)
    state = official_state(trained[0]) | {"ln_adapter.weight": torch.ones(7)}
    torch.save({"model": state}, tmp_path / "shape.pth")
    with pytest.raises(CheckpointError, match=r"'ln_adapter.weight' is \(7,\)"):
        convert(tmp_path / "shape.pth", recipe=recipe)

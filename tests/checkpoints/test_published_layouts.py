"""Every checkpoint that a packaged recipe names, in its published layout: all of it arrives."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import Tensor

import image_text_parts
import published_files
import published_layouts
import tiny
import tiny_detector
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration
from manyeyes import recipes as packaged
from manyeyes.checkpoints import hub
from manyeyes.checkpoints.light import read_weights
from manyeyes.errors import CheckpointError
from manyeyes.recipes import WeightSource
from manyeyes.training.saving.weights import take_weights
from published_files import LANGUAGE, PUBLISHED, Published

QFORMERS = {
    "instructblip": (
        ("Salesforce/instructblip-flan-t5-xl", "Salesforce/instructblip-flan-t5-xxl"),
        published_layouts.INSTRUCTBLIP_QFORMER,
    ),
    "blip2": (("Salesforce/blip2-opt-6.7b",), published_layouts.BLIP2_QFORMER),
    "bert": (("bert-base-uncased",), published_layouts.BERT),
}
UNPUBLISHED = {
    "instructblip": r"(?!)",
    "blip2": r"(?!)",
    "bert": r"fusion\.(query_tokens|ln_vision|projector|.*crossattention"
    r"|heads\.(itm_head|(vision|text)_projection|temperature))",
}
"""What the files do not hold of the model that a stage starts."""
TESTED_ELSEWHERE = {
    "ram_swin_large_14m.pth",  # tests/encoders/test_taggers.py
    "facebook/sam-vit-base",  # tests/encoders/test_whole_checkpoints.py
}


def checkpoints(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {str(v) for k, v in value.items() if k == "checkpoint"}
        return own.union(*(checkpoints(v) for v in value.values()))
    return set().union(*(checkpoints(v) for v in value)) if isinstance(value, list) else set()


def test_every_checkpoint_of_a_packaged_recipe_has_its_layout_here() -> None:
    files = sorted(Path(packaged.__file__).parent.rglob("*.yaml"))
    named = set().union(*(checkpoints(yaml.safe_load(file.read_text())) for file in files))
    foreign = {name for name in named if not name.startswith(("world:", "tags/"))}
    tested = {name for kind in (*PUBLISHED.values(), *LANGUAGE.values()) for name in kind.ids}
    tested |= {name for ids, _ in QFORMERS.values() for name in ids}
    assert len(foreign) > 20 and foreign == tested | TESTED_ELSEWHERE


def encoder_block(parts: Path, kind: Published, checkpoint: str, declared: bool) -> dict[str, Any]:
    block = {**tiny.model_block(parts), "fusion": {"name": "single"}}
    entry = {"name": "eye", "family": kind.family, "checkpoint": checkpoint, **kind.spec}
    if kind.family == "detr":
        block |= tiny_detector.block(parts)
        del block["encoders"][1:]
        entry["levels"] = [1]
    else:
        block["encoders"] = []
    if kind.spec:
        block["fusion"] = {"name": "concat"}
    if declared:
        entry["backbone"] = dict(kind.fields)
    block["encoders"] = [*block["encoders"], entry]
    return block


def random_parts(block: dict[str, Any], kind: Published) -> dict[str, Tensor]:
    entry = {**block["encoders"][-1], "checkpoint": ""}
    config = ManyEyesConfig(**{**block, "encoders": [*block["encoders"][:-1], entry]})
    model = ManyEyesForConditionalGeneration.from_parts(config)
    random = published_files.random_state(model.encoders["eye"])
    assert len(parts_state(random, kind)) == len(random)
    return parts_state(random, kind)


def parts_state(state: Mapping[str, Tensor], kind: Published) -> dict[str, Tensor]:
    """The state of an encoder by the names inside its parts, which do not overlap."""
    prefix = re.compile(rf"({'|'.join(kind.parts)})\.(.*)")
    found = ((prefix.fullmatch(name), tensor) for name, tensor in state.items())
    return {match[2]: tensor for match, tensor in found if match}


def assert_arrived(kind: Published, state: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    names = published_layouts.names(kind.layout, kind.layers).values()
    assert found.keys() == state.keys()
    for name in {name for name in names if name is not None}:
        assert torch.equal(found[name], state[name]), name


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "of the file"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_encoders_arrive(
    parts: Path, tmp_path: Path, name: str, declared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kind = PUBLISHED[name]
    block = encoder_block(parts, kind, str(tmp_path / "published"), declared)
    state = random_parts(encoder_block(parts, kind, "", True), kind)
    published_files.publish(tmp_path / "published", kind, state)
    with caplog.at_level(logging.WARNING):
        model = ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**block))
    assert_arrived(kind, state, parts_state(model.encoders["eye"].state_dict(), kind))
    assert "LOAD REPORT" not in caplog.text


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "of the file"])
@pytest.mark.parametrize("name", LANGUAGE)
def test_language_models_arrive(
    parts: Path, tmp_path: Path, name: str, declared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    kind = LANGUAGE[name]
    state = published_files.language_state(kind.fields)
    published_files.publish(tmp_path / "published", kind, state)
    language: dict[str, Any] = {"checkpoint": str(tmp_path / "published")}
    if declared:
        language["config"] = dict(kind.fields)
    block = {**tiny.model_block(parts), "language": language}
    with caplog.at_level(logging.WARNING):
        model = ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**block))
    assert_arrived(kind, state, model.language_model.state_dict())
    for twin, source in state.items():  # heads: tied, or their own, as the file has them
        assert torch.equal(model.language_model.state_dict()[twin], source), twin
    assert "LOAD REPORT" not in caplog.text


def qformer_model(parts: Path, format: str) -> ManyEyesForConditionalGeneration:
    text = {"blip2": "none", "instructblip": "question", "bert": "caption"}[format]
    block = image_text_parts.clip_block(parts, text=text, text_length=8, ln_vision=True)
    config = ManyEyesConfig(**block)
    return ManyEyesForConditionalGeneration.from_parts(config)


def qformer_source(folder: Path, format: str, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Write a file for the tensors ``own``, and return what should arrive of it."""
    names = published_layouts.names(QFORMERS[format][1], 2)
    wanted = {name: own[name] for name in names.values() if name is not None}
    if format == "bert":  # whose vocabulary has no [DEC]
        for name in ("fusion.text.word_embeddings.weight", "fusion.heads.lm_bias"):
            wanted[name] = wanted[name][:-1]
    tensors = {
        name: torch.randn(3) if target is None else wanted[target].clone()
        for name, target in names.items()
    }
    sharded = "" if format == "bert" else "sharded "
    published_files.write(folder, tensors, f"{sharded}safetensors")
    return wanted


@pytest.mark.parametrize("format", QFORMERS)
def test_qformers_arrive(parts: Path, tmp_path: Path, format: str) -> None:
    model = qformer_model(parts, format)
    own = {f"fusion.{n}": x for n, x in published_files.random_state(model.fusion).items()}
    wanted = qformer_source(tmp_path / "published", format, own)
    source: Any = {"checkpoint": str(tmp_path / "published"), "format": format}
    place = hub.weights_folder(source["checkpoint"])
    taken = set(take_weights(model, place, WeightSource(**source)))
    state = model.state_dict()
    for name, tensor in wanted.items():
        found = state[name]
        assert torch.equal(found[: len(tensor)] if format == "bert" else found, tensor), name
        if name.startswith("fusion.qformer") and format == "bert":  # where the queries start
            queries = re.sub(r"\.(intermediate|output)\.", r".\1_query.", name)
            assert torch.equal(state[queries if ".attention." not in name else name], tensor)
    drawn = {name for name in state if name.startswith("fusion.")} - taken
    assert all(re.match(UNPUBLISHED[format], name) for name in drawn), sorted(drawn)


class Remote:
    """A hub: what is asked for goes from ``shelf`` into the cache, and nothing else."""

    def __init__(self, shelf: Path, cache: Path) -> None:
        self.shelf, self.snapshot = shelf, cache / "models--o--n" / "snapshots" / ("0" * 40)
        (cache / "models--o--n" / "refs").mkdir(parents=True)
        (cache / "models--o--n" / "refs" / "main").write_text("0" * 40)
        self.snapshot.mkdir(parents=True)

    def one(self, repo: str, filename: str, **options: Any) -> str:
        if not (self.shelf / filename).is_file():
            raise EntryNotFoundError(filename)
        shutil.copy(self.shelf / filename, self.snapshot / filename)
        return str(self.snapshot / filename)

    def several(self, repo: str, allow_patterns: list[str], **options: Any) -> str:
        for name in allow_patterns:
            self.one(repo, name)
        return str(self.snapshot)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Remote:
    tensors = {"query_tokens": torch.ones(1, 4, 16), "other": torch.ones(2)}
    published_files.write(tmp_path / "shelf", tensors, "sharded safetensors")
    found = Remote(tmp_path / "shelf", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("transformers.utils.hub.hf_hub_download", found.one)
    monkeypatch.setattr("transformers.utils.hub.snapshot_download", found.several)
    return found


def test_all_shards_of_an_index_are_fetched(remote: Remote) -> None:
    """lion/paper-xxl starts from a checkpoint that no other part of it has fetched before."""
    folder = hub.weights_folder("o/n")
    assert folder == remote.snapshot
    read = {name for file in folder.glob("*.safetensors") for name in load_file(file)}
    assert read == {"query_tokens", "other"}


def test_a_shard_that_cannot_be_had_is_an_error(remote: Remote) -> None:
    (remote.shelf / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"'o/n'.*hf download o/n"):
        hub.weights_folder("o/n")


@pytest.mark.parametrize("foreign", ["stray.weight", "text_model.x", "vision_model.encoder.y"])
def test_only_reports_that_mean_nothing_are_left_out(
    parts: Path, tmp_path: Path, foreign: str, caplog: pytest.LogCaptureFixture
) -> None:
    kind = PUBLISHED["clip"]
    block = encoder_block(parts, kind, str(tmp_path / "published"), True)
    published_files.publish(tmp_path / "published", kind, random_parts(block, kind))
    file = tmp_path / "published" / "model.safetensors"
    save_file({**load_file(file), foreign: torch.ones(1)}, file, {"format": "pt"})
    with caplog.at_level(logging.WARNING, logger="transformers"):
        ManyEyesForConditionalGeneration.from_parts(ManyEyesConfig(**block))
    assert ("LOAD REPORT" in caplog.text) == (foreign != "text_model.x")
    if "LOAD REPORT" in caplog.text:
        assert foreign.removeprefix("vision_model.") in caplog.text


def test_weights_that_are_published_as_bin_alone_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, and in shards; safetensors win where both are there."""
    tensors = {"a": torch.ones(2), "b": torch.zeros(3)}
    torch.save({**tensors, "step": 3}, tmp_path / "pytorch_model.bin")
    found = read_weights(tmp_path, lambda name: name != "b")
    assert found.keys() == {"a"} and torch.equal(found["a"], tensors["a"])
    parts = {name: f"pytorch_model-0000{n}-of-00002.bin" for n, name in enumerate("ab", 1)}
    for name, part in parts.items():
        torch.save({name: tensors[name] + 1}, tmp_path / part)
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": parts}))
    assert torch.equal(read_weights(tmp_path)["b"], tensors["b"] + 1)
    save_file({"a": torch.full((2,), 5.0)}, tmp_path / "model.safetensors")
    assert torch.equal(read_weights(tmp_path)["a"], torch.full((2,), 5.0))
    places = {"pytorch_model.bin": str(tmp_path / "pytorch_model.bin")}
    monkeypatch.setattr(hub, "cached_file", lambda place, name, **_: places.get(name))
    assert hub.weights_folder("o/n") == tmp_path

"""``manyeyes export``: light and self-contained folders."""

from __future__ import annotations

from pathlib import Path

import torch

from cli_runs import Trained, invoke, the_object
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor


def test_a_self_contained_export_needs_nothing_else(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "full"
    report = the_object(invoke("export", trained.model, "--out", out, "--self-contained", "--json"))
    assert report["needs"] == []
    exported = ManyEyesForConditionalGeneration.from_pretrained(out)
    assert exported.config.references == {}
    original = ManyEyesForConditionalGeneration.from_pretrained(trained.model).state_dict()
    state = exported.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in original.items())
    assert ManyEyesProcessor.from_pretrained(out).visual_tokens == 16


def test_a_light_export_names_what_it_needs(trained: Trained, parts: Path, tmp_path: Path) -> None:
    report = the_object(invoke("export", trained.model, "--out", tmp_path / "light", "--json"))
    assert report["needs"] == [str(parts / "clip"), str(parts / "dinov2")]


def test_an_existing_folder_is_not_touched(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = invoke("export", trained.model, "--out", tmp_path)
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

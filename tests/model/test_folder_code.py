"""Saved folders in processes that have not imported manyeyes, or cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.model.auto.folder_code import CODE
from whole_model import Build, Pictures, prompts

pytestmark = pytest.mark.long

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "manyeyes":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""
LOAD = """
import sys
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
assert "manyeyes" not in sys.modules
for found in (AutoConfig, AutoModelForImageTextToText, AutoProcessor):
    try:
        found.from_pretrained(sys.argv[1], trust_remote_code=sys.argv[2] == "trust")
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[-1])
    else:
        print("loaded")
"""
ANSWER = """
import json, sys
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
model = AutoModelForImageTextToText.from_pretrained(sys.argv[1], trust_remote_code=True)
content = [{"type": "image", "path": sys.argv[2]}, {"type": "text", "text": "What?"}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=True,
    return_dict=True,
)
print(json.dumps(model.eval().generate(**inputs, max_new_tokens=4, do_sample=False)[0].tolist()))
"""


@pytest.fixture
def folder(build: Build, tmp_path: Path) -> Path:
    """A light folder of an untrained model and its processor."""
    model, processor = build()
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _run(code: str, *words: object, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_MODULES_CACHE": str(home / "modules"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=300,
    )


def test_without_manyeyes_one_line_says_what_to_install(folder: Path, tmp_path: Path) -> None:
    done = _run(BLOCKED + LOAD, folder, "trust", home=tmp_path)
    line = (
        "ImportError this model needs the package manyeyes, which is not installed: "
        "pip install manyeyes"
    )
    assert done.stdout.splitlines() == [line] * 3, done.stderr


@pytest.mark.parametrize("self_contained", [False, True])
def test_a_process_that_has_not_imported_manyeyes_answers_alike(
    self_contained: bool, build: Build, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = build()
    folder, picture = tmp_path / "model", tmp_path / "picture.png"
    model.save_pretrained(folder, self_contained=self_contained)
    processor.save_pretrained(folder)
    pictures[0].save(picture)
    done = _run(ANSWER, folder, picture, home=tmp_path)
    assert done.returncode == 0, done.stderr
    inputs = processor.answer_inputs(prompts(processor, "What?"), pictures[:1])
    expected = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0].tolist()
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_without_trust_it_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    done = _run(LOAD, folder, "no trust", home=tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("ValueError") and "trust_remote_code=True" in line for line in lines)


@pytest.mark.parametrize("trust", [None, False, True])
def test_with_manyeyes_imported_nothing_is_asked_and_nothing_run(
    trust: bool | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file in the folder may be another by now: our own classes are known already."""
    monkeypatch.setattr("builtins.input", lambda text: pytest.fail(text))
    (folder / CODE.name).write_text("raise SystemExit('ran')")
    words = {} if trust is None else {"trust_remote_code": trust}
    assert type(AutoConfig.from_pretrained(folder, **words)) is ManyEyesConfig
    model = AutoModelForImageTextToText.from_pretrained(folder, **words)
    assert type(model) is ManyEyesForConditionalGeneration
    assert type(AutoProcessor.from_pretrained(folder, **words)) is ManyEyesProcessor


def test_a_folder_that_is_saved_again_names_our_code_only(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "processor_config.json"):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = dict.fromkeys(content["auto_map"], "other.Other")
        (folder / name).write_text(json.dumps(content))
    ManyEyesConfig.register_for_auto_class()
    ManyEyesForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
    ManyEyesProcessor.register_for_auto_class()
    again = tmp_path / "again"
    ManyEyesForConditionalGeneration.from_pretrained(folder).save_pretrained(again)
    ManyEyesProcessor.from_pretrained(folder).save_pretrained(again)
    assert sorted(path.name for path in again.glob("*.py")) == [CODE.name]
    assert (again / CODE.name).read_text() == CODE.read_text()
    maps = json.loads((again / "config.json").read_text())["auto_map"]
    assert maps == {
        "AutoConfig": "modeling_manyeyes.ManyEyesConfig",
        "AutoModelForImageTextToText": "modeling_manyeyes.ManyEyesForConditionalGeneration",
        "AutoProcessor": "modeling_manyeyes.ManyEyesProcessor",
    }
    assert "other" not in (again / "processor_config.json").read_text()


def test_folders_of_before_still_load(folder: Path) -> None:
    (folder / CODE.name).unlink()
    for name in ("config.json", "processor_config.json"):
        content = json.loads((folder / name).read_text())
        del content["auto_map"]
        (folder / name).write_text(json.dumps(content))
    ids = torch.arange(4, 12)[None]
    assert (
        AutoModelForImageTextToText.from_pretrained(folder)(input_ids=ids).logits.isfinite().all()
    )
    AutoProcessor.from_pretrained(folder)

"""Code in a model folder runs where somebody trusts it, and nowhere else."""

from __future__ import annotations

import ast
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

import tiny
from cli_runs import invoke, the_object
from manyeyes import ManyEyesConfig, ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.checkpoints.trust import VARIABLE, trusting, trusts_remote_code
from manyeyes.errors import CheckpointError

SOURCE = Path(__file__).parents[2] / "src" / "manyeyes"
CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

with Path({mark!r}).open("a") as stream:
    stream.write("ran\\n")

class OwnConfig(LlamaConfig):
    model_type = "own_llama"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig

class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""
MAPS = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that the folder's code writes when it runs."""
    return tmp_path / "ran.txt"


@pytest.fixture
def own(parts: Path, tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A language model with a configuration class and a model class of its own."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    folder = tmp_path / "own"
    shutil.copytree(parts / "llama", folder)
    _change(folder / "config.json", model_type="own_llama", auto_map=MAPS)
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    return folder


@pytest.fixture
def recipe(own: Path, parts: Path, tmp_path: Path) -> Path:
    """A recipe of one step whose language model is ``own``."""
    block = tiny.model_block(parts)
    data = tiny.save_data(tmp_path / "data")
    training = {"max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True}
    stage = {"name": "align", "train": {"fusion": True}, "training": training}
    stage["data"] = [{"path": "train.json"}]
    content = {
        "name": "own",
        "model": {**block, "language": {"checkpoint": str(own)}},
        "stages": [stage],
    }
    path = data / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _change(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _classifier(folder: Path, mark: Path) -> Path:
    """A tagger's folder that wants to run code."""
    tiny.save_tagger(folder)
    maps = {"AutoConfig": "own.OwnConfig", "AutoModelForImageClassification": "own.Own"}
    _change(folder / "config.json", model_type="own_vit", auto_map=maps)
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    return folder


@pytest.mark.parametrize("command", ["check", "train", "tag", "detect", "chat", "export"])
def test_no_command_runs_a_folders_code(
    command: str, own: Path, recipe: Path, mark: Path, tmp_path: Path
) -> None:
    data = recipe.parent
    words: dict[str, tuple[object, ...]] = {
        "check": (recipe,),
        "train": (recipe, "--data", data, "--out", tmp_path / "run"),
        "tag": (_classifier(tmp_path / "vit", mark), data, "--out", tmp_path / "tags.jsonl"),
        "detect": (own, data / "0.png"),
        "chat": (own, "--prompt", "?"),
        "export": (own, "--out", tmp_path / "exported"),
    }
    result = invoke(command, *words[command], "--json", stdin="y\ny\ny\n")
    assert result.exit_code == 1
    assert the_object(result)["error"]["type"] == "CheckpointError"
    assert not mark.exists()
    if command in ("check", "train", "tag", "detect"):
        assert "pass --trust-remote-code" in the_object(result)["error"]["message"]


def test_the_option_lets_it_run(
    own: Path, recipe: Path, mark: Path, tmp_path: Path, parts: Path
) -> None:
    out = tmp_path / "run"
    options = ("--data", recipe.parent, "--trust-remote-code", "--json")
    assert the_object(invoke("check", recipe, *options))["ok"]
    assert mark.read_text() == "ran\n"
    trained = invoke("train", recipe, "--out", out, *options)
    assert trained.exit_code == 0, trained.stderr
    assert not trusts_remote_code()
    with pytest.raises(CheckpointError, match="pass --trust-remote-code"):
        ManyEyesForConditionalGeneration.from_pretrained(out / "model")
    model = ManyEyesForConditionalGeneration.from_pretrained(out / "model", trust_remote_code=True)
    assert type(model.language_model).__name__ == "OwnForCausalLM"
    ids = torch.arange(4, 12)[None]
    usual = _usual_logits(parts / "llama", ids)
    assert torch.equal(model.eval()(input_ids=ids).logits, usual)
    asked = ("chat", out / "model", "--prompt", "?", "--max-new-tokens", "2", "--json")
    assert invoke(*asked).exit_code == 1
    assert invoke(*asked, "--trust-remote-code").exit_code == 0


def _usual_logits(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    from transformers import LlamaForCausalLM

    logits: torch.Tensor = LlamaForCausalLM.from_pretrained(folder).eval()(input_ids=ids).logits
    return logits


def test_a_tokenizers_code_runs_neither(own: Path, parts: Path, mark: Path) -> None:
    config = json.loads((parts / "llama" / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config))
    _change(
        own / "tokenizer_config.json",
        tokenizer_class="OwnTokenizer",
        auto_map={"AutoTokenizer": [None, "own.OwnTokenizer"]},
    )
    block = tiny.model_block(parts)
    made = ManyEyesConfig(**{**block, "language": {"checkpoint": str(own)}})
    with pytest.raises(CheckpointError, match="pass --trust-remote-code"):
        ManyEyesProcessor.from_config(made)
    assert not mark.exists()
    with trusting(True):
        ManyEyesProcessor.from_config(made)
    assert mark.exists()


def test_a_whole_model_cannot_bring_code(build: object, tmp_path: Path, mark: Path) -> None:
    """A saved model's own maps are not followed: its classes are those of the package."""
    model, processor = build()  # type: ignore[operator]
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        maps = {
            "AutoConfig": "own.OwnConfig",
            "AutoModelForImageTextToText": "own.OwnForCausalLM",
            "AutoProcessor": "own.OwnTokenizer",
            "AutoTokenizer": [None, "own.OwnTokenizer"],
        }
        _change(folder / name, auto_map=maps)
    AutoModelForImageTextToText.from_pretrained(folder)
    AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    ManyEyesForConditionalGeneration.from_pretrained(folder)
    ManyEyesProcessor.from_pretrained(folder)
    assert not mark.exists()


def test_trust_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    assert trusts_remote_code()
    with trusting(False):
        assert not trusts_remote_code()
        with trusting(None):
            assert not trusts_remote_code()
    with trusting(None):
        assert trusts_remote_code()
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(RuntimeError), trusting(True):
        assert trusts_remote_code()
        raise RuntimeError
    assert not trusts_remote_code()
    assert VARIABLE not in os.environ


def _auto_calls(file: Path) -> list[ast.Call]:
    """Calls that load something through an Auto class of ``transformers``."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            target = ast.unparse(node.func.value)
            if node.func.attr in ("from_pretrained", "from_config") and "auto" in target.lower():
                found.append(node)
    return found


def test_every_auto_call_says_whether_it_trusts() -> None:
    calls = [(file, call) for file in SOURCE.rglob("*.py") for call in _auto_calls(file)]
    silent = [
        f"{file.relative_to(SOURCE)}:{call.lineno}"
        for file, call in calls
        if "trust_remote_code" not in {keyword.arg for keyword in call.keywords}
    ]
    assert len(calls) >= 10
    assert silent == []

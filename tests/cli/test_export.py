"""``manyeyes export``: light and self-contained folders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import safe_open

import tiny
from cli_runs import Trained, invoke, the_object
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor


def _stored(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", "pt") as file:
        return set(file.keys())


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
    assert not [name for name in _stored(tmp_path / "light") if name.startswith("encoders.")]


def test_the_card_says_recipe_data_and_figures(trained: Trained, tmp_path: Path) -> None:
    page = (trained.model / "README.md").read_text()
    assert "| align | " in page and "## Data" in page and "## Figures" not in page

    asked = ("-b", "vqa", "--data", trained.data, "--limit", 2, "--json")
    results = the_object(invoke("evaluate", trained.model, *asked))["benchmarks"]["vqa"]
    license = ("--license", "cc-by-4.0")
    invoke("export", trained.model, "--out", tmp_path / "a", *license)
    text = (tmp_path / "a" / "README.md").read_text()
    card = ModelCard(text)
    assert card.data.license == "cc-by-4.0"
    model, metric = results["model"], results["metric"]
    low, high = model["ci95"][metric]
    value = f"{model['metrics'][metric]:.1f} [{low:.1f}, {high:.1f}]"
    assert f"| vqa | test | {metric} | 2 | {value} |" in text
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe["stages"][0]["name"] == "align"
    assert str(trained.out) not in text and str(trained.data) not in text

    stored = trained.out / "evaluation-test" / "results.json"
    stored.write_text(stored.read_text().replace(model_mark(stored), "0" * 64))
    told = invoke("export", trained.model, "--out", tmp_path / "b")
    assert "leaves out figures of other weights" in told.stderr
    assert "It has not been evaluated" in (tmp_path / "b" / "README.md").read_text()
    shutil.rmtree(stored.parent)


def model_mark(results: Path) -> str:
    return str(json.loads(results.read_text())["model"]["fingerprint"])


def test_an_existing_folder_is_not_touched(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    result = invoke("export", trained.model, "--out", tmp_path)
    assert result.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_two_commands_from_llava_json_to_a_merged_and_evaluated_model(
    parts: Path, world: Path, tmp_path: Path
) -> None:
    """LoRA is trained, merged, loaded again and evaluated; PEFT reads the adapter as well."""
    from peft import PeftModel

    lora = {"rank": 2, "dropout": 0.1}
    stage = {
        "name": "tune",
        "train": {"fusion": True, "language": {"learning_rate": 1e-2, "lora": lora}},
        "data": [{"path": "llava/train.json", "image_root": "images"}],
        "training": {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True},
    }
    recipe = {"name": "mine", "model": tiny.model_block(parts), "stages": [stage]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    out, merged = tmp_path / "run", tmp_path / "merged"
    common = ("--data", world, "--out", out, "--export", merged, "--json")
    the_object(invoke("train", tmp_path / "mine.yaml", *common))
    report = the_object(
        invoke(
            "evaluate",
            merged,
            "--benchmark",
            "vqa",
            "--data",
            world,
            "--limit",
            2,
            "--split",
            "train",
            "--json",
        )
    )
    assert report["benchmarks"]["vqa"]["n"] == 2

    tuned = ManyEyesForConditionalGeneration.from_pretrained(out / "model").eval()
    plain = ManyEyesForConditionalGeneration.from_pretrained(merged).eval()
    assert tuned.config.lora and not plain.config.lora
    processor = ManyEyesProcessor.from_pretrained(merged)
    picture = Image.new("RGB", (16, 16), "red")
    inputs = processor.answer_inputs(["USER: <image>\nwhat? ASSISTANT:"], [picture])
    with torch.no_grad():
        expected, found = tuned(**inputs).logits, plain(**inputs).logits
        kept = tmp_path / "kept"
        the_object(invoke("export", out / "model", "--out", kept, "--keep-adapter", "--json"))
        base = ManyEyesForConditionalGeneration.from_pretrained(kept).eval()
        without = base(**inputs).logits
        again = PeftModel.from_pretrained(base, str(kept / "adapter")).eval()(**inputs).logits
    assert torch.allclose(found, expected, atol=1e-5) and torch.allclose(again, expected, atol=1e-5)
    assert not torch.allclose(without, expected, atol=1e-4)
    names = {folder: _stored(folder) for folder in (kept, merged)}
    assert not [name for name in names[kept] if name.startswith(("language_model.", "encoders."))]
    changed = names[merged] - names[kept]
    assert len(changed) == 2 * 7 and all(name.endswith("_proj.weight") for name in changed)

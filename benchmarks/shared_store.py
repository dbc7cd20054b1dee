"""A six-arm study with one shared store of encoder outputs, against encoding in every arm.

Encoders of ViT-L's width at 336 pixels and reduced depth, a small language model, six fusions of
one or both encoders, the same images for all. Each round trains all six arms once in each way, from
an empty store; loading, storing, reading back and saving are part of the time.

    python benchmarks/shared_store.py [--quick] [--json] [--rounds N] [--depth L] [--images N]

Variants
    encoding in every arm    the encoders run at every step
    shared store             each encoder runs once per image; the arms read its levels from disk
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pair
import torch
from PIL import Image
from timing import Clock, arguments, interleave, measured, ratio, show
from transformers import CLIPVisionModel, Dinov2Config, Dinov2Model, LlamaForCausalLM

from manyeyes.recipes import Recipe, load_recipe
from manyeyes.training import train
from manyeyes.training.precomputed.encoder_store import GB

EVERY, SHARED = "encoding in every arm", "shared store"


@dataclass(frozen=True)
class Study:
    """Sizes of the encoders, number of images, and how often each arm sees them."""

    image_size: int = 336
    patch: int = 14
    width: int = 1024
    heads: int = 16
    depth: int = 8
    images: int = 16
    epochs: int = 3
    batch: int = 8

    @property
    def steps(self) -> int:
        """Optimizer steps of one arm."""
        return self.images * self.epochs // self.batch


FULL = Study()
QUICK = Study(image_size=28, width=32, heads=2, depth=2, images=4, epochs=2, batch=2)
LANGUAGE = replace(pair.QUICK, width=256, heads=4, kv_heads=4, inner=512, layers=2)


def save_parts(study: Study, folder: Path) -> None:
    """Save both encoders and the language model, at random weights."""
    torch.manual_seed(0)
    sizes = replace(
        pair.FULL,
        image_size=study.image_size,
        patch=study.patch,
        vision_width=study.width,
        vision_layers=study.depth,
        vision_heads=study.heads,
    )
    CLIPVisionModel(pair.vision_config(sizes)).save_pretrained(folder / "clip")
    dinov2 = Dinov2Config(
        hidden_size=study.width,
        num_hidden_layers=study.depth,
        num_attention_heads=study.heads,
        image_size=study.image_size,
        patch_size=study.patch,
    )
    Dinov2Model(dinov2).save_pretrained(folder / "dinov2")
    LlamaForCausalLM(pair.text_config(LANGUAGE)).save_pretrained(folder / "language")
    pair.tokenizer(LANGUAGE).save_pretrained(folder / "language")


def save_data(study: Study, folder: Path) -> None:
    """Save noise images with one short answer each."""
    random = np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for number in range(study.images):
        noise = random.integers(0, 256, (study.image_size, study.image_size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        talk = [
            {"from": "human", "value": "<image>\nw1 w2"},
            {"from": "gpt", "value": f"w{number}"},
        ]
        rows.append({"id": str(number), "image": f"{number}.png", "conversations": talk})
    (folder / "train.json").write_text(json.dumps(rows))


def arms(study: Study, parts: Path, folder: Path) -> dict[str, Recipe]:
    """The recipes of the six arms."""

    def encoder(name: str, levels: Any) -> dict[str, Any]:
        return {"name": name, "family": name, "checkpoint": str(parts / name), "levels": levels}

    # levels as COMM merges them: all of CLIP's, the deepest quarter of DINOv2's
    last, every = [study.depth], f"1-{study.depth}"
    quarter = list(range(study.depth - max(1, study.depth // 4) + 1, study.depth + 1))
    comm = {"name": "comm", "merge_patches": 2}
    blocks: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
        "clip": ([encoder("clip", last)], {"name": "single", "merge_patches": 2}),
        "clip-merged": ([encoder("clip", every)], comm),
        "dinov2": ([encoder("dinov2", last)], {"name": "single", "merge_patches": 2}),
        "dinov2-merged": ([encoder("dinov2", quarter)], comm),
        "concat": (
            [encoder("clip", last), encoder("dinov2", last)],
            {"name": "concat", "projector": "mlp2x", "merge_patches": 2},
        ),
        "comm": ([encoder("clip", every), encoder("dinov2", quarter)], comm),
    }
    return {name: _recipe(name, study, parts, folder, *block) for name, block in blocks.items()}


def _recipe(
    name: str,
    study: Study,
    parts: Path,
    folder: Path,
    encoders: list[dict[str, Any]],
    fusion: dict[str, Any],
) -> Recipe:
    content = {
        "name": name,
        "model": {
            "encoders": encoders,
            "fusion": fusion,
            "bridge": {"name": "placeholder", "start_end": True},
            "language": {"checkpoint": str(parts / "language")},
            "prompt_style": "vicuna_v1.1",
        },
        "training": {
            "per_device_train_batch_size": study.batch,
            "max_steps": study.steps,
            "save_steps": study.steps,
            "logging_steps": 1,
            "report_to": "none",
        },
        "stages": [
            {
                "name": "align",
                "train": {"fusion": True, "bridge": True},
                "data": [{"path": "train.json"}],
            }
        ],
    }
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(content))
    return load_recipe(path)


def runner(
    recipes: Mapping[str, Recipe], data: Path, folder: Path, *, shared: bool
) -> Callable[[], Clock]:
    """Return a function that trains all arms from nothing and times them together."""

    def run() -> Clock:
        shutil.rmtree(folder, ignore_errors=True)
        with measured() as clock:
            for name, recipe in recipes.items():
                train(
                    recipe,
                    folder / name,
                    data_dir=data,
                    features_dir=folder / "features",
                    features_gb=50.0 if shared else None,
                    progress=lambda stage, done, total: None,
                )
        return clock

    return run


def check_equal(recipes: Mapping[str, Recipe], folder: Path) -> float:
    """Return the largest difference between the losses of an arm trained both ways.

    Raises:
        AssertionError: the two ways do not train the same.
    """
    gaps = []
    for name in recipes:
        losses = [
            json.loads((folder / way / name / "results.json").read_text())["stages"][0]["loss"]
            for way in ("every", "shared")
        ]
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-3)
        gaps.append(abs(losses[0] - losses[1]))
    return max(gaps)


def main() -> None:
    """Measure and print."""
    parser = arguments(str(__doc__).partition("\n")[0])
    parser.add_argument("--depth", type=int, default=None, help="blocks of each encoder")
    parser.add_argument("--images", type=int, default=None, help="images, seen by every arm")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    logging.getLogger("manyeyes").setLevel(logging.ERROR)
    study = QUICK if options.quick else FULL
    given = {key: getattr(options, key) for key in ("depth", "images") if getattr(options, key)}
    study = replace(study, **given)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_parts(study, folder / "parts")
        save_data(study, folder / "data")
        recipes = arms(study, folder / "parts", folder)
        ways = {EVERY: ("every", False), SHARED: ("shared", True)}
        runners = {
            title: runner(recipes, folder / "data", folder / way, shared=shared)
            for title, (way, shared) in ways.items()
        }
        series = interleave(runners, len(recipes), options.rounds or (1 if options.quick else 2))
        gap = check_equal(recipes, folder)
        stored = sum(p.stat().st_size for p in (folder / "shared").glob("features/*/*.bin"))
    ratios = {f"{SHARED} / {EVERY}": ratio(series[EVERY], series[SHARED])}
    extra = {"study": str(study), "store, GB": stored / GB, "largest difference of losses": gap}
    show("six arms", series, ratios, "arms/s", as_json=options.json, extra=extra)


if __name__ == "__main__":
    main()

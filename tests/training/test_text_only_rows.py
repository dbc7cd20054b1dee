"""Rows without any image among rows with one: stored features, whole batches, evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.recipes import Recipe
from manyeyes.training import train
from training_runs import largest_difference, losses

pytestmark = pytest.mark.long

MakeRecipe = Callable[..., Recipe]
STORED = ("stages.0.cache_features=true", "stages.1.cache_features=true")


def save_rows(folder: Path, name: str, text_rows: int, image_rows: int) -> str:
    """Write text-only rows in front of rows with an image; return the ``--set`` of both stages."""
    rows = json.loads((folder / "train.json").read_text())[:image_rows]
    text = [
        {
            "id": f"t{index}",
            "conversations": [
                {"from": "human", "value": f"Why {index}?"},
                {"from": "gpt", "value": "Because."},
            ],
        }
        for index in range(text_rows)
    ]
    (folder / name).write_text(json.dumps(text + rows))
    return f"[{{path: {name}}}]"


@pytest.mark.parametrize(("text_rows", "image_rows"), [(1, 11), (7, 5), (8, 0)])
def test_text_only_rows_train_alike_with_and_without_stored_features(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path, text_rows: int, image_rows: int
) -> None:
    """Few, more than fill a batch, and nothing else: losses and weights are the same."""
    rows = save_rows(data, f"text-{text_rows}.json", text_rows, image_rows)
    source = (f"stages.0.data={rows}", f"stages.1.data={rows}")
    train(make_recipe(*source), tmp_path / "plain", data_dir=data)
    train(make_recipe(*source, *STORED), tmp_path / "stored", data_dir=data)
    train(
        make_recipe(*source),
        tmp_path / "shared",
        data_dir=data,
        features_dir=tmp_path / "features",
        features_gb=1.0,
    )
    for other in ("stored", "shared"):
        assert largest_difference(tmp_path / "plain/model", tmp_path / other / "model") < 1e-5
        for stage in ("align", "instruct"):
            told = losses(tmp_path / other / stage)
            assert told == pytest.approx(losses(tmp_path / "plain" / stage), abs=1e-5)
            assert all(math.isfinite(loss) for loss in told)


def test_what_text_only_rows_trained_is_evaluated_with_and_without_images(
    make_recipe: MakeRecipe, data: Path, tmp_path: Path
) -> None:
    rows = save_rows(data, "text.json", 6, 6)
    recipe = make_recipe(f"stages.0.data={rows}", f"stages.1.data={rows}", *STORED)
    folder = train(recipe, tmp_path / "out", data_dir=data).model_dir
    model = ManyEyesForConditionalGeneration.from_pretrained(folder)
    predictor = ModelPredictor(model, ManyEyesProcessor.from_pretrained(folder))
    items = [
        Item(str(n), str(data / f"{n}.png"), "What is it?", ("a cube",), str(n)) for n in range(3)
    ]
    assert len(predictor.answer(items, with_images=True)) == 3
    assert len(set(predictor.answer(items, with_images=False))) == 1

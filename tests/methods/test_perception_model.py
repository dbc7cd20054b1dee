"""Detected objects in the prompts of a whole model: training rows, answers, refinement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DetrForObjectDetection

import tiny
import tiny_detector
from cli_runs import invoke, the_object
from manyeyes import ManyEyesConfig, ManyEyesProcessor
from manyeyes.data.annotations.objects import ObjectTable
from manyeyes.data.mixture import Mixture
from manyeyes.errors import DataError, PartError, RecipeError, UsageError
from manyeyes.images.reading import load_image
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.inference.perceived import PerceivedImages, objects_in_data
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.perception.refinement import MergeWeights
from manyeyes.recipes import load_recipe
from manyeyes.records import Detection, Perceived, Sample, Turn
from manyeyes.serving.chat import Conversation
from manyeyes.serving.detection import ModelWithDetector
from manyeyes.serving.refinement import name_probability, rewrite_objects, token_ends
from manyeyes.training import train
from manyeyes.training.build import text_augmentation
from manyeyes.training.precomputed.encoder_store import StorePlace
from manyeyes.training.precomputed.features import cached_dataset
from training_runs import recipe_data, write_recipe
from whole_model import Build, Built, Pictures

pytestmark = pytest.mark.long

LOW: dict[str, Any] = {"min_score": 0.0, "drop_objects": 0.5, "drop_text": 0.2}
RED = Detection("red", (0.0, 0.0, 8.0, 8.0), 0.9)
WRITTEN = "Detected objects: red [0.000,0.000,0.500,0.500] 0.90"


def block(parts: Path, **changes: Any) -> dict[str, Any]:
    return {**tiny_detector.block(parts), "perception_text": LOW, "box_style": "lion", **changes}


@pytest.fixture
def make(build: Build, parts: Path) -> Any:
    """Build a model that writes what its detector finds."""

    def made(**changes: Any) -> Built:
        model, processor = build(**block(parts, **changes))
        if hasattr(model.bridge, "gates"):
            with torch.no_grad():
                model.bridge.gates.fill_(0.5)
        return model, processor

    return made


def saved(built: Built, folder: Path) -> Path:
    model, processor = built
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def beside_comm(parts: Path) -> dict[str, Any]:
    """COMM's tokens for the fusion, and a detector that only writes text."""
    comm = tiny.model_block(parts)
    detector = tiny_detector.block(parts)["encoders"][1]
    only_text = {**detector, "fused": False}
    return {**comm, "encoders": [*comm["encoders"], only_text]}


def sample(objects: Any, answer: str = "yes") -> Sample:
    turns = (Turn("user", "<image>\nIs it red?"), Turn("assistant", answer))
    return Sample("s", ("x",), turns, objects=objects)


def test_a_training_row_holds_the_text_and_supervises_the_answer_alone(
    make: Any, pictures: Pictures
) -> None:
    _, processor = make()
    row = processor.encode(sample(((RED,),)), pictures[:1])
    text = processor.tokenizer.decode(row["input_ids"])
    assert f"{WRITTEN}\nIs it red?" in text
    assert processor.tokenizer.decode(row["labels"][row["labels"] >= 0]) == " yes</s>"
    bare = processor.encode(sample(None), pictures[:1])
    assert "Detected" not in processor.tokenizer.decode(bare["input_ids"])
    none = processor.encode(sample(((),)), pictures[:1])
    assert "Detected objects: none\n" in processor.tokenizer.decode(none["input_ids"])
    with pytest.raises(DataError, match=r"detected objects of 2 for 1 image\(s\)"):
        processor.encode(sample(((), ())), pictures[:1])


def test_mr_mllm_check_21_a_text_only_sample_beside_perception_text(
    make: Any, pictures: Pictures
) -> None:
    model, processor = make()
    asked = [Turn("user", "<image>\nand this?")]
    seen = processor.prompt(asked, image_sizes=[(16, 16)], perceived=Perceived(objects=((RED,),)))
    plain = processor.prompt([Turn("user", "hello")], perceived=Perceived(objects=()))
    assert WRITTEN in seen and "Detected" not in plain
    inputs = processor.answer_inputs([plain, seen], pictures[:1])
    kept = inputs["attention_mask"].bool()
    with torch.no_grad():
        mixed = model(**inputs).logits
        alone = model(**processor.answer_inputs([plain])).logits
    torch.testing.assert_close(mixed[0][kept[0]], alone[0], rtol=1e-5, atol=1e-5)


def test_mr_mllm_check_26_the_options_travel_with_the_checkpoint(make: Any, tmp_path: Path) -> None:
    folder = saved(make(perception_text={**LOW, "max_tokens": 60}), tmp_path / "m")
    again = ManyEyesProcessor.from_pretrained(folder)
    asked = [Turn("user", "<image>\nWhat?")]
    many = tuple(replace(RED, box=(0.0, 0.0, 8.0, float(n))) for n in range(1, 9))
    text = again.prompt(asked, image_sizes=[(16, 16)], perceived=Perceived(objects=(many,)))
    assert text.count("red [") == 1
    assert ManyEyesConfig.from_pretrained(folder).perception_text == {**LOW, "max_tokens": 60}


def test_training_varies_the_text_with_and_without_stored_features(
    build: Build, parts: Path, tmp_path: Path
) -> None:
    model, processor = build(**{**beside_comm(parts), "perception_text": LOW})
    data = tiny.save_data(tmp_path / "d", samples=2)
    blue = replace(RED, label="blue")
    samples = [
        replace(sample(((RED, blue),)), id=str(n), images=(str(data / f"{n}.png"),))
        for n in range(2)
    ]
    mixture = Mixture([samples])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("encoders."))
    augment = text_augmentation(processor)
    cached = cached_dataset(
        mixture,
        model,
        processor,
        StorePlace(tmp_path / "f", 1.0),
        dtype=torch.float32,
        device=torch.device("cpu"),
        augment=augment,
        seed=3,
    )
    assert cached is not None
    texts = [processor.tokenizer.decode(cached[2 * e]["input_ids"]) for e in range(40)]
    counts = [text.count("] 0.90") if "Detected" in text else -1 for text in texts]
    assert set(counts) == {-1, 0, 1, 2}
    assert texts == [processor.tokenizer.decode(cached[2 * e]["input_ids"]) for e in range(40)]
    assert {key for key in cached[0] if key.startswith(("pixel", "features"))} == {
        "features_clip",
        "features_dinov2",
    }


def test_a_detector_beside_the_fusion_writes_text_alone(
    build: Build, parts: Path, pictures: Pictures
) -> None:
    model, processor = build(**{**beside_comm(parts), "perception_text": LOW})
    row = processor.encode(sample(((RED,),)), pictures[:1])
    assert {key for key in row if key.startswith("pixel")} == {
        "pixel_values_clip",
        "pixel_values_dinov2",
    }
    model.train()
    model(**processor.collate([row])).loss.backward()
    bundle = model.encode(**processor.pixels(pictures[:2]))
    sizes = [picture.size for picture in pictures[:2]]
    found = processor.perception.read(bundle, sizes)
    assert found is not None and all(0 < len(objects) <= 4 for objects in found)
    with pytest.raises(PartError, match="reads patch features, but encoder 'detector'"):
        fused = beside_comm(parts)
        fused["encoders"][-1].pop("fused")
        build(**fused)


def test_the_model_answers_with_its_own_detectors_objects(
    make: Any, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = make()
    path = tmp_path / "a.png"
    pictures[0].save(path)
    item = Item("1", str(path), "Is it?", (), "1", candidates=("yes", "no"))
    look = EncodedImages(model, processor, [load_image(str(path))])
    assert look.objects is not None and look.labels == tiny_detector.LABELS
    perceived = Perceived(objects=look.objects)
    expected = processor.prompt(
        [Turn("user", "<image>\nIs it?")], image_sizes=look.sizes, perceived=perceived
    )
    asked: list[str] = []
    answer_inputs = processor.answer_inputs

    def noted(prompts: Any, *args: Any, **kwargs: Any) -> Any:
        asked.extend(prompts)
        return answer_inputs(prompts, *args, **kwargs)

    monkeypatch.setattr(processor, "answer_inputs", noted)
    limit = {"short": 3}
    predictor = ModelPredictor(model, processor, max_new_tokens=limit)  # type: ignore[arg-type]
    predictor.answer([item], with_images=True)
    predictor.answer([item], with_images=False)
    oracle = ModelPredictor(
        model,
        processor,
        max_new_tokens=limit,  # type: ignore[arg-type]
        perceived=PerceivedImages(objects=ObjectTable({str(path): (RED,)}, "truth.json")),
    )
    oracle.answer([item], with_images=True)
    talk = Conversation(model, processor, max_new_tokens=3)
    talk.show(path)
    talk.ask("Is it?")
    assert asked[0] == asked[3] == expected and "Detected objects: " in expected
    assert "Detected" not in asked[1] and WRITTEN in asked[2]
    assert oracle.generation["objects"]["file"] == "truth.json"
    assert oracle.fingerprint != predictor.fingerprint
    ranked = predictor.rank([item], with_images=True), oracle.rank([item], with_images=True)
    assert ranked[0] != ranked[1]


def test_mr_mllm_check_03_refinement_by_text_keeps_the_list_at_zero(
    make: Any, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = make()
    paths = []
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
        paths.append(str(tmp_path / f"{number}.png"))
    plain = ModelWithDetector(model, processor, max_new_tokens=12).find(paths)
    zero = ModelWithDetector(model, processor, weights=MergeWeights(), max_new_tokens=12)
    for before, after in zip(plain, zero.find(paths), strict=True):
        assert before.refined is None and after.refined is not None and after.written is not None
        assert after.refined.objects == before.objects == after.objects
        assert after.written.text
    full = MergeWeights(gamma=1.0, drop=1.0, add=1.0)
    (first, *_) = ModelWithDetector(model, processor, weights=full, max_new_tokens=4).find(paths)
    assert first.refined is not None and {o.score for o in first.refined.objects} == {0.0}


def test_a_generated_name_scores_its_mean_probability(make: Any, pictures: Pictures) -> None:
    _, processor = make()
    tokens = processor.tokenizer(" red cat [", return_tensors="pt", add_special_tokens=False)
    text, ends = token_ends(processor.tokenizer, tokens["input_ids"][0])
    assert text == " red cat [" and ends == list(range(1, 11))
    shares = [0.0, 0.2, 0.4, 0.6, *[0.8] * 4, 0.0, 0.0]
    assert name_probability((1, 4), ends, shares) == pytest.approx(0.4)
    assert name_probability((5, 8), ends, shares) == pytest.approx(0.8)


def test_a_list_that_the_model_writes_is_read_with_its_probabilities(
    make: Any, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = make()
    pictures[0].save(tmp_path / "a.png")
    look = EncodedImages(model, processor, [load_image(str(tmp_path / "a.png"))])
    says = "blue [0.000,0.000,0.500,0.500]; zebra [0.100,0.100,0.200,0.200]; red [1"
    ids = processor.tokenizer(says, return_tensors="pt", add_special_tokens=False)["input_ids"]

    def generate(**inputs: Any) -> Any:
        scores = torch.full((ids.shape[1], 1, len(processor.tokenizer)), -1e4)
        scores.scatter_(2, ids.T[:, None], 0.0)
        sequences = torch.cat([inputs["input_ids"], ids], dim=1)
        return type("Result", (), {"sequences": sequences, "scores": tuple(scores)})()

    monkeypatch.setattr(model, "generate", generate)
    (written,) = rewrite_objects(model, processor, look, [(RED,)])
    assert [o.label for o in written.objects] == ["blue", "zebra"]
    assert [o.score for o in written.objects] == [1.0, 1.0]
    assert written.malformed == ("red [1",) and written.text == says


def test_refinement_needs_a_model_that_reads_objects(make: Any, pictures: Pictures) -> None:
    model, processor = make(perception_text=None)
    with pytest.raises(UsageError, match="needs a model that reads detected objects"):
        rewrite_objects(model, processor, Any, [])  # type: ignore[arg-type]


def instances(folder: Path, count: int = 8) -> Path:
    """COCO instances of the tiny data's pictures: one object per picture, of the first class."""
    content = {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 16, "height": 16} for n in range(count)
        ],
        "categories": [{"id": 7, "name": "red"}, {"id": 9, "name": "blue"}],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 7, "bbox": [n, 0, 4, 5]} for n in range(count)
        ],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("source", [{}, "instances.json", {"use": "empty"}])
def test_a_stage_trains_with_objects_of_its_sources(
    parts: Path, tmp_path: Path, source: Any
) -> None:
    data = tiny.save_data(tmp_path / "d")
    instances(data)
    (stage, *_) = recipe_data(parts)["stages"]
    stage = {
        **stage,
        "train": {"fusion": True, "bridge": True},
        "data": [
            {"path": "train.json", "objects": source},
            {"path": "instances.json", "objects": "instances.json", "refine": True},
        ],
        "training": {"max_steps": 2},
    }
    recipe = recipe_data(parts, model={**tiny.model_block(parts), **block(parts)}, stages=[stage])
    found = load_recipe(str(write_recipe(tmp_path / "r.yaml", recipe)))
    train(found, tmp_path / "out", data_dir=data)
    kept = list((tmp_path / "out" / "features" / "objects").glob("*.json"))
    assert len(kept) == (0 if source == "instances.json" else 1)
    if kept:
        assert len(json.loads(kept[0].read_text())["images"]) == 8
        picture = min(data.glob("*.png"))
        Image.new("RGB", (16, 16), "red").save(picture)
        features = tmp_path / "out" / "features"
        train(found, tmp_path / "again", data_dir=data, features_dir=features)
        assert len(list((features / "objects").glob("*.json"))) == 2  # looked at anew


def test_a_trained_detector_cannot_look_before_the_stage(parts: Path, tmp_path: Path) -> None:
    data = tiny.save_data(tmp_path / "d")
    (stage, *_) = recipe_data(parts)["stages"]
    stage = {**stage, "train": {"encoders": True}, "data": [{"path": "train.json", "objects": {}}]}
    recipe = recipe_data(parts, model={**tiny.model_block(parts), **block(parts)}, stages=[stage])
    found = load_recipe(str(write_recipe(tmp_path / "r.yaml", recipe)))
    with pytest.raises(RecipeError, match="detector 'detector' is trained"):
        train(found, tmp_path / "out", data_dir=data)


def test_detect_prints_coco_results_and_draws_them(make: Any, tmp_path: Path) -> None:
    folder = saved(make(), tmp_path / "m")
    data = tiny.save_data(tmp_path / "d", samples=3)
    result = invoke("detect", folder, data / "0.png", "--json", "--min-score", "0")
    assert result.exit_code == 0, result.stderr
    (entry,) = the_object(result)["images"]
    assert entry["file_name"] == "0.png" and (entry["width"], entry["height"]) == (16, 16)
    assert entry["detector"] == entry["refined"] and entry["detector"]
    for row in entry["detector"]:
        assert row["category"] in tiny_detector.LABELS
        assert row["category_id"] == tiny_detector.LABELS.index(row["category"])
        assert 0 <= row["score"] <= 1 and len(row["bbox"]) == 4
    drawings = entry["drawings"]
    assert set(drawings) == {"detector", "refined"}
    for path in drawings.values():
        with Image.open(path) as drawing:
            assert drawing.format == "PNG" and Path(path).parent == data
    plain = invoke("detect", folder, data / "1.png", "--no-refine", "--draw", tmp_path / "p")
    assert plain.exit_code == 0 and "refined" not in plain.stdout
    assert (tmp_path / "p" / "1-detector.png").is_file()


def test_detect_takes_a_detectors_own_checkpoint(parts: Path, tmp_path: Path) -> None:
    alone = tiny_detector.save_detector(tmp_path / "detr")
    data = tiny.save_data(tmp_path / "d", samples=2)
    result = invoke("detect", alone, data, "--json", "--min-score", "0", "--draw", tmp_path / "p")
    assert result.exit_code == 0, result.stderr
    found = the_object(result)
    assert found["categories"] == [{"id": 0, "name": "red"}, {"id": 1, "name": "blue"}]
    assert [entry["file_name"] for entry in found["images"]] == ["0.png", "1.png"]
    assert all("refined" not in entry for entry in found["images"])
    model = DetrForObjectDetection.from_pretrained(alone).eval()
    with torch.no_grad():
        square = Image.open(data / "0.png").resize((32, 32), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        output = model(pixel_values=((pixels - mean[:, None, None]) / std[:, None, None])[None])
    scores = output.logits.softmax(-1)[0, :, :-1].max(-1).values.sort(descending=True).values
    printed = [row["score"] for row in found["images"][0]["detector"]]
    assert printed == [pytest.approx(float(score), abs=1e-4) for score in scores]


def test_refinement_in_the_features_comes_before_the_text(
    make: Any, pictures: Pictures, tmp_path: Path
) -> None:
    fusion = {**tiny_detector.block(tmp_path)["fusion"], "refine": True}
    model, processor = make(fusion=fusion, perception_text=None)
    pictures[0].save(tmp_path / "a.png")
    finder = ModelWithDetector(model, processor, weights=MergeWeights())
    (zero,) = finder.find([str(tmp_path / "a.png")])
    assert zero.refined is not None and zero.refined.objects == zero.objects
    with torch.no_grad():
        model.fusion.refiner.gate.fill_(1.0)
    (moved,) = finder.find([str(tmp_path / "a.png")])
    assert moved.refined is not None and moved.written is None
    assert moved.objects == zero.objects != moved.refined.objects


def test_detect_writes_files_for_training_and_for_scoring(make: Any, tmp_path: Path) -> None:
    folder = saved(make(), tmp_path / "m")
    data = tiny.save_data(tmp_path / "d", samples=3)
    out = tmp_path / "objects.json"
    common = ["detect", folder, "--data", instances(data, 3), "--min-score", 0, "--no-refine"]
    result = invoke(*common, "--out", out, "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(out.read_text())
    assert [image["id"] for image in content["images"]] == [0, 1, 2]
    assert {c["name"]: c["id"] for c in content["categories"]} == {"red": 7, "blue": 9}
    assert {row["category_id"] for row in content["annotations"]} <= {7, 9}
    assert not list(data.glob("*-detector.png"))
    asked = ["score", "coco-detection", "--predictions", out, "--annotations", instances(data, 3)]
    scored = invoke(*asked, "--json")
    assert scored.exit_code == 0, scored.stderr
    assert "AP" in the_object(scored)["metrics"]
    before = out.read_bytes()
    for words in (("--out", out), ("--out", tmp_path / "n", "--out-refined", tmp_path / "n")):
        refused = invoke(*common, *words)
        assert refused.exit_code == 2 and "choose a" in refused.stderr
    assert out.read_bytes() == before
    refused = invoke(*common, "--out-refined", tmp_path / "r.json")
    assert refused.exit_code == 2 and "nothing is refined" in refused.stderr


def test_evaluated_images_show_what_a_file_says(make: Any, tmp_path: Path) -> None:
    data = tiny.save_data(tmp_path / "d", samples=2)
    file = instances(data, 2)
    paths = [str(data / "images" / f"{place}.png") for place in range(2)]

    processor = make()[1]

    def told(file: Path | None = None, use: str = "given") -> Any:
        return objects_in_data(processor, data, "val", file=file, use=use)

    assert told() is None
    assert told(file)[paths[1]][0].box == (1.0, 0.0, 5.0, 5.0)
    assert set(told(file, "empty").values()) == {()}
    named = file.rename(file.with_name("objects_val.json"))
    recipe = make(perception_text={"file": "objects_{split}.json", "use": "shuffled"})[1]
    moved = objects_in_data(recipe, data, "val")
    given = objects_in_data(recipe, data, "val", file=named)
    assert moved is not None and given is not None
    assert moved[paths[0]] == given[paths[1]] != given[paths[0]]
    with pytest.raises(UsageError, match="did you mean 'shuffled'"):
        told(named, "shuffld")


def test_only_models_that_write_objects_are_told(make: Any, tmp_path: Path) -> None:
    data = tiny.save_data(tmp_path / "d", samples=2)
    plain = saved(make(perception_text=None), tmp_path / "m")
    refused = invoke(
        "evaluate", plain, "-b", "pope", "--data", data, "--objects", instances(data, 2)
    )
    assert refused.exit_code == 2 and "writes no detected objects" in refused.stderr


def test_detect_says_what_is_wrong(make: Any, parts: Path, tmp_path: Path) -> None:
    folder = saved(make(), tmp_path / "m")
    data = tiny.save_data(tmp_path / "d", samples=1)
    (tmp_path / "empty").mkdir()
    other = json.loads(instances(data, 1).read_text())
    other["categories"][1]["name"] = "green"
    (data / "other.json").write_text(json.dumps(other))
    for words, message in (
        ((folder,), "give either images"),
        ((folder, data / "x.png"), "no such image or folder"),
        ((folder, tmp_path / "empty"), "holds no image"),
        ((folder, "--data", data / "other.json"), "the detector knows blue, which"),
        ((parts / "clip", data / "0.png"), "neither a manyeyes model nor a detector"),
    ):
        result = invoke("detect", *words)
        assert result.exit_code in (1, 2) and message in " ".join(result.stderr.split()), words

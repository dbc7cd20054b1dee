"""MR-MLLM's detector side as a whole: targets, stored objects, refinement, bad input."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_detector
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.errors import CheckpointError, DataError, PartError
from manyeyes.model.intermediates import LANGUAGE
from manyeyes.records import REFINED, Sample, Turn
from whole_model import Build, Built, Pictures, freeze, prompts

FROZEN = ("encoders.", "language_model.")
BOTH = [*LANGUAGE, "detection_loss"]


@pytest.fixture
def make(build: Build, parts: Path) -> Any:
    """Build a model that refines its detector's objects."""

    def made(*, gate: float = 0.0, refiner: float = 0.0, **fusion: Any) -> Built:
        model, processor = build(**tiny_detector.block(parts, **{"refine": True, **fusion}))
        with torch.no_grad():
            model.bridge.gates.fill_(gate)
            if model.fusion.plan.refines:
                model.fusion.refiner.gate.fill_(refiner)
        freeze(model, *FROZEN)
        return model, processor

    return made


def asked(text: str = "objects?", images: int = 1) -> tuple[Turn, Turn]:
    return Turn("user", "<image>" * images + text), Turn("assistant", "some")


def marked(name: str, *boxes: tuple[str, tuple[float, float, float, float]]) -> Sample:
    labels, corners = tuple(label for label, _ in boxes), tuple(box for _, box in boxes)
    meta = {"labels": labels, "boxes": corners, "crowd": (False,) * len(boxes)}
    return Sample(name, ("x",), asked(), "detection", meta)


ONE = marked("one", ("red", (1.0, 1.0, 8.0, 9.0)))
TWO = marked("two", ("red", (1.0, 1.0, 8.0, 9.0)), ("blue", (4.0, 2.0, 15.0, 9.0)))
NONE = marked("none")
PLAIN = Sample("plain", ("x",), asked("what?"))
PAIR = Sample("pair", ("x", "y"), asked("both?", images=2))
TEXT = Sample("text", (), asked("hello?", images=0))


def collated(processor: ManyEyesProcessor, pictures: Pictures, *samples: Sample) -> Any:
    left = cycle(pictures)
    return processor.collate(
        [processor.encode(sample, [next(left) for _ in sample.images]) for sample in samples]
    )


def test_mr_mllm_check_23_empty_plain_paired_and_text_only_samples_train_together(
    make: Any, pictures: Pictures
) -> None:
    model, processor = make(gate=0.1, refiner=0.1)
    rows = collated(processor, pictures, NONE, TWO, TEXT, PAIR, PLAIN)
    assert rows["target_counts"].tolist() == [0, 2, -1, -1, -1]
    assert rows["target_boxes"].shape == (5, 2, 4)
    model.train()
    output = model(**rows, wanted=BOTH)
    (output.loss + output.trace["detection_loss"]).backward()
    learning = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in learning)
    alone = model(**collated(processor, pictures, NONE, TWO), wanted=["detection_loss"])
    torch.testing.assert_close(alone.trace["detection_loss"], output.trace["detection_loss"])


def test_batches_without_marked_objects_cost_nothing(make: Any, pictures: Pictures) -> None:
    model, processor = make(refiner=0.1)
    model.train()
    for samples in ((PLAIN, PAIR), (TEXT,)):
        output = model(**collated(processor, pictures, *samples), wanted=BOTH)
        assert float(output.trace["detection_loss"].detach()) == 0.0
        (output.loss + output.trace["detection_loss"]).backward()
        assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_detection_alone_leaves_the_language_model_out(make: Any, pictures: Pictures) -> None:
    model, processor = make(refiner=0.1)
    output = model(**collated(processor, pictures, ONE), wanted=["detection_loss"])
    assert output.logits is None and float(output.trace["detection_loss"].detach()) > 0


@torch.no_grad()
def test_stored_objects_are_refined_alike(make: Any, pictures: Pictures) -> None:
    model, processor = make(gate=0.3, refiner=0.5)
    rows = collated(processor, pictures, ONE, TWO)
    features = model.encode(**{k: v for k, v in rows.items() if k.startswith("pixel")})
    stored = {k: v for k, v in rows.items() if not k.startswith("pixel")}
    for name, encoder in model.encoders.items():
        stored[f"features_{name}"] = encoder.pack(features[name])
    plain, kept = model(**rows, wanted=BOTH), model(**stored, wanted=BOTH)
    assert torch.equal(plain.loss, kept.loss)
    assert torch.equal(plain.trace["detection_loss"], kept.trace["detection_loss"])


def test_a_saved_model_refines_alike_and_its_processor_makes_targets(
    make: Any, pictures: Pictures, tmp_path: Path
) -> None:
    model, processor = make(refiner=0.5)
    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = ManyEyesForConditionalGeneration.from_pretrained(tmp_path)
    own = ManyEyesProcessor.from_pretrained(tmp_path)
    assert own.target_labels == list(tiny_detector.LABELS)
    row, other = (p.encode(TWO, pictures[:1]) for p in (processor, own))
    assert row.keys() == other.keys() and all(torch.equal(row[key], other[key]) for key in row)
    visual = processor.pixels(pictures[:2])
    with torch.no_grad():
        (_, one), (_, two) = model.detect(**visual), again.detect(**visual)
    assert torch.equal(one.logits, two.logits) and torch.equal(one.boxes, two.boxes)


def test_another_detector_than_the_trained_one_is_refused(
    make: Any, tmp_path: Path, parts: Path
) -> None:
    model, _ = make()
    model.save_pretrained(tmp_path / "m")
    config = model.config
    other = tiny_detector.save_detector(tmp_path / "other", seed=9)
    config.references["encoders.detector.backbone"]["checkpoint"] = str(other)
    with pytest.raises(CheckpointError, match="is not the checkpoint this model was trained with"):
        ManyEyesForConditionalGeneration.from_pretrained(tmp_path / "m", config=config)


def test_a_detector_of_other_labels_than_the_recipe_counts_on_is_refused(
    build: Build, parts: Path, tmp_path: Path
) -> None:
    block = tiny_detector.block(parts)
    three = tiny_detector.save_detector(tmp_path / "three", labels=("red", "green", "blue"))
    block["encoders"][1] |= {"checkpoint": str(three), "labels": list(tiny_detector.LABELS)}
    with pytest.raises(PartError, match=r"counts on the labels red, blue, but .* red, green, blue"):
        build(**block)


def test_a_declared_number_of_classes_must_be_the_checkpoints(build: Build, parts: Path) -> None:
    block = tiny_detector.block(parts)
    block["encoders"][1]["backbone"] = tiny_detector.config(("red", "green", "blue")).to_dict()
    with pytest.raises(
        CheckpointError, match=r"weights of other sizes .* another number of classes"
    ):
        build(**block)


def test_a_class_that_the_detector_lacks_is_named(make: Any, pictures: Pictures) -> None:
    _, processor = make()
    wrong = marked("odd", ("bleu", (1.0, 1.0, 8.0, 9.0)))
    with pytest.raises(DataError, match=r"sample 'odd': .* no class 'bleu' .*'blue'"):
        processor.encode(wrong, pictures[:1])


@torch.no_grad()
@pytest.mark.parametrize("objects", [0, 300])
def test_any_number_of_objects_is_read(make: Any, pictures: Pictures, objects: int) -> None:
    model, processor = make(gate=0.3, refiner=0.3, box_embed=True)
    bundle = dict(model.encode(**processor.pixels(pictures[:2])))
    found: Any = bundle["detector"]
    some = torch.randint(4, (objects,), generator=torch.Generator().manual_seed(0))
    bundle["detector"] = type(found)(
        found.queries[:, some], found.boxes[:, some], found.logits[:, some], found.labels, True
    )
    evidence = model.fusion(bundle)
    assert evidence.prompts.shape == (2, 1, 4, 32)
    assert bool(torch.isfinite(evidence.prompts).all())
    assert evidence.trace[REFINED].shape == (2, objects, tiny_detector.WIDTH)


def test_impossible_wishes_are_named(
    make: Any, pictures: Pictures, build: Build, parts: Path
) -> None:
    model, processor = make(refine=False)
    rows = collated(processor, pictures, ONE)
    assert "target_counts" not in rows
    found, refined = model.detect(**processor.pixels(pictures[:1]))
    assert found.boxes.shape == (1, tiny_detector.OBJECTS, 4) and refined is None
    with pytest.raises(PartError, match="the batch holds no targets"):
        model(**rows, wanted=BOTH)
    targets = {k: v for k, v in collated(make()[1], pictures, ONE).items() if "target" in k}
    with pytest.raises(PartError, match="detection needs a fusion that refines"):
        model(**rows, **targets, wanted=BOTH)
    scene, _ = build(**tiny_detector.block(parts, detector=False))
    with pytest.raises(PartError, match="no detector among its encoders"):
        scene.detect(pixel_values_clip=torch.zeros(1, 3, 16, 16))
    block = tiny_detector.block(parts, refine=True)
    block["encoders"][1]["object_source"] = "encoder"
    with pytest.raises(PartError, match=r"fusion.refine needs one descriptor per object"):
        build(**block)


def test_encoder_states_serve_as_objects(build: Build, parts: Path, pictures: Pictures) -> None:
    block = tiny_detector.block(parts)
    block["encoders"][1]["object_source"] = "encoder"
    model, processor = build(**block)
    inputs = processor.answer_inputs(prompts(processor, "what?"), pictures[:1])
    visual = {k: v for k, v in inputs.items() if k.startswith("pixel")}
    assert model.encode(**visual)["detector"].queries.shape == (1, 64, tiny_detector.WIDTH)
    assert bool(torch.isfinite(model(**inputs).logits).all())

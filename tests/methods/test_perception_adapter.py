"""Perception text in its second form: words about objects, pooled and read by shared queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tiny_detector
from manyeyes.errors import PartError
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.layers.pooled_text import pool_text
from manyeyes.records import PERCEPTION, Detection, Sample, TextFeatures, Turn
from manyeyes.serving.chat import Conversation
from whole_model import Build, Built, Pictures, freeze

RED = Detection("red", (0.0, 0.0, 8.0, 8.0), 0.9)
BLUE = Detection("a blue thing", (4.0, 4.0, 16.0, 12.0), 0.8)
ADAPTER = {"form": "adapter", "min_score": 0.0}


@pytest.fixture
def make(build: Build, parts: Path) -> Any:
    def made(*, detector: bool = True, **changes: Any) -> Built:
        block = tiny_detector.block(parts, detector=detector, text_depth=1)
        chosen = {"perception_text": ADAPTER, "box_style": "lion", **changes}
        model, processor = build(**{**block, **chosen})
        with torch.no_grad():
            model.bridge.gates.fill_(0.5)
        return model, processor

    return made


def row(processor: Any, picture: Any, objects: Any) -> dict[str, Tensor]:
    turns = (Turn("user", "<image>\nIs it red?"), Turn("assistant", "yes"))
    return processor.encode(Sample("s", ("x",), turns, objects=objects), [picture])


def test_the_mean_of_token_embeddings() -> None:
    table = torch.nn.Embedding(9, 4)
    ids = torch.tensor([[[1, 2, 3], [4, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    mask = torch.tensor([[[1, 1, 1], [1, 0, 0]], [[0, 0, 0], [0, 0, 0]]])
    found = pool_text(table, ids, mask)
    torch.testing.assert_close(found.vectors[0, 0], table.weight[1:4].mean(dim=0))
    torch.testing.assert_close(found.vectors[0, 1], table.weight[4])
    assert found.mask.tolist() == [[True, True], [False, False]]
    assert not found.vectors.requires_grad


def test_the_prompt_stays_and_each_object_is_one_text(make: Any, pictures: Pictures) -> None:
    _, processor = make()
    found = row(processor, pictures[0], ((RED, BLUE),))
    text = processor.tokenizer.decode(found["input_ids"])
    assert "Detected" not in text and "red [" not in text
    words = [
        processor.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(found["perception_ids"][0], found["perception_mask"][0], strict=True)
    ]
    assert words == [
        "red [0.000,0.000,0.500,0.500] 0.90",
        "a blue thing [0.250,0.250,1.000,0.750] 0.80",
    ]
    none = row(processor, pictures[0], ((),))
    assert processor.tokenizer.decode(none["perception_ids"][0, 0]) == "none"
    assert row(processor, pictures[0], None)["perception_ids"].shape == (1, 0, 0)


@torch.no_grad()
@pytest.mark.parametrize("detector", [True, False])
def test_samples_of_a_batch_read_their_own_objects(
    make: Any, pictures: Pictures, detector: bool
) -> None:
    model, processor = make(detector=detector)
    every = [((RED,),), ((BLUE, RED),), ((),), None]
    rows = [row(processor, pictures[0], objects) for objects in every]
    together = model(**processor.collate(rows)).logits.view(
        4, -1, model.config.text_config.vocab_size
    )
    alone = [model(**processor.collate([one])).logits for one in rows]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    for place in range(3):
        assert float((alone[place] - alone[place + 1]).abs().max()) > 1e-6
    batch = processor.collate(rows[3:])
    bare = {name: value for name, value in batch.items() if not name.startswith("perception")}
    torch.testing.assert_close(model(**bare).logits, alone[3])


def test_the_text_stream_learns_and_the_table_does_not(make: Any, pictures: Pictures) -> None:
    model, processor = make()
    freeze(model, "encoders.")
    model.train()
    model(**processor.collate([row(processor, pictures[0], ((RED,),))])).loss.backward()
    for name in ("text_proj", "text_blocks", "mlp_t"):
        found = [p.grad for n, p in model.named_parameters() if n.startswith(f"fusion.{name}")]
        assert found and all(g is not None and float(g.abs().sum()) > 0 for g in found), name
    model.zero_grad()
    model(**processor.collate([row(processor, pictures[0], None)])).loss.backward()
    found = [p.grad for n, p in model.named_parameters() if n.startswith("fusion.text_")]
    assert all(g is not None and float(g.abs().sum()) == 0 for g in found)


@torch.no_grad()
def test_answers_read_the_detectors_objects(
    make: Any, pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = make()
    pictures[0].save(tmp_path / "a.png")
    item = Item("1", str(tmp_path / "a.png"), "Is it?", (), "1")
    told: list[TextFeatures] = []
    forward = model.fusion.forward

    def noted(bundle: Any, question: Any = None) -> Any:
        told.append(bundle[PERCEPTION])
        return forward(bundle, question)

    monkeypatch.setattr(model.fusion, "forward", noted)
    ModelPredictor(model, processor, max_new_tokens={"short": 2}).answer([item], with_images=True)
    talk = Conversation(model, processor, max_new_tokens=2)
    talk.show(tmp_path / "a.png")
    talk.ask("Is it?")
    objects = processor.perception.read(model.encode(**processor.pixels(pictures[:1])), [(16, 16)])
    words = processor.perception.fusion_inputs(objects, [(16, 16)])
    inputs = processor.answer_inputs([processor.prompt([Turn("user", "<image>?")])], pictures[:1])
    model.generate(**inputs, **words, max_new_tokens=2)
    assert len(told) == 3
    for other in told[1:]:
        torch.testing.assert_close(other.vectors, told[0].vectors)
        assert torch.equal(other.mask, told[0].mask) and bool(other.mask.any())


def test_form_and_fusion_must_fit(make: Any) -> None:
    for changes in (
        {"perception_text": {"form": "prompt"}},
        {"perception_text": None},
        {"fusion": {"name": "llama_adapter_v2", "queries": 4, "width": 16, "heads": 4}},
    ):
        with pytest.raises(PartError, match="'adapter' needs a fusion that reads it"):
            make(detector="fusion" not in changes, **changes)

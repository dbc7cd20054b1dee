"""Tags of evaluated images: looked up or found, and never confused with other tags' answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from manyeyes import ManyEyesForConditionalGeneration, ManyEyesProcessor
from manyeyes.encoders import parse_tagger
from manyeyes.errors import DataError, RecipeError, UsageError
from manyeyes.inference.perceived import (
    PerceivedImages,
    tags_from_file,
    tags_from_tagger,
    tags_in_data,
)
from manyeyes.inference.predictor import ModelPredictor
from manyeyes.inference.questions import Item
from manyeyes.inference.tagging import load_tagger

Built = tuple[ManyEyesForConditionalGeneration, ManyEyesProcessor]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tiny.save_data(tmp_path / "data", samples=3)
    lines = [{"image": f"{number}.png", "tags": [f"tag{number}"]} for number in range(3)]
    (folder / "tags.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def test_files_are_looked_up_shuffled_or_left_out(data: Path) -> None:
    paths = [str(data / f"{number}.png") for number in range(3)]
    given, shuffled, empty = (
        tags_from_file(data / "tags.jsonl", data, use)  # type: ignore[arg-type]
        for use in ("given", "shuffled", "empty")
    )
    own = [("tag0",), ("tag1",), ("tag2",)]
    assert [given.of(path) for path in paths] == own
    moved = [shuffled.of(path) for path in paths]
    assert sorted(moved) == own and all(a != b for a, b in zip(moved, own, strict=True))
    assert [empty.of(path) for path in paths] == [()] * 3
    assert len({given.identity, shuffled.identity, empty.identity}) == 3
    with pytest.raises(DataError, match=r"has no tags of .*9\.png"):
        given.of(str(data / "9.png"))


def test_the_tagger_sees_each_image_once(data: Path, tmp_path: Path) -> None:
    block = {"checkpoint": str(tiny.save_tagger(tmp_path / "tagger")), "threshold": 0.0}
    tagger = load_tagger(parse_tagger(block))
    calls = []
    tagger.register_forward_hook(lambda *_: calls.append(1))
    tags = tags_from_tagger(tagger)
    assert tags.of(str(data / "0.png")) == tags.of(str(data / "0.png")) == ("red", "green", "blue")
    assert len(calls) == 1
    other = load_tagger(parse_tagger({**block, "threshold": 0.5}))
    assert tags_from_tagger(other).identity != tags.identity


def test_answers_depend_on_the_tags(
    build: Callable[..., Built], parts: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = build(
        language={"checkpoint": str(parts / "t5")},
        prompt_style="plain",
        bridge={"name": "placeholder", "start_end": False, "tags": "soft"},
    )
    tags = tags_from_file(data / "tags.jsonl", data, "given")
    predictor = ModelPredictor(model, processor, perceived=PerceivedImages(tags))
    seen: list[str] = []
    whole = processor.answer_inputs
    monkeypatch.setattr(
        processor,
        "answer_inputs",
        lambda prompts, **rest: seen.extend(prompts) or whole(prompts, **rest),
    )
    items = [Item("q", str(data / "1.png"), "Why?", (), "1")]
    assert len(predictor.answer(items, with_images=True)) == 1
    assert "tags: [tag1]. Why?" in seen[0] and seen[0].startswith("<image>")
    predictor.answer(items, with_images=False)
    assert seen[1] == "Why?"
    ranked = [Item("r", str(data / "1.png"), "Why?", (), "1", candidates=("yes", "no"))]
    assert len(predictor.rank(ranked, with_images=True)[0]) == 2
    empty = ModelPredictor(
        model, processor, perceived=PerceivedImages(tags_from_file(None, data, "empty"))
    )
    assert empty.fingerprint != predictor.fingerprint
    with pytest.raises(DataError, match="manyeyes tag"):
        ModelPredictor(model, processor).answer(items, with_images=True)


def test_a_models_own_tags(
    build: Callable[..., Built], parts: Path, data: Path, tmp_path: Path
) -> None:
    def model(**changes: Any) -> ManyEyesForConditionalGeneration:
        bridge = {"name": "placeholder", "start_end": False, "tags": "soft"}
        language = {"checkpoint": str(parts / "t5")}
        return build(**{"language": language, "bridge": bridge, "prompt_style": "plain"} | changes)[
            0
        ]

    (data / "images").mkdir()
    for file in data.glob("*.png"):
        file.rename(data / "images" / file.name)
    (data / "tags.jsonl").rename(data / "test.jsonl")
    path = str(data / "images" / "1.png")
    from_file = {"family": "file", "checkpoint": "{split}.jsonl"}
    given = tags_in_data(model(tagger=from_file), data, "test")
    moved = tags_in_data(model(tagger={**from_file, "use": "shuffled"}), data, "test")
    assert given is not None and moved is not None
    assert given.of(path) == ("tag1",) != moved.of(path)
    asked = tags_in_data(model(tagger=from_file), data, "test", use="empty")
    assert asked is not None and asked.of(path) == ()
    block = {"checkpoint": str(tiny.save_tagger(tmp_path / "tagger")), "threshold": 0.0}
    found = tags_in_data(model(tagger=block), data, "test")
    assert found is not None and found.of(path) == ("red", "green", "blue")
    assert tags_in_data(build()[0], data, "test") is None
    with pytest.raises(UsageError, match="give their file with --tags"):
        tags_in_data(model(), data, "test")
    with pytest.raises(UsageError, match="is no tagger"):
        load_tagger(parse_tagger(from_file))
    with pytest.raises(RecipeError, match="'shuffled' is not one of 'given'"):
        parse_tagger({**block, "use": "shuffled"})

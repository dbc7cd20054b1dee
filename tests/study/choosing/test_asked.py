"""What a choice is asked about: encoders, pictures with texts, the language model's features."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import tiny_detector
from captioned import row, save_captioned
from manyeyes.checkpoints import hub
from manyeyes.errors import (
    CheckpointError,
    DataError,
    ImageError,
    PartError,
    RecipeError,
    UsageError,
)
from manyeyes.study.choosing.candidates import find_candidates
from manyeyes.study.choosing.pairs import read_pairs, world_files
from manyeyes.study.choosing.texts import mean_states, text_reader
from study_arms import write_recipe

CPU = torch.device("cpu")


def test_the_deepest_level_that_a_recipe_reads_is_taken(parts: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, parts, "clip+dinov2")
    found = find_candidates([recipe, f"clip={parts / 'clip'}"])
    levels = {(one.source == recipe, one.family): one.level for one in found.every}
    assert levels == {(True, "clip"): 3, (True, "dinov2"): 4, (False, "clip"): 2}
    assert found.language == str(parts / "llama")
    assert [one.name for one in found.every] == ["clip (clip+dinov2)", "dinov2", "clip (clip)"]
    last = find_candidates([recipe], level=-1)
    assert [one.level for one in last.every] == [3, 4]
    assert {one.geometry for one in last.every} == {"pad"} and last.every[0].grid == (4, 4)


def test_encoders_that_cannot_be_chosen(parts: Path, tmp_path: Path) -> None:
    clip, dinov2 = f"clip={parts / 'clip'}", f"dinov2={parts / 'dinov2'}"
    with pytest.raises(UsageError, match=r"one encoder twice .*clip, level 2\): leave one out"):
        find_candidates([clip, dinov2, clip])
    with pytest.raises(UsageError, match="at least two encoders"):
        find_candidates([clip])
    with pytest.raises(RecipeError, match="did you mean 'dinov2'"):
        find_candidates([clip, f"dinvo2={parts / 'dinov2'}"])
    with pytest.raises(CheckpointError, match="no such folder"):
        find_candidates([clip, "dinov2=nowhere/at/all"])
    with pytest.raises(PartError, match="level 9 does not exist"):
        find_candidates([clip, dinov2], level=9)
    detector = tiny_detector.save_detector(tmp_path / "detector", labels=("cat",))
    with pytest.raises(UsageError, match="gives objects, not patches"):
        find_candidates([clip, f"rt_detr={detector or tmp_path / 'detector'}"])


def test_a_picture_gets_all_that_its_rows_say_once(tmp_path: Path) -> None:
    path = save_captioned(tmp_path, 26)
    rows = json.loads(path.read_text())
    rows += [
        row("0.png", "What?", "a cat"),
        row("0.png", "What?", "a cat"),
        row(["1.png", "2.png"], "Same?", "not the same"),
        row("1.png", "Where?", "<boxes>") | {"boxes": [[[1, 2, 3, 4]]]},
    ]
    path.write_text(json.dumps(rows))
    found = read_pairs([path], count=100)
    said = {Path(image).name: text for image, text in zip(found.images, found.texts, strict=True)}
    assert len(found) == found.found == 26
    assert said["0.png"].endswith("no. 0 a cat")
    assert said["1.png"].endswith("no. 1"), "of boxes and of rows with two pictures nothing is said"
    whole = read_pairs([path], count=100, texts="all")
    assert any(text.startswith("Describe it.") for text in whole.texts)
    few = read_pairs([path], count=5, seed=3)
    assert few == read_pairs([path], count=5, seed=3) != read_pairs([path], count=5, seed=4)


def test_pictures_that_say_nothing(tmp_path: Path) -> None:
    path = save_captioned(tmp_path, 26)
    rows = json.loads(path.read_text())
    with pytest.raises(UsageError, match="answers, all"):
        read_pairs([path], count=9, texts="answer")
    boxes = [row(r["image"], "Where?", "<boxes>") | {"boxes": [[[1, 2, 3, 4]]]} for r in rows]
    path.write_text(json.dumps(boxes))
    with pytest.raises(
        UsageError, match=r"0 pictures with a text, but .* at least 24; --texts all"
    ):
        read_pairs([path], count=9)
    path.write_text(json.dumps([row(r["image"], "Is it?", "yes") for r in rows]))
    with pytest.raises(UsageError, match="26 pictures have 1 different texts"):
        read_pairs([path], count=9)
    path.write_text(json.dumps(rows[:20]))
    with pytest.raises(UsageError, match="20 pictures, but a choice needs at least 24"):
        read_pairs([path], count=9)
    path.write_text(json.dumps(rows))
    (tmp_path / "3.png").unlink()
    with pytest.raises(ImageError, match=r"3\.png"):
        read_pairs([path], count=26)
    with pytest.raises(DataError, match="name your own file with --train"):
        world_files(tmp_path)


def test_means_are_over_real_tokens() -> None:
    states = torch.tensor([[[9.0], [1.0], [3.0]], [[5.0], [7.0], [0.0]]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert mean_states(states, mask, skip_first=False).flatten().tolist() == pytest.approx(
        [13 / 3, 5.0]
    )
    assert mean_states(states, mask, skip_first=True).flatten().tolist() == [2.0, 5.0]


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_texts_are_read_by_both_kinds_of_language_models(name: str, parts: Path) -> None:
    texts = ["a red square", "two blue ones, one behind", "x"]
    reader = text_reader(str(parts / name), [0, -1])
    assert reader.levels == (0, 2)
    found = reader.read(texts, CPU)
    assert {level: states.shape for level, states in found.items()} == {0: (3, 32), 2: (3, 32)}
    alone = text_reader(str(parts / name)).read(texts[:1], CPU)
    assert torch.allclose(torch.tensor(alone[0][0]), torch.tensor(found[0][0]), atol=1e-6)
    model = hub.load_pretrained(_class(name), str(parts / name))
    ids = reader.tokenizer(texts[0])["input_ids"]
    table = model.get_input_embeddings().weight.detach().double()  # type: ignore[operator]
    assert torch.allclose(torch.tensor(found[0][0]), table[ids].mean(dim=0), atol=1e-5)


def _class(name: str) -> object:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if name == "t5" else AutoModelForCausalLM


def test_padding_changes_no_text(parts: Path) -> None:
    reader = text_reader(str(parts / "llama"), [1, 2])
    together = reader.read(["short", "a text that is a good deal longer than it"], CPU)
    alone = reader.read(["short"], CPU)
    for level in (1, 2):
        assert together[level][0] == pytest.approx(alone[level][0], abs=1e-5)


def test_language_models_that_cannot_be_read(parts: Path) -> None:
    with pytest.raises(PartError, match="has 2 blocks, so --text-level 7 does not exist"):
        text_reader(str(parts / "llama"), [7])
    with pytest.raises(CheckpointError, match="no such folder"):
        text_reader("nowhere/at/all")

"""Starts: fusion and bridge learn before frozen parts, alike for every arm."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from manyeyes.checkpoints.hub import WORLD_PARTS
from manyeyes.errors import UsageError
from manyeyes.recipes import load_recipe
from manyeyes.records import VisualEvidence
from manyeyes.training.build import new_model
from manyeyes.world.pretrain import kept_pictures, start_parts, starts
from manyeyes.world.pretrain.arms import ARMS, Arm
from manyeyes.world.pretrain.cards import read_card, weight_files
from manyeyes.world.pretrain.kept_pictures import KeptPictures
from manyeyes.world.pretrain.language.documents import document_scene
from manyeyes.world.pretrain.language.layouts import mix_words
from manyeyes.world.pretrain.loop import train
from manyeyes.world.pretrain.pictures import picture_batch
from manyeyes.world.pretrain.run import pretrain
from manyeyes.world.pretrain.start_parts import STEPS
from manyeyes.world.pretrain.starts import PICTURES, TOLD, StartObjective, _round

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def objective(tmp_path_factory: pytest.TempPathFactory) -> StartObjective:
    """CLIP's start after six steps, the last three with questions."""
    objective = StartObjective(ARMS["clip"], 0, aligned=3)
    objective.before = {n: p.detach().clone() for n, p in objective.network.named_parameters()}
    objective.first = float(objective.loss(0)[0].detach())
    with torch.no_grad():
        objective.first_tokens = objective.evidence(objective.pictures, range(TOLD)).tokens
    train(objective, tmp_path_factory.mktemp("run"), steps=6)
    return objective


def test_fusion_and_bridge_learn_and_nothing_else(objective: StartObjective) -> None:
    changed = {
        name
        for name, parameter in objective.network.named_parameters()
        if not torch.equal(parameter, objective.before[name])
    }
    learning = {n for n, p in objective.network.named_parameters() if p.requires_grad}
    assert changed == learning
    assert {name.split(".")[0] for name in learning} == {"fusion", "bridge"}
    assert float(objective.loss(0)[0].detach()) < objective.first


def test_the_first_tokens_have_the_size_of_layouts(objective: StartObjective) -> None:
    """CLIP's features are many times larger than words; Adam would need long to shrink them."""
    size = objective.pictures.goals(range(TOLD)).square().mean().sqrt()
    first = objective.first_tokens.square().mean().sqrt()
    assert float(first) == pytest.approx(float(size), rel=1e-4)


def test_cells_are_compared_with_the_layouts_of_their_scenes(objective: StartObjective) -> None:
    """A projector that says exactly what the layout says has no error; a shuffled one has."""
    scenes = [document_scene("train", index, 0) for index in range(4)]
    tokenizer = objective.processor.tokenizer
    table = objective.network.get_input_embeddings().weight
    layouts = [mix_words(scene, Random(0), tokenizer, clean=True) for scene in scenes]
    tokens = torch.stack(layouts)[..., : len(table)] @ table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective.network.bridge, "mix", None)
        patch.setattr(objective, "evidence", lambda *_: VisualEvidence(tokens=tokens))
        assert float(objective.cell_error(range(4))) < 1e-5
        patch.setattr(objective, "evidence", lambda *_: VisualEvidence(tokens=tokens.flip(0)))
        assert float(objective.cell_error(range(4))) > 0.5


def test_kept_features_are_what_pixels_give(objective: StartObjective) -> None:
    """Whichever picture is asked for first; float16 rounds at the third digit."""
    numbers = [50, 3, 49]
    again = KeptPictures(objective.network, objective.processor, "train", 0)
    again.features([49])
    kept, other = objective.pictures.features(numbers), again.features(numbers)
    assert torch.equal(kept["features_clip"], other["features_clip"])
    pixels = picture_batch(again.scenes(numbers), "clip")
    network = objective.network.eval()
    with torch.no_grad():
        seen = network.encode_images(pixel_values_clip=pixels).tokens
        found = network.encode_images(**kept).tokens
    network.train()
    torch.testing.assert_close(found, seen, rtol=0.02, atol=0.02)


def test_pictures_come_round_with_new_questions(objective: StartObjective) -> None:
    first, again = (objective.questions(objective.pictures, n) for n in (0, PICTURES))
    assert not torch.equal(first.ids[:, :200], again.ids[:, :200])
    assert torch.equal(objective.pictures.goals([1]), objective.pictures.goals([1]))
    assert _round(PICTURES - 1, 3) == [PICTURES - 1, 0, 1]


def test_every_arm_sees_the_same_pictures_and_questions(objective: StartObjective) -> None:
    """Only ids of the image places could differ, and the arms have equally many."""
    arms = [objective, StartObjective(ARMS["comm"], 0)]
    batches = [arm.questions(arm.pictures, 0) for arm in arms]
    assert torch.equal(batches[0].ids, batches[1].ids)
    assert torch.equal(batches[0].goals, batches[1].goals)


def test_a_start_is_written_with_a_card_and_repeats_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_parts, "MEASURED", 4)
    monkeypatch.setattr(starts, "TOLD", 4)
    monkeypatch.setattr(kept_pictures, "BLOCK", 4)
    options = {"steps": 2, "threads": torch.get_num_threads()}
    card = pretrain("starts/clip", tmp_path / "one", **options)
    folder = tmp_path / "one/starts/clip"
    assert read_card(folder).files == card.files
    assert str(WORLD_PARTS) not in (folder / "config.json").read_text()
    files = {path.name for path in folder.iterdir()}
    assert files <= {"README.md", "card.json", "config.json", "generation_config.json",
                     "model.safetensors"}  # fmt: skip
    table = card.figures["replies about held-out pictures"]
    assert table["rec"]["replies"] > 0 and 0 <= table["questions"]["exact"] <= 100
    again = pretrain("starts/clip", tmp_path / "two", **options)
    assert again.files == card.files
    resumed = pretrain("starts/clip", tmp_path / "two", **options, resume=True)
    assert resumed.files == card.files


def test_what_cannot_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes no other weights"):
        pretrain("starts/clip", tmp_path, steps=1, start=tmp_path)
    with pytest.raises(UsageError, match="64 visual tokens"):
        StartObjective(Arm("lion/world", ("model.fusion.queries=16",)), 0)


@pytest.mark.parametrize("arm", ARMS)
def test_shipped_starts_are_those_of_their_cards_and_recipes(arm: str) -> None:
    """Every tensor of a start goes into its recipe; all arms had equal budgets."""
    folder = WORLD_PARTS / "starts" / arm
    card = read_card(folder)
    assert card.part == f"starts/{arm}" and card.files == weight_files(folder) != {}
    assert (card.training["steps"], card.training["images per step"]) == (STEPS, TOLD)
    recipe = load_recipe(ARMS[arm].recipe)
    stored = load_file(folder / "model.safetensors")
    arrived = set()
    for stage in recipe.stages:
        for source in stage.start:
            if source.checkpoint == f"world:starts/{arm}":
                loaded = new_model(recipe, stage, [(folder, source)])[0].state_dict()
                for name, tensor in stored.items():
                    if not source.only or any(fnmatchcase(name, own) for own in source.only):
                        assert torch.equal(loaded[name], tensor.float()), name
                        arrived.add(name)
    assert arrived == stored.keys()

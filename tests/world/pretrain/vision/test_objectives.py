"""Objectives and features: each piece against what it claims to compute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import ViTMAEForPreTraining

from manyeyes.errors import CheckpointError, UsageError
from manyeyes.probes.places import read_places
from manyeyes.world.pretrain.measuring.features import pixel_source
from manyeyes.world.pretrain.measuring.objects import ATTRIBUTES, object_rows
from manyeyes.world.pretrain.measuring.probe import probe
from manyeyes.world.pretrain.pictures import picture_batch, scene_batch
from manyeyes.world.pretrain.run import pretrain
from manyeyes.world.pretrain.vision.clip import (
    HARD_GROUP,
    contrastive_loss,
    contrastive_scenes,
    false_negatives,
    make_tokenizer,
)
from manyeyes.world.pretrain.vision.dino import (
    GLOBAL_AREA,
    MASK_SHARE,
    PIXEL_WEIGHT,
    PROTOTYPES,
    DinoObjective,
    crop,
    patches,
    random_masks,
    sinkhorn,
)
from manyeyes.world.pretrain.vision.mae import MaeObjective
from manyeyes.world.render import render_batch
from manyeyes.world.sample import sample_scene
from manyeyes.world.splits import HELD_OUT


def test_hard_groups_share_their_colors_and_never_show_held_out_pairs() -> None:
    scenes = contrastive_scenes(0, 64, seed=1)
    assert not {(o.shape, o.color) for s in scenes for o in s.objects} & HELD_OUT
    for start in (0, 2 * HARD_GROUP):
        group = scenes[start : start + HARD_GROUP]
        assert len({len(scene.objects) for scene in group}) == 1
        lead = [o.color for o in group[0].objects]
        agree = [o.color == c for s in group for o, c in zip(s.objects, lead, strict=True)]
        assert sum(agree) / len(agree) > 0.8


def test_false_negatives_are_equal_words_or_equal_objects() -> None:
    scenes = [sample_scene("train", i, count=3) for i in range(3)]
    skip = false_negatives(
        [scenes[0], scenes[1], scenes[2], scenes[0]],
        ["a red cross and a blue circle", "a blue circle and a red cross", "x", "y"],
    )
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 1] = expected[1, 0] = expected[0, 3] = expected[3, 0] = True
    assert torch.equal(skip, expected)


def test_contrastive_loss_leaves_skipped_pairs_out() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    skip = torch.zeros(3, 3, dtype=torch.bool)
    skip[0, 2] = skip[2, 0] = True
    loss, _ = contrastive_loss(logits, skip)
    rows = [[0, 1], [0, 1, 2], [1, 2]]
    slow = sum(
        functional.cross_entropy(m[i, keep][None], torch.tensor([keep.index(i)]))
        for m in (logits, logits.T)
        for i, keep in enumerate(rows)
    )
    assert torch.allclose(loss, slow / 6)


def test_tokenizer_knows_every_caption_word_and_ends_with_eos() -> None:
    tokenizer = make_tokenizer(0, scenes=300)
    ids = tokenizer("A large pink cross, above two green circles.")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id


def test_sinkhorn_balances_rows_and_prototypes() -> None:
    scores = torch.rand(64, 16, generator=torch.Generator().manual_seed(0)) * 0.2
    goal = sinkhorn(scores, rounds=50)
    assert torch.allclose(goal.sum(dim=1), torch.ones(64), atol=1e-4)
    assert torch.allclose(goal.sum(dim=0), torch.full((16,), 4.0), atol=1e-2)


def test_teacher_follows_the_student_and_gets_no_gradient() -> None:
    objective = DinoObjective(0, images_per_step=2)
    loss, figures = objective.loss(0)
    loss.backward()
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert objective.student.patch_head.prototypes.shape == (PROTOTYPES, 64)
    total = figures["class"] + figures["patch"] + PIXEL_WEIGHT * figures["pixels"]
    assert total == pytest.approx(float(loss.detach()), rel=1e-4)
    assert objective.pixel_head.weight.grad is not None
    before = objective.teacher.class_head.prototypes.clone()
    with torch.no_grad():
        objective.student.class_head.prototypes.add_(1.0)
    objective.after_step(0)
    moved = objective.teacher.class_head.prototypes - before
    assert torch.allclose(moved, torch.full_like(moved, 0.02), atol=1e-5)


def test_dino_starts_from_a_masked_autoencoder(tmp_path: Path) -> None:
    MaeObjective(4).export(tmp_path)
    objective = DinoObjective(0)
    objective.start_from(tmp_path)
    vit = ViTMAEForPreTraining.from_pretrained(tmp_path, dtype=torch.float32, mask_ratio=0.0).vit
    pixels = picture_batch(scene_batch("val", 0, 2, 0), "imagenet")
    order = torch.arange(64.0).expand(2, -1)
    with torch.no_grad():
        wanted = vit(pixel_values=pixels, noise=order).last_hidden_state
        for side in (objective.student, objective.teacher):
            found = side.encoder(pixel_values=pixels).last_hidden_state
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_dino_starts_from_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing to start from: .*config\.json"):
        pretrain("dinov2", tmp_path / "out", steps=1, start=tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="type 'clip', not 'vit_mae'"):
        pretrain("dinov2", tmp_path / "out", steps=1, start=tmp_path)


@pytest.mark.parametrize("part", ["clip", "mae", "tagger", "detector"])
def test_other_parts_start_from_nothing(part: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="starts from nothing"):
        pretrain(part, tmp_path / "out", steps=1, start=tmp_path)


def test_dino_cuts_patches_in_the_order_of_tokens() -> None:
    pixels = torch.arange(2 * 3 * 12 * 12).float().view(2, 3, 12, 12)
    cut = patches(pixels)
    assert cut.shape == (2, 4, 3 * 36)
    assert torch.equal(cut[1, 1], pixels[1, :, :6, 6:].flatten())
    assert torch.equal(cut[0, 2], pixels[0, :, 6:, :6].flatten())


def test_crops_never_flip_and_masks_keep_their_share() -> None:
    rng = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-1, 1, 48).expand(8, 3, 48, 48).contiguous()
    cut = crop(ramp, GLOBAL_AREA, 48, rng)
    assert cut.shape == (8, 3, 48, 48)
    assert (cut[..., 40] > cut[..., 8]).all()
    share = random_masks(200, 8, rng).float().mean(dim=1)
    assert share.min() >= MASK_SHARE[0] - 0.01 and share.max() <= MASK_SHARE[1] + 0.01


def test_features_are_read_at_the_object() -> None:
    grid = torch.arange(64.0).reshape(1, 64, 1)
    place = torch.tensor([[2 * (3 + 0.5) / 8 - 1, 2 * (5 + 0.5) / 8 - 1]])
    picture = torch.tensor([0])
    assert read_places(grid, picture, place).item() == pytest.approx(5 * 8 + 3, abs=1e-3)
    window = read_places(grid, picture, place, window=3)[0]
    expected = torch.tensor([34.0, 35, 36, 42, 43, 44, 50, 51, 52])
    assert torch.allclose(window, expected, atol=1e-3)


def test_object_rows_list_every_object_with_its_labels() -> None:
    scenes = scene_batch("val", 0, 5, 0)
    rows = object_rows(scenes)
    counts = Counter(rows.picture.tolist())
    assert [counts[i] for i in range(5)] == [len(scene.objects) for scene in scenes]
    first = scenes[0].objects[0]
    assert all(ATTRIBUTES[n][int(rows.labels[n][0])] == getattr(first, n) for n in ATTRIBUTES)


def test_raw_pixel_source_is_the_picture_in_patches() -> None:
    scenes = scene_batch("val", 0, 2, 0)
    (patches,) = pixel_source(render_batch(scenes))
    pixels = picture_batch(scenes, "half")
    assert patches.shape == (2, 64, 108)
    assert torch.equal(patches[1, 9].reshape(3, 6, 6), pixels[1, :, 6:12, 6:12])


def test_probe_finds_what_is_there_and_only_that() -> None:
    scenes = [sample_scene("val", i) for i in range(160)]
    features = torch.zeros(160, 64, 8)
    for number, scene in enumerate(scenes):
        for item in scene.objects:
            patch = (item.y // 6) * 8 + item.x // 6
            features[number, patch] = functional.one_hot(
                torch.tensor(ATTRIBUTES["color"].index(item.color)), 8
            ).float()
    result = probe(features[:120], scenes[:120], features[120:], scenes[120:])
    assert result.figures["color"] > 0.9
    assert result.figures["mark"] < 0.5
    assert result.figures["place_px"] < 4.0
    assert result.scenes == 40

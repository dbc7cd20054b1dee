"""Scenes: same number, same scene; exact boxes; visibility; splits keep to their pairs."""

from __future__ import annotations

from math import hypot

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.world.outlines import MARK_HALF, mark_drop
from manyeyes.world.render import object_mask
from manyeyes.world.sample import MIN_DISTANCE, MIN_VISIBLE, ODD_SIZES, sample_scene
from manyeyes.world.scene import COLORS, CORRUPTIONS, SHAPES, Scene
from manyeyes.world.splits import HELD_OUT, SPLITS, allowed_pairs

SCENES = [sample_scene(split, index, 3) for split in SPLITS for index in range(60)]


def pairs(scene: Scene) -> set[tuple[str, str]]:
    return {(o.shape, o.color) for o in scene.objects}


def test_scene_depends_only_on_seed_split_and_index() -> None:
    forwards = [sample_scene("train", i, 7) for i in range(20)]
    backwards = [sample_scene("train", i, 7) for i in reversed(range(20))]
    assert forwards == backwards[::-1]


def test_scene_is_pinned() -> None:
    first = sample_scene("train", 0, 0).objects[0]
    assert (first.shape, first.color, first.x, first.y, first.radius) == PINNED


PINNED = ("circle", "pink", 40, 42, 5)


@pytest.mark.parametrize("other", [("val", 5, 0), ("test", 5, 0), ("train", 6, 0), ("train", 5, 1)])
def test_other_split_index_or_seed_gives_another_scene(other: tuple[str, int, int]) -> None:
    assert sample_scene(*other).objects != sample_scene("train", 5, 0).objects


def test_train_val_and_test_share_no_scene() -> None:
    seen = [{sample_scene(s, i, 0).objects for i in range(300)} for s in ("train", "val", "test")]
    crowded = [{objects for objects in split if len(objects) > 1} for split in seen]
    assert not crowded[0] & crowded[1] and not crowded[0] & crowded[2]
    assert not crowded[1] & crowded[2]


def test_boxes_are_tight_and_areas_exact() -> None:
    for scene in SCENES:
        for position, item in enumerate(scene.objects):
            rows, columns = np.nonzero(object_mask(scene, position))
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert item.box == tight
            assert item.area == len(rows)


def test_visible_counts_pixels_not_covered_by_later_objects() -> None:
    for scene in SCENES:
        masks = [object_mask(scene, i) for i in range(len(scene.objects))]
        for i, item in enumerate(scene.objects):
            covered = np.zeros_like(masks[i])
            for later in masks[i + 1 :]:
                covered |= later
            assert item.visible == int((masks[i] & ~covered).sum())
            assert item.visible >= MIN_VISIBLE * item.area


def test_marks_are_never_covered() -> None:
    for scene in SCENES:
        for i, item in enumerate(scene.objects):
            y, x = item.y + mark_drop(item.shape, item.radius), item.x
            window = np.s_[y - MARK_HALF : y + MARK_HALF + 1, x - MARK_HALF : x + MARK_HALF + 1]
            later = [object_mask(scene, j)[window] for j in range(i + 1, len(scene.objects))]
            assert not any(mask.any() for mask in later)


def test_centres_keep_their_distance() -> None:
    for scene in SCENES:
        for i, one in enumerate(scene.objects):
            for two in scene.objects[:i]:
                assert hypot(one.x - two.x, one.y - two.y) >= MIN_DISTANCE


def test_sizes_are_clearly_apart() -> None:
    radii = {(o.size, o.radius) for scene in SCENES for o in scene.objects}
    assert {r for size, r in radii if size == "small"} == {5, 6}
    assert {r for size, r in radii if size == "large"} == {8, 9}


@pytest.mark.parametrize("split", ["train", "val", "test", "corner"])
def test_held_out_pairs_never_occur_outside_the_compositional_split(split: str) -> None:
    found = set[tuple[str, str]]().union(*(pairs(sample_scene(split, i)) for i in range(400)))
    assert not found & HELD_OUT
    assert len(found) == len(SHAPES) * len(COLORS) - len(HELD_OUT)


def test_compositional_scenes_hold_only_held_out_pairs() -> None:
    found = [pairs(sample_scene("compositional", i)) for i in range(60)]
    assert set().union(*found) == HELD_OUT


def test_training_pairs_still_show_every_shape_and_color() -> None:
    shapes, colors = zip(*allowed_pairs("train"), strict=True)
    assert set(shapes) == set(SHAPES) and set(colors) == set(COLORS)


def test_corner_scenes_have_a_corruption_and_odd_sizes() -> None:
    scenes = [sample_scene("corner", i) for i in range(150)]
    assert {scene.corruption for scene in scenes} == set(CORRUPTIONS) - {"none"}
    odd = {(s.width, s.height) for s in scenes if s.corruption == "odd_size"}
    assert odd == set(ODD_SIZES)
    assert {(s.width, s.height) for s in scenes if s.corruption != "odd_size"} == {(48, 48)}


@pytest.mark.parametrize("count", [1, 5])
def test_count_can_be_fixed(count: int) -> None:
    assert all(len(sample_scene("train", i, count=count).objects) == count for i in range(20))


def test_every_count_occurs() -> None:
    assert {len(sample_scene("train", i).objects) for i in range(100)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trian"}, "did you mean 'train'"),
        ({"index": -1}, "must not be negative"),
        ({"seed": -1}, "must not be negative"),
        ({"count": 6}, "from 1 to 5, got 6"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict[str, object], message: str) -> None:
    asked: dict[str, object] = {"split": "train", "index": 0, **arguments}
    with pytest.raises(UsageError, match=message):
        sample_scene(**asked)  # type: ignore[arg-type]

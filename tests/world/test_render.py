"""Pictures: reproducible, the right pixels in the right place, fast enough to train on."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.world.render import RGB, object_mask, render, render_batch
from manyeyes.world.sample import sample_scene
from manyeyes.world.scene import CORRUPTIONS, MARKS, TEXTURES, Scene


def lonely(**changes: object) -> Scene:
    """A scene with one large plain unmarked red square, changed as asked."""
    index = next(
        i
        for i in range(1000)
        if sample_scene("train", i, count=1).objects[0].size == "large"
        and sample_scene("train", i, count=1).objects[0].shape == "square"
    )
    scene = sample_scene("train", index, count=1)
    look = {"color": "red", "texture": "plain", "mark": "none", **changes}
    return replace(scene, objects=(replace(scene.objects[0], **look),))  # type: ignore[arg-type]


def test_rendering_is_reproducible_in_any_order() -> None:
    scenes = [sample_scene("train", i) for i in range(8)]
    batch = render_batch(scenes)
    assert batch.shape == (8, 48, 48, 3) and batch.dtype == np.uint8
    assert np.array_equal(batch[::-1], render_batch(scenes[::-1]))


@pytest.mark.parametrize("color", list(RGB))
def test_object_pixels_have_the_color(color: str) -> None:
    scene = lonely(color=color)
    inside = render(scene)[object_mask(scene, 0)].astype(float)
    goal = np.array(RGB[color])  # type: ignore[index]
    nearest = min(RGB, key=lambda name: np.abs(inside.mean(axis=0) - np.array(RGB[name])).sum())
    assert nearest == color
    assert np.abs(inside.mean(axis=0) - goal).max() < 40


def test_box_is_where_the_object_is() -> None:
    scene = lonely()
    empty = replace(scene, objects=())
    changed = np.abs(render(scene).astype(int) - render(empty).astype(int)).sum(axis=2) > 60
    rows, columns = np.nonzero(changed)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert found == scene.objects[0].box


def test_textures_and_marks_all_look_different() -> None:
    pictures = {(t, m): render(lonely(texture=t, mark=m)) for t in TEXTURES for m in MARKS}
    flat = {picture.tobytes() for picture in pictures.values()}
    assert len(flat) == len(TEXTURES) * len(MARKS)
    plain, striped = (pictures[t, "none"].astype(int) for t in ("plain", "striped"))
    assert np.abs(plain - striped).max() > 80


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corner_pictures_have_the_scene_size(corruption: str) -> None:
    index = 0
    if corruption != "none":
        index = next(i for i in range(200) if sample_scene("corner", i).corruption == corruption)
    scene = sample_scene("corner" if corruption != "none" else "train", index)
    picture = render(scene)
    assert picture.shape == (scene.height, scene.width, 3)
    clean = render(replace(scene, corruption="none"))
    same = np.array_equal(picture, clean)
    assert same == (corruption in ("none", "odd_size"))


def test_darkness_darkens_and_fog_whitens() -> None:
    scenes = [sample_scene("corner", i) for i in range(100)]
    for name, sign in (("darkness", -1), ("fog", 1)):
        scene = next(s for s in scenes if s.corruption == name)
        clean = render(replace(scene, corruption="none")).astype(float)
        assert sign * (render(scene).mean() - clean.mean()) > 0


def test_batches_of_unequal_or_no_scenes_are_refused() -> None:
    odd = next(
        s for s in (sample_scene("corner", i) for i in range(99)) if s.corruption == "odd_size"
    )
    with pytest.raises(UsageError, match="one size"):
        render_batch([odd, sample_scene("train", 0)])
    with pytest.raises(UsageError, match="one size"):
        render_batch([])


def test_sampling_and_rendering_keep_up_with_training() -> None:
    started = time.process_time()
    render_batch([sample_scene("train", i, 11) for i in range(300)])
    assert 300 / (time.process_time() - started) > 500

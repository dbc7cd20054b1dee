"""AP and AR: the reference vector by every engine, our weighted form against the packages."""

from __future__ import annotations

import numpy as np
import pytest

from manyeyes.errors import UsageError
from manyeyes.evaluation.scorers import coco_metrics as metrics_module
from manyeyes.evaluation.scorers.box_matching import WEIGHTED, match_boxes
from manyeyes.evaluation.scorers.coco_boxes import FoundBox, Shape, TrueBox
from manyeyes.evaluation.scorers.coco_metrics import ENGINES, METRICS, coco_metrics, default_engine

pytest.importorskip("pycocotools")


def _true(image: int, category: int, box: tuple[float, ...], crowd: bool = False) -> TrueBox:
    x, y, w, h = box
    return TrueBox(image, category, (x, y, w, h), w * h, crowd)


TRUTH = [
    _true(0, 0, (10, 10, 20, 20)),
    _true(0, 1, (50, 50, 40, 30)),
    _true(1, 0, (0, 0, 30, 30)),
    _true(1, 0, (40, 40, 50, 50), crowd=True),
    _true(2, 1, (5, 5, 100, 90)),
]
FOUND = [
    FoundBox(0, 0, (11, 11, 20, 20), 0.9),
    FoundBox(0, 1, (52, 50, 40, 30), 0.8),
    FoundBox(0, 0, (60, 60, 10, 10), 0.7),
    FoundBox(1, 0, (0, 0, 30, 24), 0.6),
    FoundBox(1, 0, (45, 45, 20, 20), 0.95),
    FoundBox(2, 1, (10, 10, 90, 85), 0.5),
    FoundBox(2, 0, (10, 10, 10, 10), 0.85),
]
SHAPE = Shape(images=3, categories=2)
EXPECTED = dict(
    zip(
        METRICS,
        (
            *(0.688613861386, 0.876237623762, 0.876237623762),
            *(0.526732673267, 0.850495049505, None),
            *(0.6, 0.775, 0.775, 0.7, 0.85, None),
        ),
        strict=True,
    )
)


@pytest.mark.parametrize("engine", ENGINES)
def test_reference_vector(engine: str) -> None:
    pytest.importorskip(engine)
    result = coco_metrics(TRUTH, FOUND, SHAPE, engine=engine)
    for metric in METRICS:
        assert result.values[metric] == pytest.approx(EXPECTED[metric], abs=1e-12), metric
    assert np.mean([ap or 0 for ap in result.by_category]) == pytest.approx(EXPECTED["AP"])


def test_weights_of_one_give_the_same() -> None:
    scores = match_boxes(TRUTH, FOUND, SHAPE).score(np.ones(3))
    assert scores == pytest.approx([EXPECTED[metric] for metric in WEIGHTED], abs=1e-12)


def _random_boxes(seed: int) -> tuple[list[TrueBox], list[FoundBox]]:
    """A crowded little set with equal scores, crowds, ignored objects and boxes without area."""
    draw = np.random.default_rng(seed)
    truth, found = [], []
    for image in range(8):
        for _ in range(int(draw.integers(0, 6))):
            category = int(draw.integers(0, 3))
            x, y, w, h = (float(v) for v in draw.integers(0, 60, 4))
            kind = draw.random()
            truth.append(
                TrueBox(image, category, (x, y, w, h), w * h, kind < 0.15, 0.15 < kind < 0.3)
            )
            for _ in range(int(draw.integers(0, 4))):
                moved = [float(v) for v in np.array([x, y, w, h]) + draw.integers(-3, 4, 4)]
                box = (moved[0], moved[1], max(0.0, moved[2]), max(0.0, moved[3]))
                found.append(FoundBox(image, category, box, float(draw.integers(1, 9)) / 8))
    return truth, found


@pytest.mark.parametrize("seed", range(6))
def test_engines_and_our_matching_agree_on_random_boxes(seed: int) -> None:
    truth, found = _random_boxes(seed)
    shape = Shape(8, 3)
    results = [coco_metrics(truth, found, shape, engine=e) for e in _installed()]
    for other in results[1:]:
        assert other.values == pytest.approx(results[0].values, abs=1e-12)
        assert other.by_category == pytest.approx(results[0].by_category, abs=1e-12)
    expected = [results[0].values[metric] for metric in WEIGHTED]
    assert match_boxes(truth, found, shape).score(np.ones(8)) == pytest.approx(expected, abs=1e-9)


def test_a_weight_of_two_is_the_image_twice() -> None:
    truth, found = _random_boxes(1)
    found = [FoundBox(f.image, f.category, f.box, f.score + i / 1e3) for i, f in enumerate(found)]
    weights = np.array([2.0, 0, 1, 1, 0, 1, 1, 1])
    copies = [i for i, weight in enumerate(weights) for _ in range(int(weight))]
    twice_truth = [
        TrueBox(new, t.category, t.box, t.area, t.crowd, t.ignored)
        for new, old in enumerate(copies)
        for t in truth
        if t.image == old
    ]
    twice_found = [
        FoundBox(new, f.category, f.box, f.score)
        for new, old in enumerate(copies)
        for f in found
        if f.image == old
    ]
    repeated = match_boxes(twice_truth, twice_found, Shape(len(copies), 3))
    whole = repeated.score(np.ones(len(copies)))
    # copies have equal scores and stand side by side: one order of hits and misses among many
    assert match_boxes(truth, found, Shape(8, 3)).score(weights) == pytest.approx(whole, abs=0.02)


def test_perfect_detections_score_one_and_none_score_nothing() -> None:
    perfect = [FoundBox(t.image, t.category, t.box, 0.5) for t in TRUTH if not t.crowd]
    values = coco_metrics(TRUTH, perfect, SHAPE).values
    for metric in ("AP", "AP50", "AR10", "AR100"):
        assert values[metric] == pytest.approx(1)
    assert match_boxes(TRUTH, perfect, SHAPE).per_image() == pytest.approx([1, 1, 1])
    assert coco_metrics(TRUTH, [], SHAPE).values["AP"] == 0.0
    assert match_boxes(TRUTH, [], SHAPE).score(np.ones(3)) == [0.0] * len(WEIGHTED)


def test_without_objects_nothing_is_known() -> None:
    result = coco_metrics([], FOUND, SHAPE)
    assert set(result.values.values()) == {None}
    assert result.by_category == (None, None)
    assert match_boxes([], FOUND, SHAPE).score(np.ones(3)) == [0.0] * len(WEIGHTED)


@pytest.mark.parametrize("engine", ENGINES)
def test_ignored_objects_are_neither_hits_nor_misses(engine: str) -> None:
    pytest.importorskip(engine)
    truth = [TRUTH[0], TrueBox(0, 0, (50, 50, 40, 30), 1200, ignored=True)]
    both = [FoundBox(0, 0, TRUTH[0].box, 0.5), FoundBox(0, 0, (50, 50, 40, 30), 0.9)]
    shape = Shape(1, 1)
    assert coco_metrics(truth, both, shape, engine=engine).values["AP"] == pytest.approx(1)
    assert coco_metrics(truth[:1], both, shape, engine=engine).values["AP"] == pytest.approx(0.5)
    assert coco_metrics(truth, both[:1], shape, engine=engine).values["AR100"] == pytest.approx(1)


def test_own_ap_of_an_image() -> None:
    matched = match_boxes(TRUTH, FOUND, SHAPE)
    assert matched.per_image() == pytest.approx([1, 1, 1])
    wrong = [FoundBox(0, 0, (60, 60, 10, 10), 0.95), *FOUND, FoundBox(3, 0, (0, 0, 9, 9), 0.5)]
    own = match_boxes(TRUTH, wrong, Shape(5, 2)).per_image()
    assert own == pytest.approx([0.75, 1, 1, 0, 1])


def test_only_a_hundred_detections_count() -> None:
    many = [FoundBox(0, 0, (60, 60, 5, 5), 0.9)] * 100 + [FoundBox(0, 0, TRUTH[0].box, 0.1)]
    assert coco_metrics(TRUTH[:1], many, Shape(1, 1)).values["AP"] == 0.0
    assert match_boxes(TRUTH[:1], many, Shape(1, 1)).score(np.ones(1))[0] == 0.0


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="coco is not installed; known: faster_coco_eval"):
        coco_metrics(TRUTH, FOUND, SHAPE, engine="coco")
    monkeypatch.setattr(metrics_module, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'manyeyes\[detection\]'"):
        coco_metrics(TRUTH, FOUND, SHAPE)
    monkeypatch.setattr(metrics_module, "find_spec", lambda name: name == "pycocotools" or None)
    assert default_engine() == "pycocotools"


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    for engine in _installed():
        coco_metrics(TRUTH, FOUND, SHAPE, engine=engine)
    assert capsys.readouterr().out == ""


def _installed() -> list[str]:
    return [engine for engine in ENGINES if metrics_module.find_spec(engine) is not None]

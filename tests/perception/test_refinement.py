"""A detector's list merged with what the language model wrote."""

from __future__ import annotations

from random import Random

import pytest

from manyeyes.errors import UsageError
from manyeyes.perception.refinement import MergeWeights, Refined, match_boxes, merge_objects
from manyeyes.perception.text import parse_objects
from manyeyes.records import Detection

LABELS = ("cat", "dog", "bus; coach")
CAT = Detection("cat", (10.0, 10.0, 50.0, 50.0), 0.6)
DOG = Detection("dog", (60.0, 60.0, 90.0, 90.0), 0.4)
FULL = MergeWeights(gamma=0.5, drop=0.25, add=0.5)


def test_mr_mllm_check_03_zero_weights_keep_the_list_for_any_text() -> None:
    random = Random(0)
    letters = "cat dog zebra;[],.0123456789 "
    texts = ["", "none", "cat [1,1,2,2]; dog [100,100,500,500]; zebra [0,0,9,9]"]
    texts += ["".join(random.choices(letters, k=80)) for _ in range(300)]
    for detected in ((), (CAT,), (DOG, CAT)):
        for text in texts:
            written = parse_objects(text, style="int1000", width=100, height=100).objects
            merged = merge_objects(detected, written, LABELS, MergeWeights())
            assert merged.objects == detected


def test_agreement_raises_silence_lowers_and_new_objects_come_in() -> None:
    written = [
        Detection("cat", (11.0, 10.0, 50.0, 50.0), 0.9),
        Detection("dog", (0.0, 80.0, 20.0, 99.0), 0.8),
    ]
    merged = merge_objects((CAT, DOG), written, LABELS, FULL)
    scores = {(o.label, o.box): o.score for o in merged.objects}
    assert scores[CAT.label, CAT.box] == pytest.approx(0.6 + 0.5 * 0.4)
    assert scores[DOG.label, DOG.box] == pytest.approx(0.4 * 0.75)
    assert scores["dog", written[1].box] == pytest.approx(0.5 * 0.8)
    assert len(merged.objects) == 3 and merged.open_vocabulary == ()
    assert [o.score for o in merged.objects] == sorted(scores.values(), reverse=True)  # type: ignore[type-var]


def test_another_class_wins_only_with_weight_and_probability() -> None:
    claim = [Detection("dog", CAT.box, 0.9)]
    assert merge_objects((CAT,), claim, LABELS, FULL).objects == (
        Detection("dog", CAT.box, 0.5 * 0.9),
    )
    doubtful = [Detection("dog", CAT.box, 0.5)]
    assert merge_objects((CAT,), doubtful, LABELS, FULL).objects == (CAT,)


def test_unknown_classes_are_kept_apart() -> None:
    zebra = Detection("zebra", CAT.box, 0.9)
    for weights in (MergeWeights(), FULL):
        merged = merge_objects((CAT,), [zebra], LABELS, weights)
        assert merged == Refined((CAT,), (zebra,))


def test_written_names_find_their_class_again() -> None:
    coach = Detection("bus; coach", CAT.box, 0.5)
    merged = merge_objects((coach,), [Detection("bus, coach", CAT.box)], LABELS, FULL)
    assert merged == Refined((Detection("bus; coach", CAT.box, 0.75),))


def test_boxes_are_matched_one_to_one_by_the_best_sum() -> None:
    first = [(0.0, 0.0, 10.0, 10.0), (2.0, 0.0, 12.0, 10.0)]
    second = [(1.0, 0.0, 11.0, 10.0), (0.0, 0.0, 9.0, 10.0)]
    assert match_boxes(first, second, 0.5) == {0: 1, 1: 0}
    assert match_boxes(first, [(50.0, 50.0, 60.0, 60.0)], 0.5) == {}
    assert match_boxes([], second, 0.5) == {} == match_boxes(first, [], 0.5)
    assert match_boxes([(1.0, 1.0, 1.0, 1.0)], [(1.0, 1.0, 1.0, 1.0)], 0.5) == {}


def test_weights_outside_their_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"merge weight gamma is 1.5, not in 0..1"):
        MergeWeights(gamma=1.5)

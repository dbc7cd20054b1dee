"""POPE's rules: three present labels, three absent ones, chosen as each strategy says."""

from __future__ import annotations

from random import Random

import pytest

from manyeyes.errors import UsageError
from manyeyes.world.language.presence import (
    STRATEGIES,
    ask_presence,
    label_statistics,
    labels_in,
    presence_questions,
    presence_text,
)
from manyeyes.world.sample import sample_scene

SCENES = [sample_scene("test", index, 0) for index in range(300)]
STATISTICS = label_statistics(SCENES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rules_hold_for_every_image(strategy: str) -> None:
    asked = 0
    for scene in SCENES:
        found = presence_questions(scene, STATISTICS, strategy, Random(scene.index))
        present = labels_in(scene)
        assert len(found) == (6 if len(present) >= 3 else 0)
        assert [question.present for question in found] == [True, False] * (len(found) // 2)
        assert [q.label for q in found if q.present] == present[: len(found) // 2]
        assert all((q.label in present) == q.present for q in found)
        assert len({q.label for q in found}) == len(found)
        asked += len(found)
    assert asked > 600


def test_popular_takes_the_most_frequent_absent_label() -> None:
    scene = next(s for s in SCENES if len(labels_in(s)) >= 3)
    absent = sorted(set(STATISTICS.frequency) - set(labels_in(scene)))
    ranked = sorted(absent, key=lambda label: -STATISTICS.frequency[label])
    found = presence_questions(scene, STATISTICS, "popular", Random(0))
    assert [q.label for q in found if not q.present] == ranked[:3]


def test_adversarial_takes_the_most_frequent_companion() -> None:
    scene = next(s for s in SCENES if len(labels_in(s)) >= 3)
    absent = sorted(set(STATISTICS.frequency) - set(labels_in(scene)))
    found = presence_questions(scene, STATISTICS, "adversarial", Random(0))
    for yes, no in zip(found[::2], found[1::2], strict=True):
        together = STATISTICS.together[yes.label]
        assert together.get(no.label, 0) == max(together.get(label, 0) for label in absent)
        absent.remove(no.label)


def test_statistics_count_images_not_objects() -> None:
    scenes = SCENES[:50]
    counted = label_statistics(scenes)
    label = max(counted.frequency, key=lambda name: counted.frequency[name])
    assert counted.frequency[label] == sum(label in labels_in(scene) for scene in scenes)


def test_wording_and_articles() -> None:
    assert presence_text("orange cross") == "Is there an orange cross in the image?"
    assert presence_text("red circle") == "Is there a red circle in the image?"


def test_training_questions_are_balanced_and_true() -> None:
    asked = [(scene, ask_presence(scene, Random(scene.index))) for scene in SCENES]
    assert all((q.label in labels_in(scene)) == q.present for scene, q in asked)
    assert 0.4 < sum(q.present for _, q in asked) / len(asked) < 0.6


def test_training_questions_exist_where_every_pair_is_present() -> None:
    """The compositional split has four pairs only; a scene may hold them all."""
    scenes = [sample_scene("compositional", index, 0, count=5) for index in range(80)]
    full = [scene for scene in scenes if len(labels_in(scene)) == 4]
    assert full
    assert all(ask_presence(scene, Random(0)).present for scene in full)


def test_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'popular'"):
        presence_questions(SCENES[0], STATISTICS, "populer", Random(0))

"""Yes/no questions about objects by the rules of POPE (Li et al. 2023, section 4; RUCAIBox/POPE).

A label is colour and shape, "red circle": with bare shapes an image of three shapes would leave one
absent label only, while the rules need three. Per image the first three labels present are asked
for, each followed by one absent label:

    random       any label of the set that is absent from the image
    popular      the most frequent absent label of the set
    adversarial  the absent label most often together with the present one just asked for

No label is asked for twice about one image; images need three different labels. Frequencies count
images, over the scenes given. Ties go to the label that comes first in the alphabet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from manyeyes.errors import UsageError, nearest
from manyeyes.world.language.words import with_article
from manyeyes.world.scene import Scene, WorldObject
from manyeyes.world.splits import allowed_pairs

STRATEGIES: tuple[str, ...] = ("random", "popular", "adversarial")
LABELS_PER_IMAGE = 3


@dataclass(frozen=True)
class PresenceQuestion:
    """One yes/no question: the label asked for and whether an object of it is in the image."""

    label: str
    present: bool

    @property
    def text(self) -> str:
        """The question as POPE words it."""
        return presence_text(self.label)

    @property
    def answer(self) -> str:
        """The answer, "yes" or "no"."""
        return "yes" if self.present else "no"


@dataclass(frozen=True)
class LabelStatistics:
    """How many images hold a label, and how many hold two labels together."""

    frequency: Mapping[str, int]
    together: Mapping[str, Mapping[str, int]]


def presence_text(label: str) -> str:
    """Write the question for one label: "Is there a red circle in the image?"."""
    return f"Is there {with_article(label)} in the image?"


def label_of(item: WorldObject) -> str:
    """Return an object's label: colour and shape."""
    return f"{item.color} {item.shape}"


def labels_in(scene: Scene) -> list[str]:
    """Return the different labels of a scene, in order of its objects."""
    return list(dict.fromkeys(label_of(item) for item in scene.objects))


def label_statistics(scenes: Sequence[Scene]) -> LabelStatistics:
    """Count labels, and pairs of labels, over images."""
    frequency: Counter[str] = Counter()
    together: dict[str, Counter[str]] = {}
    for scene in scenes:
        labels = labels_in(scene)
        frequency.update(labels)
        for label in labels:
            together.setdefault(label, Counter()).update(x for x in labels if x != label)
    return LabelStatistics(frequency, together)


def presence_questions(
    scene: Scene, statistics: LabelStatistics, strategy: str, rng: Random
) -> list[PresenceQuestion]:
    """Return six questions, yes and no in turn, or none if the rules do not fit this scene.

    Raises ``UsageError`` for a strategy that is not in ``STRATEGIES``.
    """
    if strategy not in STRATEGIES:
        raise UsageError(
            f"unknown POPE strategy {strategy!r}{nearest(strategy, STRATEGIES)};"
            f" known: {', '.join(STRATEGIES)}"
        )
    present = labels_in(scene)
    absent = sorted(set(statistics.frequency) - set(present))
    if len(present) < LABELS_PER_IMAGE or len(absent) < LABELS_PER_IMAGE:
        return []
    found = []
    for label in present[:LABELS_PER_IMAGE]:
        other = _absent_label(label, absent, statistics, strategy, rng)
        absent.remove(other)
        found += [PresenceQuestion(label, True), PresenceQuestion(other, False)]
    return found


def _absent_label(
    label: str, absent: Sequence[str], statistics: LabelStatistics, strategy: str, rng: Random
) -> str:
    if strategy == "random":
        return rng.choice(absent)
    counts = statistics.frequency if strategy == "popular" else statistics.together.get(label, {})
    return max(absent, key=lambda other: counts.get(other, 0))


def ask_presence(scene: Scene, rng: Random) -> PresenceQuestion:
    """Return one question for training, present or absent with equal chances.

    Half of the absent labels are hard where the scene allows it: colour and shape are both there,
    on different objects. Held-out pairs of colour and shape are never asked for.
    """
    present = labels_in(scene)
    if rng.random() < 0.5:
        return PresenceQuestion(rng.choice(present), True)
    shapes, colors = ({getattr(o, name) for o in scene.objects} for name in ("shape", "color"))
    pairs = [pair for pair in allowed_pairs(scene.split) if f"{pair[1]} {pair[0]}" not in present]
    if not pairs:
        return PresenceQuestion(rng.choice(present), True)
    hard = [(shape, color) for shape, color in pairs if shape in shapes and color in colors]
    shape, color = rng.choice(hard if hard and rng.random() < 0.5 else pairs)
    return PresenceQuestion(f"{color} {shape}", False)

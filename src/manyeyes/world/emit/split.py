"""One split of a world as the emitters see it: scenes, and everything that is said about them.

What is said follows from each scene's (seed, split, index) alone, so a larger world of the same
seed begins with the same questions. Only POPE's label statistics look at the split as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from manyeyes.world.language.captions import captions
from manyeyes.world.language.object_questions import Question
from manyeyes.world.language.questions import questions
from manyeyes.world.language.references import Reference, refer
from manyeyes.world.scene import Scene
from manyeyes.world.splits import split_number

CAPTIONS_PER_IMAGE = 5
QUESTIONS_PER_IMAGE = 6
EXPRESSIONS_PER_OBJECT = 2

_IDS_PER_SPLIT = 1_000_000


def talk(scene: Scene, topic: str) -> Random:
    """Return the generator of everything said about ``scene`` on one ``topic``."""
    return Random(f"{topic}/{scene.seed}/{scene.split}/{scene.index}")


def image_id(scene: Scene) -> int:
    """Return the scene's image id, unique over all splits of a world."""
    return split_number(scene.split) * _IDS_PER_SPLIT + scene.index


def file_name(scene: Scene) -> str:
    """Return the picture's path inside the ``images`` folder: "test/000012.png"."""
    return f"{scene.split}/{scene.index:06d}.png"


def annotation_id(scene: Scene, position: int) -> int:
    """Return the id of object ``position``'s COCO annotation (ids of an image: 10 x id + 0..9)."""
    return image_id(scene) * 10 + position


def evaluated(worlds: Sequence[SplitWorld]) -> SplitWorld:
    """Return the split that sets without splits are made of: ``test``, or the last there is."""
    return next((world for world in worlds if world.name == "test"), worlds[-1])


@dataclass(frozen=True)
class SplitWorld:
    """The scenes of one split, with questions, captions and expressions made on first use."""

    name: str
    seed: int
    scenes: tuple[Scene, ...]

    @cached_property
    def captions(self) -> list[list[str]]:
        """Five captions per scene."""
        return [captions(s, talk(s, "captions"), CAPTIONS_PER_IMAGE) for s in self.scenes]

    @cached_property
    def questions(self) -> list[list[Question]]:
        """Up to six questions per scene, kinds taken in turn."""
        return [questions(s, talk(s, "questions"), QUESTIONS_PER_IMAGE) for s in self.scenes]

    @cached_property
    def references(self) -> list[list[list[Reference]]]:
        """Per scene and object, up to two different expressions that name it."""
        return [_expressions(scene) for scene in self.scenes]


def _expressions(scene: Scene) -> list[list[Reference]]:
    rng = talk(scene, "references")
    found = []
    for target in range(len(scene.objects)):
        drawn = (refer(scene, target, rng) for _ in range(EXPRESSIONS_PER_OBJECT))
        found.append(list({r.text: r for r in drawn if r is not None}.values()))
    return found

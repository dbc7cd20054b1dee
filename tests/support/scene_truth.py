"""What a perfect observer of the built-in world answers to a benchmark's item.

Nothing is taken from the annotation files: an item's picture names its scene, the scene is drawn
again from the seed, and the question's words are read and checked on its objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import PurePosixPath
from string import ascii_uppercase
from typing import Any

from manyeyes.conversation.boxes import format_boxes
from manyeyes.evaluation.contract import Prediction
from manyeyes.inference.questions import Item
from manyeyes.records import Box, PackedImage
from manyeyes.world.emit.nocaps import CAPTIONS, NEAR, recoloured
from manyeyes.world.emit.pictures import png_bytes
from manyeyes.world.emit.split import SplitWorld, image_id, talk
from manyeyes.world.language.captions import captions
from manyeyes.world.language.object_questions import TEMPLATES
from manyeyes.world.language.programs import Filters, execute, select
from manyeyes.world.language.questions import questions
from manyeyes.world.language.words import ATTRIBUTES, NUMBER_WORDS, RELATION_WORDS, offset, plural
from manyeyes.world.scene import Scene, WorldObject

SIDES = "|".join(RELATION_WORDS.values())
_SIDE_OF = {words: side for side, words in RELATION_WORDS.items()}
_SINGULAR = {plural(shape): shape for shape in ATTRIBUTES["shape"]} | {"objects": "object"}


class Truth:
    """Answers about the scenes of a world, as box text where the answer is a box."""

    def __init__(self, splits: Mapping[str, SplitWorld]) -> None:
        self.splits = splits

    @cached_property
    def _by_bytes(self) -> dict[bytes, Scene]:
        return {png_bytes(s): s for world in self.splits.values() for s in world.scenes}

    @cached_property
    def _by_id(self) -> dict[int, Scene]:
        return {image_id(s): s for world in self.splits.values() for s in world.scenes}

    def scene(self, item: Item) -> Scene:
        """The scene of the item's picture."""
        if isinstance(item.image, PackedImage):
            return self._by_bytes[item.image.read()]
        path = PurePosixPath(item.image)
        number, split = int(path.stem), path.parent.name
        if path.suffix == ".jpg":  # Flickr30k Entities names images by id
            return self._by_id[number]
        if split == "nocaps":
            return recoloured(self.splits["test"].scenes[number])
        return self.splits[split if split in self.splits else "test"].scenes[number]

    def short(self, item: Item) -> str:
        """The answer of the program of the scene's own question in the prompt."""
        scene = self.scene(item)
        world = self.splits[scene.split]
        asked = [q for q in world.questions[scene.index] if q.text in item.prompt]
        return max(asked, key=lambda question: len(question.text)).answer

    def chosen(self, item: Item) -> str:
        """The letter of the right option; the answer itself where there are none."""
        answer = self.short(item)
        return ascii_uppercase[item.candidates.index(answer)] if item.candidates else answer

    def both(self, item: Item) -> Prediction:
        """A-OKVQA's two answers."""
        return {"multiple_choice": self.short(item), "direct_answer": self.short(item)}

    def present(self, item: Item) -> str:
        """Whether there is such an object."""
        (label,) = re.findall(r"(?:there|Does) an? (.+?) (?:exist )?in ", item.prompt)
        return "yes" if select(words_of(label), self.scene(item)) else "no"

    def present_officially(self, item: Item) -> str:
        """The same as GVT writes it."""
        (label,) = re.findall(r"Does an? (.+?) exist", item.prompt)
        return "Yes." if select(words_of(label), self.scene(item)) else "No."

    def counted(self, item: Item) -> str:
        """How many there are of a shape."""
        (noun,) = re.findall(r"How many (\w+) are there", item.prompt)
        return str(sum(o.shape == _SINGULAR[noun] for o in self.scene(item).objects))

    def statement(self, item: Item) -> str:
        """Whether one object is on that side of another."""
        found = re.search(rf"[Tt]he (.+?) is ({SIDES}) the (.+?)\.", item.prompt)
        assert found is not None
        return "true" if self._beside(self.scene(item), *found.groups()) else "false"

    def mme(self, item: Item) -> str:
        """MME's four subtasks."""
        scene, text = self.scene(item), item.prompt
        if "Is there only one object" in text:
            return self._yes(len(scene.objects) == 1)
        if found := re.search(r"Are there (\w+) objects", text):
            return self._yes(NUMBER_WORDS.index(found[1]) == len(scene.objects))
        if "Is there a" in text:
            return self._yes(self.present(item) == "yes")
        if found := re.search(rf"Is the (.+?) ({SIDES}) the (.+?)\?", text):
            return self._yes(self._beside(scene, *found.groups()))
        found = re.search(r"Is the (.+) (\w+)\?", text)
        assert found is not None
        return self._yes(self._one(scene, found[1]).color == found[2])

    def referred(self, item: Item) -> Prediction:
        """The box of the object that an expression names, in pixels."""
        (expression,) = re.findall(r"(?:Where is|Which object is) (.+?)\?", item.prompt)
        return list(self._referred(self.scene(item), expression).box)

    def grounded(self, item: Item) -> Prediction:
        """The boxes of the objects that a phrase names."""
        (phrase,) = re.findall(r"Where is (.+?)\?", item.prompt)
        scene = self.scene(item)
        found = select(words_of(phrase), scene)
        assert found
        return [list(scene.objects[position].box) for position in found]

    def pointed(self, item: Item) -> str:
        """PointQA's answers, in Shikra's sentence."""
        return f"The answer is {self._pointed(item)} ."

    def caption(self, item: Item) -> str:
        """The first caption of the picture."""
        scene = self.scene(item)
        if "domain" in item.groups:
            near = item.groups["domain"] == "near-domain"
            number = image_id(scene) + (NEAR if near else 0)
            return captions(scene, talk(scene, f"nocaps-{number}"), CAPTIONS)[0]
        return self.splits[scene.split].captions[scene.index][0]

    def described(self, item: Item) -> str:
        """The first expression that names the object in the box."""
        scene = self.scene(item)
        world = self.splits[scene.split]
        return world.references[scene.index][at(scene, item.boxes[0][0])][0].text

    def ranked(self, item: Item) -> Prediction:
        """Losses of the candidates of a dialog round: 0 for the right one."""
        scene = self.scene(item)
        text = item.prompt.rpartition("\nQuestion: ")[2].partition("\n")[0]
        (answer,) = {
            q.answer for q in questions(scene, talk(scene, "visdial"), 10) if q.text == text
        }
        return {"losses": [float(candidate != answer) for candidate in item.candidates]}

    def detected(self, item: Item) -> Prediction:
        """All objects of the scene with their boxes."""
        numbers = {name: number for number, name in item.meta["categories"].items()}
        return [
            {"category_id": numbers[o.shape], "bbox": size_of(o.box), "score": 1.0 - rank / 100}
            for rank, o in enumerate(self.scene(item).objects)
        ]

    def _beside(self, scene: Scene, subject: str, words: str, anchor: str) -> bool:
        return offset(_SIDE_OF[words], self._one(scene, subject), self._one(scene, anchor)) > 0

    def _one(self, scene: Scene, phrase: str) -> WorldObject:
        (position,) = select(words_of(phrase), scene)
        return scene.objects[position]

    def _referred(self, scene: Scene, expression: str) -> WorldObject:
        known = (
            reference
            for found in self.splits[scene.split].references[scene.index]
            for reference in found
        )
        (position,) = {execute(r.program, scene) for r in known if r.text == expression}
        return scene.objects[position[0]]

    def _pointed(self, item: Item) -> str:
        scene, question = self.scene(item), item.prompt
        if item.answer == "boxes":
            (expression,) = re.findall(r"Which object is (.+?)\?", question)
            box = self._referred(scene, expression).box
            return format_boxes([box], style="shikra", width=scene.width, height=scene.height)
        shown = scene.objects[at(scene, item.boxes[0][0])]
        if question.startswith("How many of these"):
            return str(sum(other.shape == shown.shape for other in scene.objects))
        (attribute,) = [n for n, t in TEMPLATES.items() if t[0].format("this object") in question]
        return str(getattr(shown, attribute))

    def _yes(self, true: bool) -> str:
        return "Yes" if true else "No"


def words_of(phrase: str) -> Filters:
    """The attributes that a noun phrase names: "two red circles with a dot"."""
    if "without a mark" in phrase:
        phrase = phrase.replace("without a mark", "none")
    words = [_SINGULAR.get(word, word) for word in phrase.split()]
    return tuple(
        (name, word) for name, values in ATTRIBUTES.items() for word in words if word in values
    )


def at(scene: Scene, box: Box) -> int:
    """The position of the object with this box."""
    (position,) = [p for p, item in enumerate(scene.objects) if item.box == tuple(box)]
    return position


def size_of(box: Box) -> list[float]:
    """A box as COCO writes it."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


ANSWERS: Mapping[str, Callable[[Truth, Item], Any]] = {
    "aokvqa": Truth.both,
    "caption": Truth.caption,
    "coco-caption": Truth.caption,
    "coco-detection": Truth.detected,
    "coda": Truth.detected,
    "counting": Truth.counted,
    "exact": Truth.short,
    "flickr30k-caption": Truth.caption,
    "flickr30k-entities": Truth.grounded,
    "gqa": Truth.short,
    "iconqa": Truth.chosen,
    "identification": Truth.present_officially,
    "mmbench": Truth.chosen,
    "mme": Truth.mme,
    "nocaps": Truth.caption,
    "okvqa": Truth.short,
    "pointqa": Truth.pointed,
    "pope": Truth.present,
    "rec": Truth.referred,
    "refcoco": Truth.referred,
    "refcoco+": Truth.referred,
    "refcocog": Truth.referred,
    "reg": Truth.described,
    "seed-bench": Truth.chosen,
    "visdial": Truth.ranked,
    "visual7w": Truth.referred,
    "vqa": Truth.short,
    "vqav2": Truth.short,
    "vsr": Truth.statement,
}
"""Benchmark -> how its items are answered."""

"""Questions that are asked together, and what each of them says of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from manyeyes.images.reading import image_size
from manyeyes.inference.encoded_images import EncodedImages
from manyeyes.inference.questions import Item
from manyeyes.records import NOTHING_PERCEIVED, Perceived, Turn

Size = tuple[int, int]


@dataclass(frozen=True)
class Question:
    """A question, the sizes of its images where they are needed, and what is known of them."""

    turns: list[Turn]
    sizes: list[Size]
    perceived: Perceived


@dataclass(frozen=True)
class Group:
    """Questions that are asked together; ``images``: each encoded once, None = withheld."""

    items: Sequence[Item]
    images: EncodedImages | None

    @cached_property
    def rows(self) -> Mapping[str, int]:
        """The place of each image among the encoded ones."""
        return {path: row for row, path in enumerate(image_paths(self.items))}

    def sizes(self, items: Sequence[Item]) -> list[Size] | None:
        """(width, height) of the pictures of some items; None where they are withheld."""
        if self.images is None:
            return None
        rows = [self.rows[image] for item in items for image in item.images]
        return [self.images.sizes[row] for row in rows]

    def question(self, item: Item) -> Question:
        """The question and the turns before it, without images where they are withheld."""
        perceived = NOTHING_PERCEIVED
        if self.images is not None:
            known = [self.images.perceived(self.rows[image]) for image in item.images]
            perceived = Perceived.of_images(known)
        turns = item.turns(shown=self.images is not None)
        sized = has_places(turns) or perceived.objects is not None
        return Question(turns, said_sizes(item) if sized else [], perceived)


def said_sizes(item: Item) -> list[Size]:
    """(width, height) of every image of the item, as its annotation says of the first."""
    first = item.size or image_size(item.image)
    return [first, *(image_size(image) for image in item.more_images)]


def has_places(turns: Sequence[Turn]) -> bool:
    """Whether boxes or points have to be written."""
    return any(turn.boxes or turn.points for turn in turns)


def image_paths(items: Sequence[Item]) -> list[str]:
    """The images of a group, each once."""
    return list(dict.fromkeys(image for item in items for image in item.images))

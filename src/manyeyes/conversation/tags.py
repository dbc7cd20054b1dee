"""Image tags in the prompt (LION §4.2): one sentence after an image, with or without a soft slot.

    soft   According to <extra_id_0>, you are allowed to use or partially use the following tags:
           [a, b].
    hard   You are allowed to use or partially use the following tags: [a, b].
    none   no sentence

The slot is one token whose embedding the bridge replaces by a trainable vector. The words are
LION's; what is left of them in ``hard`` is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from manyeyes.errors import DataError
from manyeyes.records import BOXES_PLACEHOLDER, IMAGE_PLACEHOLDER, POINTS_PLACEHOLDER, Tags, Turn

SLOT = "<extra_id_0>"
"""The slot of the soft prompt: the first sentinel of T5, added to tokenizers that lack it."""

_SENTENCE = "ou are allowed to use or partially use the following tags: [{}]. "
SENTENCES = {"soft": f"According to {SLOT}, y{_SENTENCE}", "hard": f"Y{_SENTENCE}", "none": ""}
"""The sentence of every variant; the question follows directly."""

VARIANTS = tuple(SENTENCES)

SEPARATOR = ", "

_RESERVED = re.compile(
    "|".join(map(re.escape, (SLOT, IMAGE_PLACEHOLDER, BOXES_PLACEHOLDER, POINTS_PLACEHOLDER)))
)
_WRITTEN = re.compile(
    "|".join(
        re.escape(sentence).replace(re.escape("{}"), ".*?")
        for sentence in SENTENCES.values()
        if sentence
    )
)
_IMAGE_LINE = re.compile(f"{IMAGE_PLACEHOLDER}\\n?")


def tag_sentence(tags: Sequence[str], variant: str) -> str:
    """Return the sentence of ``variant`` about ``tags``, in their order; no tag leaves ``[]``.

    Reserved words inside a tag are taken out, and so are line breaks and tags that are empty then.
    """
    clean = (" ".join(_RESERVED.sub(" ", tag).split()) for tag in tags)
    return SENTENCES[variant].replace("{}", SEPARATOR.join(tag for tag in clean if tag))


def without_slots(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns without the slot's word, which people and data may have written.

    It would be read as a second slot (LION §9.4).
    """
    return [replace(turn, text=_without_slot(turn.text)) for turn in turns]


def without_sentence(text: str) -> str:
    """Return a prompt without the sentences that ``put_tags`` put in."""
    return _WRITTEN.sub("", text)


def put_tags(turns: Sequence[Turn], tags: Tags, variant: str) -> list[Turn]:
    """Return the turns with every image's sentence directly after its placeholder's line.

    Images count in reading order; a conversation without images stays as it is.
    """
    sentences = iter([tag_sentence(names, variant) for names in tags])
    return [
        replace(
            turn, text=_IMAGE_LINE.sub(lambda found: found.group() + next(sentences), turn.text)
        )
        for turn in turns
    ]


def check_tags(tags: Tags | None, images: int, where: str) -> Tags:
    """Return the tags of ``images`` images, which a model with tags must be given.

    Raises:
        DataError: there are none, or not one list per image.
    """
    if tags is None and images:
        raise DataError(
            f"{where}: the model reads tags, but the images have none; write them once with "
            "`manyeyes tag` and name the file in the data source (`tags: FILE`), or hand them over"
        )
    if len(tags or ()) != images:
        raise DataError(f"{where}: tags of {len(tags or ())} images, but {images} image(s)")
    return tags or ()


def shortened(tags: Tags, number: int) -> Tags:
    """Return the first ``number`` tags of all images together; every image keeps its list."""
    kept = []
    for names in tags:
        kept.append(tuple(names[:number]))
        number -= len(kept[-1])
    return tuple(kept)


def fitting(tags: Tags, fits: Callable[[Tags], bool]) -> Tags:
    """Return as many tags as ``fits`` allows, the first ones; none where not even that fits."""
    total = sum(len(names) for names in tags)
    if fits(tags):
        return tags
    least, most = 0, max(0, total - 1)
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if fits(shortened(tags, middle)) else (least, middle - 1)
    return shortened(tags, least)


def _without_slot(text: str) -> str:
    while SLOT in text:  # taking one out may put another together
        text = re.sub(" ?" + re.escape(SLOT), "", text)
    return text

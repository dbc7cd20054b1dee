"""Pictures with their texts: the sample that encoders are judged on."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from manyeyes.data.files import iter_samples
from manyeyes.errors import DataError, UsageError, nearest
from manyeyes.images.reading import image_size
from manyeyes.records import Sample

LEAST = 24
"""Pictures below which nothing is chosen: intervals over fewer say nothing."""
TEXTS = ("answers", "all")
"""What of a conversation counts as a picture's text: what is answered, or questions as well."""
WORLD_FILES = ("llava/train_captions.json", "llava/train.json")
"""Where a folder of the world, or one like it, has texts: the first one found is read."""

_PLACEHOLDER = re.compile(r"<(?:image|boxes|points)>")


@dataclass(frozen=True)
class Pairs:
    """``images`` and ``texts``, one of each per picture, of ``found`` pictures that have a text."""

    images: tuple[str, ...]
    texts: tuple[str, ...]
    found: int
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def read_pairs(
    files: Sequence[Path],
    images: Path | None = None,
    *,
    count: int,
    seed: int = 0,
    texts: str = "answers",
) -> Pairs:
    """Return ``count`` pictures, drawn by ``seed``, each with all that its rows say of it.

    Rows with several pictures are left out. Where there are fewer pictures all are taken.

    Raises:
        UsageError: fewer pictures with a text than ``LEAST``, texts that do not differ, or no such
            kind of text. DataError: a file, row or picture is broken.
    """
    if texts not in TEXTS:
        raise UsageError(f"--texts {texts!r}{nearest(texts, TEXTS)}: one of {', '.join(TEXTS)}")
    said: dict[str, dict[str, None]] = {}
    for file in files:
        for sample in iter_samples(file, image_root=images):
            if len(sample.images) == 1:
                said.setdefault(sample.images[0], {}).update(dict.fromkeys(_said(sample, texts)))
    found = {image: " ".join(parts) for image, parts in said.items() if parts}
    _check(found, len(said), texts)
    chosen = random.Random(seed).sample(sorted(found), min(count, len(found)))
    for image in chosen:
        image_size(image)  # a missing or broken picture is told before anything is encoded
    names = tuple(str(file) for file in files)
    return Pairs(tuple(chosen), tuple(found[image] for image in chosen), len(found), names)


def world_files(folder: Path) -> tuple[list[Path], Path]:
    """Return the text file of a world's folder, and where its images lie.

    Raises:
        DataError: there is none.
    """
    for name in WORLD_FILES:
        if (folder / name).is_file():
            return [folder / name], folder / "images"
    raise DataError(
        f"holds neither {' nor '.join(WORLD_FILES)}; name your own file with --train",
        file=str(folder),
    )


def _said(sample: Sample, texts: str) -> Iterable[str]:
    """What a row says of its picture, without what stands for pictures and places."""
    for turn in sample.turns:
        if turn.role == "assistant" or (texts == "all" and turn.role == "user"):
            text = " ".join(_PLACEHOLDER.sub(" ", turn.text).split())
            if any(letter.isalnum() for letter in text):
                yield text


def _check(found: dict[str, str], pictures: int, texts: str) -> None:
    if len(found) < LEAST:
        hint = "" if texts == "all" else "; --texts all counts the questions too"
        silent = "" if pictures < LEAST else " with a text"
        raise UsageError(
            f"{len(found)} pictures{silent}, but a choice needs at least {LEAST}"
            + (hint if silent else "")
        )
    different = len(set(found.values()))
    if different < LEAST // 2:
        raise UsageError(
            f"{len(found)} pictures have {different} different texts: nothing could be alike to "
            "them; give captions or descriptions"
        )

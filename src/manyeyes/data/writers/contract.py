"""What a writer is, and what all writers share: extra keys and image paths.

The keys ``boxes``, ``points``, ``box_image`` and ``task`` are those that the readers of
conversations take (see ``readers/conversation``). What benchmarks need besides (``Sample.meta``) is
not written.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from manyeyes.errors import DataError, UsageError
from manyeyes.files import write_bytes, written_file
from manyeyes.images.reading import FORMATS, image_size
from manyeyes.records import PackedImage, Sample


@dataclass(frozen=True)
class ImagePlaces:
    """Where written image paths start, and where images out of containers are saved.

    ``root``: folder that relative paths of the output start from. ``folder``: name of the folder
    under it for images out of tars and parquet files. ``embed``: put the images into the file
    instead, if the format can hold them.
    """

    root: Path
    folder: str
    embed: bool = False

    def path(self, image: str) -> str:
        """The path to write for an image; one out of a container is saved first.

        Raises:
            DataError: an image out of a container cannot be read.
            UsageError: another image has its place. WriteError: it cannot be saved.
        """
        if isinstance(image, PackedImage):
            return self._saved(image)
        return self.relative(image)

    def relative(self, image: str) -> str:
        """A path below the root without the root; any other as an absolute one."""
        path = os.path.abspath(image)
        root = os.path.abspath(self.root)
        return os.path.relpath(path, root) if Path(path).is_relative_to(root) else path

    def data(self, image: str) -> bytes:
        """The encoded image file.

        Raises:
            DataError: it cannot be read, or is no image of a known format.
        """
        image_size(image)
        try:
            return image.read() if isinstance(image, PackedImage) else Path(image).read_bytes()
        except OSError as error:
            raise DataError(f"cannot be read: {error}", file=str(image)) from error

    def _saved(self, image: PackedImage) -> str:
        data = self.data(image)
        inside = PurePosixPath(image.removeprefix(image.container)).parts
        parts = [part for part in inside if part not in ("/", "..", ".")]
        name = os.path.join(self.folder, Path(image.container).stem, *parts)
        if not Path(name).suffix:
            name += _ending(data)
        target = self.root / name
        if target.is_file() and target.read_bytes() != data:
            raise UsageError(f"{target} exists and is another image: choose another --out")
        write_bytes(target, data)
        return name


Write = Callable[[Iterable[Sample], Path, ImagePlaces], None]


@dataclass(frozen=True)
class Writer:
    """One format: the endings of its files, ``write(samples, path, places)``, can it hold images.

    ``whole``: conversations come back as they were; else there is one row for each answer.

    ``write`` takes samples as they come and keeps few of them; it raises ``DataError`` for one that
    the format cannot hold.
    """

    description: str
    suffixes: tuple[str, ...]
    write: Write
    embeds: bool = False
    whole: bool = True


def extra_keys(sample: Sample) -> dict[str, Any]:
    """Id, task, boxes and points of a sample as the conversation readers take them.

    Raises:
        DataError: boxes of one sample lie in several images.
    """
    found: dict[str, Any] = {"id": sample.id}
    if sample.task is not None:
        found["task"] = sample.task
    boxes = [list(map(list, group)) for turn in sample.turns for group in turn.boxes]
    points = [list(map(list, group)) for turn in sample.turns for group in turn.points]
    images = {turn.box_image for turn in sample.turns if turn.boxes or turn.points}
    if len(images) > 1:
        raise DataError(f"sample {sample.id!r}: its boxes lie in several images, which has no form")
    found |= {"boxes": boxes} if boxes else {}
    found |= {"points": points} if points else {}
    found |= {"box_image": images.pop()} if images - {0} else {}
    return found


def write_json(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows one by one: as JSON lines if the path ends in .jsonl, else as one list."""
    lines = path.suffix == ".jsonl"
    with written_file(path) as partial, open(partial, "w", encoding="utf-8") as stream:
        stream.write("" if lines else "[\n")
        for number, row in enumerate(rows):
            stream.write("" if lines or number == 0 else ",\n")
            stream.write(json.dumps(row, ensure_ascii=False) + ("\n" if lines else ""))
        stream.write("" if lines else "\n]\n")


def _ending(data: bytes) -> str:
    """The usual ending of an image file by its content; "" for what is no image."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return f".{(image.format or '').lower()}".replace(".jpeg2000", ".jp2")
    except Exception:  # decoders raise nearly everything on damaged data
        return ""

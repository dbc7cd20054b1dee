"""What a trained arm depends on, as hashes: recipe, data, parts, code, files it is examined with.

A finished arm is run again only where one of these changed. Annotation files count by their
content, their images by name and size; checkpoints in folders by the content of their weights and
configuration, those of the hub by the revision in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import manyeyes
from manyeyes.checkpoints import hub
from manyeyes.encoders import FILE
from manyeyes.errors import CheckpointError, DataError
from manyeyes.files import file_sha256
from manyeyes.inference.questions import Item
from manyeyes.recipes import DataSource, Recipe, stage_model
from manyeyes.recipes.sources import LocatedSource, locate_source
from manyeyes.records import PackedImage
from manyeyes.training.saving.results import data_hash

RECIPE, DATA, PARTS, CODE, TOLD = "recipe", "data", "parts", "code", "told"

_PART_KEYS = ("checkpoint", "tokenizer")
_PART_FILES = (".json", ".safetensors", ".model", ".txt", ".bin", ".pth")


class Inputs:
    """Hashes what runs depend on; every file is read once, however many arms name it."""

    def __init__(self, data_dir: Path | None) -> None:
        self.data_dir = data_dir
        self._sources: dict[DataSource, str] = {}
        self._images: dict[DataSource, str] = {}
        self._parts: dict[str, str] = {}

    def of_training(self, recipe: Recipe) -> dict[str, str]:
        """Return the hash of everything that decides the weights of one run.

        Raises:
            UsageError, DataError, CheckpointError: a data file or part is missing or broken.
        """
        said = recipe.model_dump(mode="json", exclude={"name", "description", "world"})
        sources = [self._source(source) for stage in recipe.stages for source in stage.data]
        return {
            RECIPE: digest_of(said),
            DATA: digest_of(list(dict.fromkeys(sources))),
            PARTS: digest_of({name: self._part(name) for name in sorted(set(_parts(said)))}),
            CODE: manyeyes.__version__,
        }

    def of_stages(self, recipe: Recipe) -> dict[str, str]:
        """Return stage -> hash of everything that decides the weights at its end.

        Raises: as `of_training`.
        """
        found: dict[str, str] = {}
        for place, stage in enumerate(recipe.stages):
            model = stage_model(recipe, stage)
            if place < len(recipe.stages) - 1:
                model.pop("tagger", None)  # training reads files; only the last model is asked
            said = stage.model_dump(mode="json", exclude={"model"})
            parts = sorted({*_parts(model), *_parts(said)})
            found[stage.name] = digest_of(
                {
                    "before": list(found.values()),
                    "said": [recipe.seed, recipe.dtype, place, model, said],
                    DATA: [self._source(source) for source in stage.data],
                    PARTS: {name: self._part(name) for name in parts},
                    CODE: manyeyes.__version__,
                }
            )
        return found

    def of_exam(self, recipe: Recipe, split: str) -> dict[str, str]:
        """Return the hash of the file of tags or objects that a trained arm is told at its exam.

        Empty where it is told nothing of a file. Raises: DataError: the file is missing.
        """
        model = stage_model(recipe, recipe.stages[-1])
        tagger, text = model.get("tagger") or {}, model.get("perception_text") or {}
        names = [tagger.get("checkpoint") if tagger.get("family") == FILE else None]
        names.append(text.get("file"))
        files = [str(name).replace("{split}", split) for name in names if name is not None]
        if not files or self.data_dir is None:
            return {}
        return {TOLD: digest_of([_file_digest(self.data_dir / file) for file in files])}

    def _source(self, source: DataSource) -> str:
        known = source.model_copy(update={"weight": 1.0})
        if known not in self._sources:
            located = locate_source(known, self.data_dir)
            found = _source_files(known, located)
            self._sources[known] = digest_of({**found, "images": self._images_of(known, located)})
        return self._sources[known]

    def _images_of(self, source: DataSource, located: LocatedSource) -> str:
        """Return the hash of the images that a file names, whatever else is told of them."""
        file = source.model_copy(update={"tags": None, "objects": None})
        if file not in self._images:
            self._images[file] = _images_digest(located)
        return self._images[file]

    def _part(self, checkpoint: str) -> str:
        if checkpoint not in self._parts:
            self._parts[checkpoint] = part_digest(checkpoint)
        return self._parts[checkpoint]


def exam_digest(items: Sequence[Item], data_dir: Path) -> str:
    """Return the hash of questions: ids, prompts, images, what fills and what answers them."""
    rows = [
        (
            item.id,
            item.prompt,
            (_relative(item.image, data_dir), _size(item.image)),
            (item.boxes, item.points, item.choices, item.candidates),
            (item.answer, item.references, item.target),
            *_conversation(item, data_dir),
        )
        for item in items
    ]
    return digest_of(rows)


def _conversation(item: Item, data_dir: Path) -> list[Any]:
    """Further images and earlier turns; nothing for an item without, whose hash is as before."""
    if not (item.more_images or item.before):
        return []
    images = [(_relative(image, data_dir), _size(image)) for image in item.more_images]
    return [(images, [asdict(turn) for turn in item.before])]


def digest_of(value: Any) -> str:
    """Return a short SHA-256 of JSON data."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def part_digest(checkpoint: str) -> str:
    """Return what identifies a checkpoint: the content of a folder, or the hub's revision.

    Raises:
        CheckpointError: a ``world:`` part that does not ship with this installation.
    """
    place = Path(hub.resolve(checkpoint))
    if place.is_file():
        return file_sha256(place)
    if not place.is_dir():
        try:
            place = hub.weights_folder(checkpoint)
        except CheckpointError:
            return checkpoint
        return f"{checkpoint}@{place.name}"  # the cache calls a snapshot by its commit
    files = sorted(file for file in place.iterdir() if file.suffix in _PART_FILES)
    return digest_of([(file.name, file_sha256(file)) for file in files])


def _parts(value: Any) -> Iterator[str]:
    """Yield every checkpoint that a recipe names."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in _PART_KEYS and isinstance(item, str):
                yield item
            else:
                yield from _parts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _parts(item)


def _source_files(source: DataSource, located: LocatedSource) -> dict[str, Any]:
    """What is said of a source, and the hashes of its files."""
    files = {"file": located.path, "annotations": located.options.annotations}
    beside = {
        "tags": None if located.tags is None else located.tags.file,
        "objects": None if located.objects is None else located.objects.path,
    }
    files |= {key: file for key, file in beside.items() if file is not None}
    said = source.model_dump(mode="json", exclude={"weight", "path", "image_root"})
    hashes = {key: None if file is None else _file_digest(file) for key, file in files.items()}
    return {"said": said, **hashes}


def _file_digest(file: str | Path) -> str:
    try:
        return data_hash(str(file))
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror})", file=str(error.filename or file)
        ) from error


def _images_digest(located: LocatedSource) -> str:
    samples, _ = located.read()
    root = Path(located.options.image_root or ".")
    images = dict.fromkeys(image for sample in samples for image in sample.images)
    return digest_of([(_relative(image, root), _size(image)) for image in images])


def _size(image: Any) -> int:
    if isinstance(image, PackedImage):
        return 0  # inside the data file, which is hashed
    try:
        return Path(image).stat().st_size
    except OSError:
        return -1  # training names it


def _relative(image: str, root: Path) -> str:
    """Where an image lies in ``root``; its name where that is elsewhere."""
    folder, name = os.path.split(os.path.abspath(image))
    try:
        inside = _resolved(folder).relative_to(_resolved(os.path.abspath(root)))
        return (inside / name).as_posix()
    except ValueError:
        return name


@lru_cache(maxsize=1024)
def _resolved(folder: str) -> Path:
    return Path(folder).resolve()

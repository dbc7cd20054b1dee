"""From a recipe's data source to what the readers take: files in the data folder, and options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from manyeyes.data.annotations.tags import read_tags, with_tags
from manyeyes.data.containers.rows import SourceOptions
from manyeyes.data.exclusion import Exclusion, read_exclusion
from manyeyes.data.files import FileReport, read_samples
from manyeyes.data.opened_images import OpenImages
from manyeyes.errors import UsageError
from manyeyes.recipes.blocks import DataSource, TagsSource
from manyeyes.records import Sample, Use

_KEPT_EXCLUSIONS = 8
_KEPT_TAGS = 4


@dataclass(frozen=True)
class LocatedObjects:
    """Where the objects of a source's images are (None = the model looks) and how they are used."""

    path: Path | None
    use: Use


@dataclass(frozen=True)
class LocatedSource:
    """One data file with how to read it and which images to keep out."""

    path: Path
    format: str
    options: SourceOptions
    exclusion: Exclusion | None
    limit: int | None
    objects: LocatedObjects | None = None
    tags: TagsSource | None = None

    def read(
        self, *, skip_bad_rows: bool = True, open_images: OpenImages | None = None
    ) -> tuple[list[Sample], FileReport]:
        """Read the file as `read_samples` does, within ``limit`` and without what is kept out."""
        return read_samples(
            self.path,
            format=self.format,
            options=self.options,
            skip_bad_rows=skip_bad_rows,
            limit=self.limit,
            exclusion=self.exclusion,
            open_images=open_images,
        )

    def tagged(self, samples: list[Sample], seed: int) -> list[Sample]:
        """Return the samples with their images' tags, if the source has any; ``seed`` shuffles.

        Raises:
            DataError: a missing or broken tags file, or images that it does not name.
        """
        if self.tags is None:
            return samples
        file = self.tags.file
        known = {} if file is None else _tags(file, self.options.image_root)
        return with_tags(samples, known, self.tags.use, file=file or "", seed=seed)


def locate_source(source: DataSource, data_dir: Path | None) -> LocatedSource:
    """Find a source's files.

    Raises:
        UsageError: relative paths without a data folder.
        DataError: a file of images to exclude is broken.
    """
    path = _place(data_dir, source.path)
    root = path.parent if source.image_root is None else _place(data_dir, source.image_root)
    annotations = None
    if source.annotations is not None:
        annotations = os.fspath(_place(data_dir, source.annotations))
    options = SourceOptions(
        os.fspath(root),
        annotations=annotations,
        image_name=source.image_name,
        split=source.split,
        full_answer=source.full_answer,
        refine=source.refine,
        caption_prompt=source.caption_prompt,
        text_boxes=source.text_boxes,
    )
    files = tuple(os.fspath(_place(data_dir, name)) for name in source.exclude)
    exclusion = _exclusion(files) if files else None
    objects = None
    if source.objects is not None:
        name = source.objects.path
        found = None if name is None else _place(data_dir, name)
        objects = LocatedObjects(found, source.objects.use)
    tags = source.tags
    if tags is not None and tags.file is not None:
        tags = tags.model_copy(update={"file": os.fspath(_place(data_dir, tags.file))})
    return LocatedSource(path, source.format, options, exclusion, source.limit, objects, tags)


@lru_cache(maxsize=_KEPT_TAGS)
def _tags(file: str, image_root: str) -> Mapping[str, tuple[str, ...]]:
    """Stages often name the same file."""
    return read_tags(file, image_root)


@lru_cache(maxsize=_KEPT_EXCLUSIONS)
def _exclusion(files: tuple[str, ...]) -> Exclusion:
    """Stages and sources often name the same evaluation sets."""
    return read_exclusion(files)


def _place(data_dir: Path | None, path: str) -> Path:
    if Path(path).is_absolute():
        return Path(path)
    if data_dir is None:
        raise UsageError(f"the recipe's data {path!r} is relative: give its folder with --data")
    return data_dir / path

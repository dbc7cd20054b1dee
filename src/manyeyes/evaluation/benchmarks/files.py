"""Finding a benchmark's files and images in a data folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from manyeyes.data.files import iter_samples
from manyeyes.data.rows import SourceOptions
from manyeyes.errors import DataError
from manyeyes.evaluation.benchmarks.contract import Source
from manyeyes.records import Sample

_IMAGE_FOLDERS = ("", "images/{split}", "images", "{split}")


def find_file(source: Source, patterns: Sequence[str], what: str) -> Path:
    """The first of the named files that exists in the data folder.

    Raises:
        DataError: none exists; the message names all of them.
    """
    names = [pattern.format(split=source.split) for pattern in patterns]
    for name in names:
        path = source.data_dir / name
        if path.is_file():
            return path
    if not source.data_dir.is_dir():
        raise DataError("no such data folder", file=str(source.data_dir))
    message = f"holds no {what} for split {source.split!r}; expected one of: {', '.join(names)}"
    raise DataError(message, file=str(source.data_dir))


def load_samples(
    source: Source, path: Path, format: str, *, annotations: Path | None = None
) -> list[Sample]:
    """Read a file in one known format and find its images in the data folder.

    Images are looked for as written (from the data folder), then under ``images/SPLIT``, ``images``
    and ``SPLIT``. Whether they exist is not checked here.

    Raises:
        DataError: the first broken row, with file, line and key; or a file without rows.
    """
    answers = None if annotations is None else str(annotations)
    options = SourceOptions(str(source.data_dir), annotations=answers)
    found: dict[str, str] = {}
    samples = []
    for sample in iter_samples(path, format=format, options=options):
        written = sample.images[0]
        if written not in found:
            found[written] = _find_image(source, written)
        samples.append(replace(sample, images=(found[written],)))
    if not samples:
        raise DataError("holds no rows", file=str(path))
    return samples


def _find_image(source: Source, written: str) -> str:
    """The path of an image that a file names, or the name itself where nothing is found."""
    root = source.data_dir.resolve()
    path = Path(written)
    name = path.resolve().relative_to(root) if path.resolve().is_relative_to(root) else path
    for folder in _IMAGE_FOLDERS:
        candidate = source.data_dir / folder.format(split=source.split) / name
        if candidate.is_file():
            return str(candidate)
    return written

"""The data half of ``manyeyes check``: every broken row of files, folders and worlds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from manyeyes.cli.output import Output
from manyeyes.data.containers.documents import open_document
from manyeyes.data.files import FileReport, check_file
from manyeyes.data.opened_images import ImageOpener, OpenImages, open_images
from manyeyes.errors import DataError
from manyeyes.world.make import MANIFEST, check_world

DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".tar")
MAX_LEAKS = 10
"""Samples with images to exclude that are shown per file; the JSON report holds more."""


def check_data(output: Output, path: Path, image_root: Path | None) -> dict[str, Any]:
    """Check a data file, or all data files under a folder; return the JSON report."""
    report: dict[str, Any] = {"target": str(path), "kind": "data"}
    others: list[str] = []
    with opening(output) as open_images:
        if not path.is_dir():
            files = [_check_one(path, image_root, path.parent, open_images)]
        elif (path / MANIFEST).is_file():
            files, others = _check_folder(path, path / "images", open_images, empty_is_fine=True)
        else:
            files, others = _check_folder(path, image_root, open_images)
    report |= report_files(output, files, others)
    return report | _check_made(output, path) if (path / MANIFEST).is_file() else report


@contextmanager
def opening(output: Output) -> Iterator[OpenImages]:
    """Yield what opens the pictures of all files, each once, and shows how far it is."""
    with output.progress() as report:
        yield ImageOpener(partial(open_images, progress=partial(report, "images")))


def report_files(
    output: Output, files: Sequence[FileReport], others: Sequence[str] = ()
) -> dict[str, Any]:
    """Print what was found in every file, broken rows first of all; return it as JSON data."""
    for file in files:
        show_file(output, file)
    if others:
        output.line(f"{len(others)} other JSON files are no training data and were not checked")
    return {
        "ok": not any(file.broken for file in files),
        "files": [file_json(file) for file in files],
        "not_checked": list(others),
    }


def show_file(output: Output, file: FileReport) -> None:
    """Print how many rows were good, and the broken and excluded ones by name."""
    opened = f"; {file.images} images opened, {file.unreadable} unreadable" if file.images else ""
    found = f"{file.samples} samples ({file.format}), {file.broken} broken{opened}"
    output.line(f"{file.path}: {found}")
    for error in file.errors:
        output.line(f"  {error}")
    if file.broken > len(file.errors):
        output.line(f"  ... and {file.broken - len(file.errors)} more")
    if file.excluded:
        output.line(f"  {file.excluded} samples show images to exclude and are left out:")
    for leak in file.leaks[:MAX_LEAKS]:
        output.line(f"    {leak}")
    if file.excluded > MAX_LEAKS:
        output.line(f"    ... and {file.excluded - MAX_LEAKS} more")


def file_json(file: FileReport) -> dict[str, Any]:
    """A file's report as JSON data."""
    places = ("file", "line", "entry", "key")
    errors = [
        {"message": str(error), **{place: getattr(error, place) for place in places}}
        for error in file.errors
    ]
    return {
        "path": file.path,
        "format": file.format,
        "samples": file.samples,
        "broken": file.broken,
        "errors": errors,
        "excluded": file.excluded,
        "leaks": list(file.leaks),
        "images": file.images,
        "unreadable": file.unreadable,
    }


def _check_one(
    path: Path, image_root: Path | None, guess: Path, open_images: OpenImages
) -> FileReport:
    """Check a file; where no image is found under a guessed root but elsewhere, say that alone."""
    root = image_root or guess
    report = check_file(path, root, open_images=open_images)
    if image_root is not None or report.samples or "no such image file" not in str(report.errors):
        return report
    for other in (guess / "images", path.parent / "images", path.parent.parent / "images"):
        if other.is_dir() and check_file(path, other, open_images=lambda paths: {}).samples:
            message = f"no image was found under {root}, but under {other}: --image-root {other}"
            error = DataError(message, file=str(path))
            return replace(report, broken=1, errors=(error,))
    return report


def _check_made(output: Output, path: Path) -> dict[str, Any]:
    """Compare the files of a world with their hashes."""
    changed = check_world(path)
    for name in changed:
        output.line(f"{path / name}: missing, or not as it was made")
    return {"changed": changed, **({"ok": False} if changed else {})}


def _check_folder(
    folder: Path, image_root: Path | None, open_images: OpenImages, *, empty_is_fine: bool = False
) -> tuple[list[FileReport], list[str]]:
    """Return reports of the data files under ``folder``, and the JSON files of other kinds.

    ``empty_is_fine``: a small world has splits about which some questions cannot be asked.

    Raises:
        DataError: there is no data file at all.
    """
    files, others = [], []
    for path in sorted(folder.rglob("*")):
        if path.suffix not in DATA_SUFFIXES or not path.is_file():
            continue
        if empty_is_fine and path.stat().st_size == 0:
            others.append(str(path))
            continue
        report = _check_one(path, image_root, folder, open_images)
        if report.samples or not _is_other(path, report):
            files.append(report)
        else:
            others.append(str(path))
    if not files:
        raise DataError("holds no data file of a known format", file=str(folder))
    return files, others


def _is_other(path: Path, report: FileReport) -> bool:
    """Tell readable files of another kind, and answers that are read with their questions."""
    if report.format not in ("auto", "vqa"):
        return False
    try:
        document = open_document(path)
    except DataError:
        return False
    return report.format == "auto" or "questions" not in document.content

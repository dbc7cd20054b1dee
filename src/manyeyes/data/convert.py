"""Data files from one format to another, row by row: any reader's format in, any writer's out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from manyeyes.data.containers.rows import SourceOptions, strict
from manyeyes.data.files import FileReport, Tally, outcomes_of
from manyeyes.data.writers import WRITERS, ImagePlaces, Writer
from manyeyes.errors import DataError, ImageError, UsageError, nearest
from manyeyes.images.reading import image_size
from manyeyes.records import PackedImage, Sample

Progress = Callable[[int], None]
"""Called with the number of samples written so far."""

_STEP = 100


def convert_file(
    source: str | Path,
    out: str | Path,
    to: str,
    *,
    format: str = "auto",
    image_root: str | Path | None = None,
    embed: bool = True,
    skip_bad_rows: bool = False,
    progress: Progress | None = None,
) -> FileReport:
    """Convert a data file; return what was found in it.

    Args:
        source: a file, or shards by a range, of any known format.
        out: the file to write; it appears whole or not at all.
        to: a key of ``WRITERS``.
        format: a key of ``READERS``, or ``auto``.
        image_root: folder that image paths start from, in the input and in the output; by default
            that of the input and that of the output.
        embed: put the images into the output where its format can hold them.
        skip_bad_rows: leave broken rows out, counted and named.

    Raises:
        DataError: a broken row, unless ``skip_bad_rows``; no sample at all; an unreadable image.
        UsageError: an unknown format, a wrong ending of ``out``, or a file that is there already.
    """
    path = Path(out)
    writer = _writer(to, path)
    options = SourceOptions(str(image_root or Path(source).parent))
    name, outcomes = outcomes_of(source, format, options)
    tally = Tally(str(source), name)
    embed = embed and writer.embeds
    checked = (_readable(outcome, every=embed) for outcome in outcomes)
    samples = _good_samples(checked, tally, skip_bad_rows, progress)
    first = next(samples, None)
    if first is None:
        raise DataError(f"holds no usable sample{tally.reason()}", file=str(source))
    places = ImagePlaces(Path(image_root or path.parent), f"{path.stem}_images", embed)
    writer.write(chain((first,), samples), path, places)
    return tally.report()


def _writer(to: str, path: Path) -> Writer:
    if to not in WRITERS:
        known = ", ".join(WRITERS)
        raise UsageError(f"unknown format to write {to!r}{nearest(to, WRITERS)}; known: {known}")
    writer = WRITERS[to]
    if path.suffix not in writer.suffixes:
        wanted = " or ".join(writer.suffixes)
        raise UsageError(f"{path}: expected a name that ends in {wanted} for {to!r}")
    if path.exists():
        raise UsageError(f"{path} exists: choose a new file")
    return writer


def _readable(outcome: Sample | DataError, *, every: bool) -> Sample | DataError:
    """The sample, or what is wrong with an image that will be copied: ``every`` one, or packed."""
    if isinstance(outcome, DataError):
        return outcome
    for image in outcome.images:
        if every or isinstance(image, PackedImage):
            try:
                image_size(image)
            except ImageError as error:
                return ImageError(f"sample {outcome.id!r}: {error}")
    return outcome


def _good_samples(
    outcomes: Iterator[Sample | DataError],
    tally: Tally,
    skip_bad_rows: bool,
    progress: Progress | None,
) -> Iterator[Sample]:
    """The good samples; a broken row is counted or raised."""
    for outcome in outcomes if skip_bad_rows else strict(outcomes):
        sample = tally.take(outcome)
        if sample is not None:
            yield sample
            if progress is not None and tally.samples % _STEP == 0:
                progress(tally.samples)

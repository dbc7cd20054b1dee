"""``manyeyes detect``: what a detector finds, and what a model makes of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import ModelOptions
from manyeyes.cli.output import Output, Report
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.data.annotations.image_names import NamedImage
    from manyeyes.perception.refinement import MergeWeights
    from manyeyes.records import Detections
    from manyeyes.serving.detection import Finder, Seen

EXAMPLES = (
    "manyeyes detect runs/mr-mllm/model photo.jpg --json",
    "manyeyes detect facebook/detr-resnet-50 photos --draw drawings",
    "manyeyes detect world:detector --data data/annotations/instances_train.json "
    "--image-root data/images --out data/objects/train.json",
)
BATCH = 16
DRAWN_SCORE = 0.5
"""Objects with this score are drawn."""


@dataclass(frozen=True)
class ImageOptions:
    """Which images are looked at."""

    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE…", help="Images, or folders of images.")
    ] = None
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Look at the images of this data file.")
    ] = None
    image_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of --data's images; default: the file's own."),
    ] = None

    def named(self) -> list[NamedImage]:
        """Return the images; raises ``UsageError`` for none, or for two places."""
        from manyeyes.data.annotations.image_names import images_of, images_under

        if bool(self.images) == (self.data is not None):
            raise UsageError("give either images (or folders of them) or --data FILE")
        if self.data is None:
            return images_under(self.images or [])
        return images_of(self.data, self.image_root or self.data.parent)


@dataclass(frozen=True)
class WrittenOptions:
    """What is written and drawn."""

    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the detector's objects, for training."),
    ] = None
    out_refined: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the refined objects in the same form."),
    ] = None
    draw: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where drawings go; default: beside images that were named."
        ),
    ] = None
    min_score: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out objects with a lower score.")
    ] = 0.05


@dataclass(frozen=True)
class MergeOptions:
    """How the model's list is merged with the detector's."""

    refine: Annotated[
        bool, typer.Option(help="Let the language model correct the list, if it reads objects.")
    ] = True
    gamma: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="How much the model's list counts where both found an object."
        ),
    ] = 0.0
    drop: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of its score that an object loses if only the detector found it.",
        ),
    ] = 0.0
    add: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Score of objects that only the model wrote, as a share of its certainty.",
        ),
    ] = 0.0

    def weights(self) -> MergeWeights | None:
        """Return the weights of the merge; None where nothing is refined."""
        from manyeyes.perception.refinement import MergeWeights

        if not self.refine:
            return None
        return MergeWeights(gamma=self.gamma, drop=self.drop, add=self.add)


def detect(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A manyeyes model with a detector, or a detector's checkpoint."
        ),
    ],
    looked_at: ImageOptions,
    written: WrittenOptions,
    merge: MergeOptions,
    common: ModelOptions,
) -> None:
    """Find objects in images, in COCO's results form, and draw them.

    A model that reads detected objects also writes its own list, which is merged with the
    detector's by --gamma, --drop and --add; at 0, the default, the list stays as it is.
    """
    with common.session() as output:
        from manyeyes.serving.detection import load_finder

        quiet_libraries(debug=common.debug)
        _check_new(written.out, written.out_refined)
        named = looked_at.named()
        finder = load_finder(
            model, weights=merge.weights(), dtype=common.dtype, device=common.device
        )
        with output.progress() as report:
            seen = _look(finder, named, written.min_score, report)
        categories = _categories(finder, looked_at.data)
        for path, refined in ((written.out, False), (written.out_refined, True)):
            if path is not None:
                _write(path, named, seen, categories, refined=refined)
                output.note(f"objects written: {path}")
        other = looked_at.data or written.out or written.out_refined
        drawn = written.draw is not None or not other
        entries = [
            _entry(image, found, categories, written.draw, drawn=drawn)
            for image, found in zip(named, seen, strict=True)
        ]
        _show(output, entries)
        known = [{"id": number, "name": name} for name, number in categories.items()]
        output.result({"images": entries, "categories": known, "out": written.out})


def _check_new(*files: Path | None) -> None:
    """Raise ``UsageError`` for a file to write that is there, or is named twice."""
    given = [file for file in files if file is not None]
    for number, file in enumerate(given):
        if os.path.lexists(file):
            raise UsageError(f"{file} exists: choose a new file")
        if file in given[:number]:
            raise UsageError(f"{file} is named twice: choose another file for the refined objects")


def _look(finder: Finder, named: list[NamedImage], min_score: float, report: Report) -> list[Seen]:
    seen: list[Seen] = []
    for start in range(0, len(named), BATCH):
        paths = [image.path for image in named[start : start + BATCH]]
        seen += finder.find(paths, min_score=min_score)
        report("images", len(seen), len(named))
    return seen


def _categories(finder: Finder, data: Path | None) -> Mapping[str, str | int]:
    """Ids by name: those of the data file, or else the detector's own numbers."""
    from manyeyes.data.annotations.image_names import coco_categories

    own = {label: number for number, label in reversed(list(enumerate(finder.labels)))}
    known = {} if data is None else coco_categories(data)
    if not known:
        return dict(sorted(own.items(), key=lambda item: item[1]))
    missing = [label for label in own if label not in known]
    if missing:
        raise UsageError(
            f"the detector knows {', '.join(missing)}, which {data} has no category for"
        )
    return known


def _write(
    path: Path,
    named: list[NamedImage],
    seen: list[Seen],
    categories: Mapping[str, str | int],
    *,
    refined: bool,
) -> None:
    from manyeyes.data.annotations.objects import ImageObjects, write_objects

    entries = []
    for image, found in zip(named, seen, strict=True):
        if refined and found.refined is None:
            raise UsageError("--out-refined: nothing is refined (see --refine)")
        objects = found.refined.objects if refined and found.refined else found.objects
        entries.append(ImageObjects(image.name, image.id, found.size, objects))
    write_objects(path, entries, categories)


def _entry(
    image: NamedImage,
    found: Seen,
    categories: Mapping[str, str | int],
    folder: Path | None,
    *,
    drawn: bool,
) -> dict[str, Any]:
    """What is printed of one image, after drawing it."""
    from manyeyes.data.annotations.objects import ImageObjects, coco_rows

    lists: dict[str, Detections] = {"detector": found.objects}
    if found.refined is not None:
        lists["refined"] = found.refined.objects
    entry: dict[str, Any] = {
        "image_id": image.id,
        "file_name": image.name,
        "width": found.size[0],
        "height": found.size[1],
    }
    for name, objects in lists.items():
        entry[name] = coco_rows(ImageObjects(image.name, image.id, found.size, objects), categories)
    if found.refined is not None and found.written is not None:
        entry["open_vocabulary"] = found.refined.open_vocabulary
        entry["text"] = found.written.text
        entry["malformed"] = found.written.malformed
    if drawn:
        entry["drawings"] = {
            name: _draw(image.path, objects, folder, name) for name, objects in lists.items()
        }
    return entry


def _draw(path: str, objects: Detections, folder: Path | None, ending: str) -> Path:
    from manyeyes.images.drawing import save_drawing
    from manyeyes.images.reading import load_image
    from manyeyes.serving.detection import drawing_path

    groups: dict[str, list[Any]] = {}
    for found in objects:
        if (found.score or 0.0) >= DRAWN_SCORE:
            groups.setdefault(found.label, []).append(found.box)
    target = drawing_path(path, folder, ending)
    return save_drawing(load_image(path), list(groups.values()), target, list(groups))


def _show(output: Output, entries: list[dict[str, Any]]) -> None:
    for entry in entries:
        output.line(f"{entry['file_name']}  {entry['width']}x{entry['height']}")
        for name in ("detector", "refined"):
            for row in entry.get(name, ()):
                box = ", ".join(f"{value:.1f}" for value in row["bbox"])
                output.line(f"  {name:8}  {row['score']:.2f}  {row['category']}  [{box}]")
        for name, path in entry.get("drawings", {}).items():
            output.line(f"  {name} drawn: {path}")

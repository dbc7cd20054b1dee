"""``manyeyes tag``: the tags of a data file's images, once, into a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manyeyes.cli.libraries import quiet_libraries
from manyeyes.cli.options import DeviceOptions
from manyeyes.cli.output import Output
from manyeyes.errors import UsageError

if TYPE_CHECKING:
    from manyeyes.encoders import TaggerSpec
    from manyeyes.records import TagFeatures

EXAMPLES = (
    "manyeyes tag world:tagger data/llava/train.json --image-root data/images --out tags.jsonl",
    "manyeyes tag lion/world data/images --out tags.jsonl",
    "manyeyes tag ram_swin_large_14m.pth photos --tag-list ram_tag_list.txt "
    "--thresholds ram_tag_list_threshold.txt --out tags.jsonl",
)


def tag(
    tagger: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_OR_RECIPE",
            help="A recipe or trained model with a tagger, an image classifier's folder or hub id, "
            "a world part, or RAM's .pth file.",
        ),
    ],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A data file of any known format, or a folder.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The tags file to write. It must not exist yet.")
    ],
    image_root: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder that image paths start from, in DATA and FILE."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="The format of DATA; auto finds it by content.")
    ] = "auto",
    tag_list: Annotated[
        str | None, typer.Option(metavar="FILE", help="Names of the tags, one a line (RAM).")
    ] = None,
    thresholds: Annotated[
        str | None, typer.Option(metavar="FILE", help="One threshold per tag, one a line (RAM).")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="One threshold for all tags instead.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images tagged together.")] = 16,
    *,
    common: DeviceOptions,
) -> None:
    """Tag images once, so that no training has to do it in every epoch.

    The file names every image of DATA with its tags and their scores. Name it in a recipe's data
    source: `tags: tags.jsonl`.
    """
    with common.session() as output:
        from manyeyes.data.annotations.tags import write_tags
        from manyeyes.inference.tagging import load_tagger
        from manyeyes.model.loading import choose_device

        quiet_libraries(debug=common.debug)
        if out.exists():
            raise UsageError(f"{out} exists: choose a new file")
        lists = {"tags": tag_list, "thresholds": thresholds, "threshold": threshold}
        spec = find_tagger(tagger, {key: v for key, v in lists.items() if v is not None})
        root = image_root or (Path(data) if Path(data).is_dir() else Path(data).parent)
        paths = image_paths(data, root, format)
        loaded: Any = load_tagger(spec).to(choose_device(common.device))
        with output.progress() as report:
            found = _tagged(loaded, paths, batch_size, report)
            number = write_tags(out, [_relative(path, root) for path in paths], found)
        _tell(output, out, len(paths), number)


def find_tagger(name: str, changes: dict[str, Any]) -> TaggerSpec:
    """Return the tagger that a recipe, a trained model, or a checkpoint's own name stands for.

    Raises:
        UsageError: a recipe or model without a ``tagger``.
        RecipeError: no such recipe, or a wrong block.
    """
    from manyeyes.encoders import parse_tagger

    block = _block(name)
    if block is None:
        raise UsageError(f"{name} has no `tagger`: give its block one, or name a tagger directly")
    return parse_tagger({**block, **changes})


def _block(name: str) -> dict[str, Any] | None:
    from manyeyes.recipes import load_recipe, recipe_names

    if name.endswith((".yaml", ".yml")) or name in recipe_names():
        return load_recipe(name).model.get("tagger")
    if name.endswith((".pth", ".pt")):
        return {"family": "ram", "checkpoint": name}
    config = Path(name) / "config.json"
    if config.is_file():
        fields = json.loads(config.read_text(encoding="utf-8"))
        if fields.get("model_type") == "manyeyes":
            return fields.get("tagger")
    return {"family": "classifier", "checkpoint": name}


def image_paths(data: str, root: Path, format: str) -> list[str]:
    """Return the images of a data file, or of a folder and those inside it, each once.

    Raises:
        DataError: a broken data file. UsageError: nothing to tag.
    """
    from manyeyes.data.files import iter_samples

    folder = Path(data)
    if folder.is_dir():
        suffixes = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
        found = sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in suffixes)
    else:
        samples = iter_samples(data, format=format, image_root=root)
        found = list(dict.fromkeys(path for sample in samples for path in sample.images))
    if not found:
        raise UsageError(f"{data} names no image")
    return found


def _tagged(tagger: Any, paths: Sequence[str], batch: int, report: Any) -> Iterator[TagFeatures]:
    from manyeyes.images.reading import load_image
    from manyeyes.inference.tagging import tag_images

    done = 0
    for features in tag_images(tagger, map(load_image, paths), batch):
        done += len(features.names)
        report("images", done, len(paths))
        yield features


def _relative(path: str, root: Path) -> str:
    """Name an image as a data file would: by its path in the image folder, if it lies there."""
    name = os.path.relpath(path, root)
    return os.path.abspath(path) if name.startswith(os.pardir) else name


def _tell(output: Output, out: Path, images: int, tags: int) -> None:
    output.line(f"{out}: {images} images, {tags / images:.1f} tags per image")
    output.result({"out": out, "images": images, "tags": tags})

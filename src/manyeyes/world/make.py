"""Write a world to disk: pictures, ground truth, and everything said about them in public formats.

    DIR/world.json                                     seed, version, sizes, sha256 of every file
    DIR/images/{split}/000000.png
    DIR/scenes/{split}.json                            ground truth, CLEVR's layout
    DIR/annotations/{instances,captions}_{split}.json  COCO
    DIR/annotations/refs_{split}.jsonl, refcoco/       referring expressions
    DIR/annotations/vqa_{split}_{questions,annotations}.json
    DIR/llava/{split}.json, {split}_boxes.json, {split}_captions.json  LLaVA conversations
    ...                                                whatever other formats are asked for

Every file name inside these files is relative to ``DIR/images``. The same seed, version, counts and
formats give the same bytes. All is written into a folder beside DIR and renamed at the end, so DIR
is either absent or whole; a killed run is picked up where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyeyes.errors import DataError, UsageError
from manyeyes.files import held, naming, remove_folder, sync_folder, write_bytes
from manyeyes.world.emit import SplitWorld, chosen_formats, emissions, file_name
from manyeyes.world.emit.pictures import png_bytes
from manyeyes.world.emit.text import json_bytes
from manyeyes.world.sample import IMAGE_SIZE, sample_scene
from manyeyes.world.scene import Scene
from manyeyes.world.splits import SPLITS, split_number

WORLD_VERSION = 2
"""Goes up whenever equal seeds give other files."""

TRAIN_SHARE = 0.8
"""Share of a total number of images that goes to training; the other splits share the rest."""

MANIFEST, PLAN = "world.json", "plan.json"
FORMAT = "manyeyes world"
_PNG_END = b"IEND\xaeB`\x82"
"""Last bytes of every whole PNG."""

Progress = Callable[[str, int, int], None]
"""Called with what is being written, how many are done, and how many there are."""


@dataclass(frozen=True)
class WorldSummary:
    """What a finished world holds: its folder, images per split, number of files, and whether
    this call wrote it (``made``) or found it complete."""

    folder: Path
    images: Mapping[str, int]
    files: int
    made: bool


def make_world(
    out_dir: Path | str,
    *,
    images: int | Mapping[str, int],
    seed: int = 0,
    splits: Sequence[str] = tuple(SPLITS),
    formats: Sequence[str] = ("standard",),
    progress: Progress | None = None,
) -> WorldSummary:
    """Make the world of ``seed`` in ``out_dir``; do nothing if it is there already.

    Args:
        images: images per split, or their total, of which ``TRAIN_SHARE`` go to training.
        splits: which splits to make when ``images`` is a total.
        formats: names out of ``emit.FORMATS`` and ``emit.GROUPS``.
        progress: called after every hundred pictures and every annotation file group.

    Raises:
        UsageError: an unknown split or format, too few images, or a folder that holds something
            else (another seed, version or size, or fewer formats: worlds are never mixed).
        InUseError: another process is making it.
        WriteError: the disk refuses; the same call goes on later.
    """
    out = Path(out_dir)
    counts = split_counts(images, splits)
    chosen = chosen_formats(formats)
    plan = world_plan(counts, seed, chosen)
    found = _existing(out, plan)
    if found is not None:
        return found
    with held(out, beside=True):
        return _existing(out, plan) or _make(out, plan, progress)


def _make(out: Path, plan: dict[str, Any], progress: Progress | None) -> WorldSummary:
    counts, seed, chosen = plan["images"], plan["seed"], plan["formats"]
    work = out.with_name(f".{out.name}.partial")
    _prepare(work, plan)
    hashes: dict[str, str] = {}
    worlds = []
    for name, count in counts.items():
        scenes = tuple(sample_scene(name, index, seed) for index in range(count))
        worlds.append(SplitWorld(name, seed, scenes))
        hashes.update(_write_images(work, scenes, progress))
    hashes.update(_write_annotations(work, worlds, chosen, progress))
    write_bytes(work / MANIFEST, json_bytes({**plan, "sha256": dict(sorted(hashes.items()))}))
    _put_in_place(work, out)
    return WorldSummary(out, counts, len(hashes), made=True)


def split_counts(images: int | Mapping[str, int], splits: Sequence[str]) -> dict[str, int]:
    """Return images per split, in the order of ``SPLITS``; raise ``UsageError`` if impossible."""
    for name in images if isinstance(images, Mapping) else splits:
        split_number(name)
    if isinstance(images, Mapping):
        counts = {name: images[name] for name in SPLITS if name in images}
    else:
        others = [name for name in SPLITS if name in splits and name != "train"]
        share = (1 - TRAIN_SHARE) / len(others) if "train" in splits and others else 0.0
        rest = round(images * share) if share else images // max(1, len(others))
        counts = dict.fromkeys(others, rest)
        if "train" in splits:
            counts = {"train": images - rest * len(others), **counts}
    if not counts or min(counts.values()) < 1:
        raise UsageError(f"every split needs at least one image, got {counts or 'no split'}")
    return counts


def world_plan(counts: Mapping[str, int], seed: int, formats: Sequence[str]) -> dict[str, Any]:
    """Return what identifies a world: equal plans give equal files."""
    return {
        "format": FORMAT,
        "version": WORLD_VERSION,
        "seed": seed,
        "image_size": IMAGE_SIZE,
        "images": dict(counts),
        "formats": list(formats),
    }


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Return a world's ``world.json``; raise ``DataError`` if it is missing or damaged."""
    path = Path(folder) / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError("cannot be read; is this a world?", file=str(path)) from error
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", file=str(path)) from error
    if not isinstance(content, dict) or not isinstance(content.get("sha256"), dict):
        raise DataError("expected an object with the files' hashes", file=str(path), key="sha256")
    return content


def check_world(folder: Path | str) -> list[str]:
    """Return the files of a world that are missing or changed, by the hashes of its manifest."""
    root = Path(folder)
    return [
        name
        for name, digest in read_manifest(root)["sha256"].items()
        if not (root / name).is_file() or _digest((root / name).read_bytes()) != digest
    ]


def _existing(out: Path, plan: dict[str, Any]) -> WorldSummary | None:
    """Return the summary of a world that is already there, None if nothing is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST).is_file():
        raise UsageError(f"{out} exists and is not a world: choose a new folder")
    there = read_manifest(out)
    lacking = [name for name in plan["formats"] if name not in there.get("formats", ())]
    wanted = {key: value for key, value in plan.items() if key != "formats" or lacking}
    differing = {
        key: (there.get(key), value) for key, value in wanted.items() if there.get(key) != value
    }
    if differing:
        told = "; ".join(f"{key} is {old}, wanted {new}" for key, (old, new) in differing.items())
        raise UsageError(f"{out} holds another world ({told}): choose a new folder")
    return WorldSummary(out, dict(plan["images"]), len(there["sha256"]), made=False)


def _prepare(work: Path, plan: dict[str, Any]) -> None:
    """Make the working folder, keeping what an interrupted run of the same plan has written."""
    note = work / PLAN
    if work.exists() and not (note.is_file() and note.read_bytes() == json_bytes(plan)):
        if any(work.iterdir()) and not _is_plan(note):
            raise UsageError(f"{work} is in the way: no world is being made there; move it away")
        remove_folder(work)
    write_bytes(note, json_bytes(plan))


def _is_plan(note: Path) -> bool:
    try:
        return bool(json.loads(note.read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _put_in_place(work: Path, out: Path) -> None:
    """Rename a finished world, in one step, also where an empty folder stands; then tidy it."""
    with naming(out):
        sync_folder(work)
        os.replace(work, out)
        (out / PLAN).unlink()


def _write_images(work: Path, scenes: Sequence[Scene], progress: Progress | None) -> dict[str, str]:
    """Render and save the pictures that are not there yet; return the hashes of all."""
    hashes = {}
    for number, scene in enumerate(scenes, start=1):
        name = f"images/{file_name(scene)}"
        path = work / name
        content = path.read_bytes() if path.is_file() else b""
        if not content.endswith(_PNG_END):  # not there, or cut short when the machine stopped
            content = png_bytes(scene)
            with naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        hashes[name] = _digest(content)
        if progress is not None and (number % 100 == 0 or number == len(scenes)):
            progress(f"images/{scene.split}", number, len(scenes))
    return hashes


def _write_annotations(
    work: Path, worlds: Sequence[SplitWorld], formats: Sequence[str], progress: Progress | None
) -> dict[str, str]:
    """Write the formats of every split; return the files' hashes."""
    hashes = {}
    makers = list(emissions(worlds, formats))
    for done, make in enumerate(makers, start=1):
        for name, content in make().items():
            write_bytes(work / name, content)
            hashes[name] = _digest(content)
        if progress is not None:
            progress("annotations", done, len(makers))
    return hashes


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""The features that probes read: levels of encoders, and the controls that stand beside them.

Shapes: B pictures, N patches, D width, L blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manyeyes.checkpoints import hub, tying
from manyeyes.encoders import ENCODERS, GridEncoder, PixelTransform, parse_encoder
from manyeyes.errors import UsageError
from manyeyes.images.reading import load_image
from manyeyes.layers.feature_norm import STANDARDIZE
from manyeyes.layers.patches import resample_grid
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.pictures.pixels import to_pixels
from manyeyes.model.precision import autocast
from manyeyes.recipes import load_recipe

CHUNK = 64
"""Pictures encoded at a time."""

NOT_PROBED = frozenset(
    "decoder mask_ratio eval_mask_ratio target final_norm keep_prefix resample".split()
)
"""Fields of a recipe's encoder that do not concern its levels as they are."""

LEVEL, CONTROL, PAIR, RANDOM, PIXELS = "level", "control", "pair", "random", "pixels"
"""Kinds of rows: one level; two levels of one encoder; two encoders; untrained; no encoder."""


@dataclass(frozen=True)
class Eye:
    """One encoder to probe, frozen, with all of its levels."""

    name: str
    encoder: GridEncoder
    untrained: GridEncoder
    transform: PixelTransform

    @property
    def blocks(self) -> int:
        """L."""
        return self.encoder.num_blocks(self.encoder.backbone.config)


@dataclass(frozen=True)
class ReadLevel:
    """One row of the table: features of both sets of pictures, ``[B, N, D]`` each."""

    name: str
    kind: str
    eye: str
    level: int | None
    train: Tensor
    held: Tensor


def open_eyes(sources: Sequence[str], *, seed: int = 0) -> tuple[list[Eye], str]:
    """Return the encoders that ``sources`` name, and the geometry in which they see.

    A source is a recipe (``comm/world``), the folder of a trained model, or ``FAMILY=CHECKPOINT``
    (``dinov2=facebook/dinov2-large``).

    Raises:
        UsageError, RecipeError, CheckpointError: no such thing, or two of one name.
    """
    eyes: list[Eye] = []
    geometries: set[str] = set()
    for source in sources:
        found, geometry = _open(source, seed)
        eyes += found
        geometries |= {geometry} if geometry else set()
    if not eyes:
        raise UsageError(
            f"{', '.join(sources)}: no encoder that gives patches, so nothing to probe"
        )
    names = [eye.name for eye in eyes]
    if len(set(names)) != len(names):
        raise UsageError(f"two encoders are called the same: {', '.join(names)}")
    if len(geometries) > 1:
        raise UsageError(f"pictures become square in different ways: {', '.join(geometries)}")
    return eyes, next(iter(geometries), "pad")


@dataclass(frozen=True)
class Source:
    """What a source names: recipes' ``entries`` of encoders, and how pictures become square.

    ``trained``: the encoders of a trained model, beside their entries; None = of a checkpoint.
    ``language``: checkpoint of the language model. FAMILY=CHECKPOINT says no geometry.
    """

    name: str
    entries: tuple[dict[str, Any], ...]
    trained: tuple[Any, ...]
    geometry: str | None = None
    language: str | None = None


def read_source(source: str) -> Source:
    """Return the encoders that a source names (see ``open_eyes``), of whatever kind.

    Raises:
        UsageError, RecipeError, CheckpointError: no such thing.
    """
    family, sign, checkpoint = source.partition("=")
    if sign:
        entry = {"name": family, "family": family, "checkpoint": checkpoint}
        return Source(source, (entry,), (None,))
    if (Path(source) / "config.json").is_file():
        model = ManyEyesForConditionalGeneration.from_pretrained(source, dtype=torch.float32)
        config = model.config
        entries, trained = tuple(config.encoders), tuple(model.encoders.values())
        return Source(
            source, entries, trained, config.geometry, config.language.get("checkpoint") or None
        )
    block = load_recipe(source).model
    entries = tuple(block.get("encoders", []))
    language = (block.get("language") or {}).get("checkpoint")
    geometry = str(block.get("geometry", "pad"))
    return Source(source, entries, (None,) * len(entries), geometry, language)


def _open(source: str, seed: int) -> tuple[list[Eye], str | None]:
    found = read_source(source)
    asked_for = found.geometry is None  # FAMILY=CHECKPOINT, which must give patches
    eyes = [
        open_eye(entry, seed, trained)
        for entry, trained in zip(found.entries, found.trained, strict=True)
        if asked_for or gives_patches(entry)
    ]
    return eyes, found.geometry


def gives_patches(entry: dict[str, Any]) -> bool:
    """Return whether a recipe's encoder has patches to probe."""
    return issubclass(ENCODERS[parse_encoder(entry).family], GridEncoder)


def open_eye(entry: dict[str, Any], seed: int = 0, trained: GridEncoder | None = None) -> Eye:
    """Return an encoder with all levels, with the weights of ``trained`` or of its checkpoint.

    Raises:
        UsageError: it gives objects. CheckpointError, PartError: as the encoder says.
    """
    fields = {k: v for k, v in entry.items() if k not in NOT_PROBED}
    if fields.get("feature_norm") == STANDARDIZE:  # of other levels than those probed
        del fields["feature_norm"]
    spec = parse_encoder({**fields, "levels": "all"})
    family = ENCODERS[spec.family]
    if not issubclass(family, GridEncoder):
        raise UsageError(
            f"encoder {spec.name!r} of family {spec.family!r} gives no patches to probe"
        )
    config = family.read_config(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, untrained = family(spec, config), family(spec, config)
    if trained is not None:
        tying.take(encoder.backbone, trained.backbone)
    else:
        for module in encoder.pretrained_parts().values():
            loaded = hub.load_pretrained(module.__class__, spec.checkpoint, module.config)
            tying.take(module, loaded)
    for module in (encoder, untrained):
        module.to(torch.float32).eval().requires_grad_(False)
    return Eye(spec.name, encoder, untrained, family.transform(spec, config))


@dataclass(frozen=True)
class Reading:
    """How features are read: on which device, at most ``grid`` x ``grid`` patches, in which RAM."""

    geometry: str
    device: torch.device
    grid: int = 16
    memory_gb: float = 4.0

    def levels_at_once(self, eye: Eye, pictures: int) -> int:
        """Return how many levels of all pictures fit into the memory, at least one.

        One also where levels differ in shape: together they would be given on one grid.
        """
        if not eye.encoder.uniform:
            return 1
        config = eye.encoder.backbone.config
        side = eye.transform.size[0] // eye.encoder.patch_size(config)
        width = eye.encoder.width(eye.encoder.spec, config)
        size = 4 * pictures * min(side, self.grid) ** 2 * width
        return max(1, int(self.memory_gb * 1e9 // size))


Told = Callable[[str, int, int], None]


@torch.no_grad()
def read_levels(
    eye: Eye, encoder: GridEncoder, images: Sequence[str], levels: Sequence[int], how: Reading
) -> list[Tensor]:
    """Return the chosen levels of all pictures, ``[B, N, D]`` float32 each, on the CPU."""
    encoder.to(how.device)
    encoder.levels = tuple(levels)
    parts: list[list[Tensor]] = [[] for _ in levels]
    for start in range(0, len(images), CHUNK):
        pixels = _pixels(eye, images[start : start + CHUNK], how).to(how.device)
        with autocast(how.device):
            features = encoder(pixels)
        for kept, level in zip(parts, features.levels, strict=True):
            kept.append(_shrunk(level.float(), features.grid, how.grid).cpu())
    return [torch.cat(kept) for kept in parts]


def read_pixels(eye: Eye, images: Sequence[str], how: Reading) -> Tensor:
    """Return each patch's own pixels, ``[B, N, 3 * patch * patch]``."""
    size = eye.encoder.patch_size(eye.encoder.backbone.config)
    parts = []
    for start in range(0, len(images), CHUNK):
        pixels = _pixels(eye, images[start : start + CHUNK], how)
        cut = pixels.unfold(2, size, size).unfold(3, size, size)
        grid = cut.shape[2], cut.shape[3]
        patches = cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        parts.append(_shrunk(patches, grid, how.grid))
    return torch.cat(parts)


def _pixels(eye: Eye, images: Sequence[str], how: Reading) -> Tensor:
    loaded = [load_image(image) for image in images]
    return to_pixels(loaded, eye.transform, how.geometry, (255, 255, 255))


def _shrunk(patches: Tensor, grid: tuple[int, int], most: int) -> Tensor:
    if max(grid) <= most:
        return patches
    return resample_grid(patches, grid, (most, most), "area")


def rows(
    eyes: Sequence[Eye], train: Sequence[str], held: Sequence[str], how: Reading, told: Told
) -> Iterator[ReadLevel]:
    """Yield every row: all levels and controls of each encoder, then all pairs of encoders.

    The control of an encoder is its middle and last level side by side: as wide as a pair.
    """
    last: dict[str, tuple[Tensor, Tensor]] = {}
    for eye in eyes:
        yield from _of_eye(eye, train, held, how, told, last)
    for number, one in enumerate(eyes):
        for other in eyes[number + 1 :]:
            name = f"{one.name} {one.blocks} + {other.name} {other.blocks}"
            both = [_beside(a, b) for a, b in zip(last[one.name], last[other.name], strict=True)]
            yield ReadLevel(name, PAIR, f"{one.name} + {other.name}", None, both[0], both[1])


def _of_eye(
    eye: Eye,
    train: Sequence[str],
    held: Sequence[str],
    how: Reading,
    told: Told,
    last: dict[str, tuple[Tensor, Tensor]],
) -> Iterator[ReadLevel]:
    blocks, middle = eye.blocks, max(1, eye.blocks // 2)
    step = how.levels_at_once(eye, len(train) + len(held))
    kept: dict[int, tuple[Tensor, Tensor]] = {}
    for start in range(1, blocks + 1, step):
        levels = list(range(start, min(start + step, blocks + 1)))
        told(f"{eye.name}: encoding", start - 1, blocks)
        found = [read_levels(eye, eye.encoder, part, levels, how) for part in (train, held)]
        for level, one, other in zip(levels, *found, strict=True):
            if level in (middle, blocks):
                kept[level] = (one, other)
            yield ReadLevel(f"{eye.name} {level}", LEVEL, eye.name, level, one, other)
    told(f"{eye.name}: encoding", blocks, blocks)
    last[eye.name] = kept[blocks]
    both = [_beside(a, b) for a, b in zip(kept[middle], kept[blocks], strict=True)]
    yield ReadLevel(f"{eye.name} {middle} + {blocks}", CONTROL, eye.name, None, both[0], both[1])
    random = [read_levels(eye, eye.untrained, part, [blocks], how)[0] for part in (train, held)]
    yield ReadLevel(f"{eye.name} {blocks}, random weights", RANDOM, eye.name, blocks, *random)
    pixels = [read_pixels(eye, part, how) for part in (train, held)]
    yield ReadLevel(f"{eye.name}, raw pixels", PIXELS, eye.name, None, *pixels)


def _beside(a: Tensor, b: Tensor) -> Tensor:
    """Join two features along the width, on the smaller of their grids."""
    sides = [int(x.shape[1] ** 0.5) for x in (a, b)]
    side = min(sides)
    parts = [
        x if own == side else resample_grid(x, (own, own), (side, side), "area")
        for x, own in zip((a, b), sides, strict=True)
    ]
    return torch.cat(parts, dim=-1)

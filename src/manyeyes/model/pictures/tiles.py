"""Pictures in tiles: what a model with ``tiling`` needs, and which models can have it.

    picture ─processor→ tile_grids, tile_views, pixels of tiles (or of the whole) per encoder
    features of tiles, features of wholes cut into their parts ─fusion→ tokens of tiles
    tokens of tiles ─bridge→ tokens of the picture

For the fusion every tile is a picture. Shapes: I images, J tiles of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from manyeyes.encoders import EncoderSpec
from manyeyes.errors import PartError, RecipeError, UsageError
from manyeyes.fusion import FusionPlan
from manyeyes.images.tiling import Grid, TilingOptions, best_grid, part_of_square
from manyeyes.layers.tiling import TileLayout, cut_whole
from manyeyes.options import parse_options
from manyeyes.records import FeatureBundle, GridFeatures

GRIDS, VIEWS = "tile_grids", "tile_views"
"""Rows and columns of each image's tiles ``[I, 2]``, and the part of its square that they show
``[I, 4]``, see ``part_of_square``."""


@dataclass(frozen=True)
class Tiles:
    """How a model sees pictures in tiles.

    ``side``: of a tile in pixels, for the choice of the grid: the largest of the encoders that see
    tiles. ``encoders``: those. ``layout``: how the tokens of tiles stand for a picture.
    """

    side: int
    encoders: tuple[str, ...]
    layout: TileLayout

    def grid(self, size: tuple[int, int]) -> Grid:
        """Return rows and columns of the tiles of a picture of ``size`` (width, height)."""
        return best_grid(size, self.side, self.layout.most)

    def length(self, size: tuple[int, int]) -> int:
        """Return the visual tokens of a picture of ``size`` (width, height)."""
        return self.layout.length(self.grid(size))

    def inputs(self, images: Sequence[Image.Image], geometry: str) -> dict[str, Tensor]:
        """Return ``tile_grids`` ``[I, 2]`` and ``tile_views`` ``[I, 4]`` of pictures."""
        grids = [self.grid(image.size) for image in images]
        views = [
            part_of_square(image.size, (columns * self.side, rows * self.side), geometry)
            for image, (rows, columns) in zip(images, grids, strict=True)
        ]
        return {
            GRIDS: torch.tensor(grids, dtype=torch.long).reshape(-1, 2),
            VIEWS: torch.tensor(views, dtype=torch.float32).reshape(-1, 4),
        }

    def saved(self) -> dict[str, Any]:
        """Return it as JSON data, but for the tokens of a tile."""
        layout = self.layout
        return {
            "most": layout.most,
            "thumbnail": layout.thumbnail,
            "row_ends": layout.row_ends,
            "places": list(layout.places),
            "side": self.side,
            "encoders": list(self.encoders),
        }

    @classmethod
    def of_saved(cls, saved: Mapping[str, Any], tokens: int) -> Tiles:
        """Return what ``saved`` has written; ``tokens``: of a tile."""
        places, layout = saved["places"], {k: saved[k] for k in ("most", "thumbnail", "row_ends")}
        made = TileLayout(tokens, (int(places[0]), int(places[1])), **layout)
        return cls(int(saved["side"]), tuple(saved["encoders"]), made)


def parse_tiling(
    values: Mapping[str, Any] | None, encoders: Sequence[EncoderSpec]
) -> TilingOptions | None:
    """Return the checked ``tiling:`` block of a model with these encoders.

    Raises:
        RecipeError: a key or value that it does not take, or an encoder that does not suit it.
    """
    fused = [spec for spec in encoders if spec.fused]
    if values is None:
        for spec in fused:
            if spec.sees != "tiles":
                raise RecipeError(
                    f"encoders.{spec.name}.sees: without `tiling` every encoder sees the whole "
                    "picture; leave it out"
                )
        return None
    options = parse_options(TilingOptions, values, "tiling")
    if not tiled_names(encoders):
        raise RecipeError("tiling: no encoder sees tiles; leave `sees: whole` out for one")
    for spec in fused:
        if spec.tiles > 1 and spec.sees == "tiles":
            raise RecipeError(
                f"encoders.{spec.name}.tiles: {spec.tiles} cuts every tile of `tiling` once more; "
                "leave it out, or let the encoder see the whole (`sees: whole`)"
            )
        if spec.decoder or spec.mask_ratio or spec.eval_mask_ratio:
            raise RecipeError(
                f"tiling: encoder {spec.name!r} hides patches of a whole picture or has a decoder "
                "that reads one; leave mask_ratio, eval_mask_ratio and decoder out"
            )
    return options


def tiled_names(encoders: Sequence[EncoderSpec]) -> tuple[str, ...]:
    """Return the encoders that see tiles where the model has tiling."""
    return tuple(spec.name for spec in encoders if spec.fused and spec.sees == "tiles")


def layout_of(options: TilingOptions, plan: FusionPlan) -> TileLayout:
    """Return the layout of a model whose fusion has this plan."""
    places = plan.places or plan.grid
    assert places is not None, "refused by check_tiling"
    ends = options.separator == "row"
    return TileLayout(plan.tokens, places, options.most, options.thumbnail, ends)


def check_tiling(fusion: str, plan: FusionPlan, *, encoder_decoder: bool) -> None:
    """Raise ``PartError`` unless a model with this fusion can see pictures in tiles."""
    if plan.places is None and plan.grid is None:
        gives = "adapter prompts" if plan.prompts else f"{plan.tokens} tokens that are no places"
        raise PartError(
            f"tiling: fusion {fusion!r} gives {gives} of the picture, and tiles are put together "
            "place by place; choose single, concat, comm (join channel or sum), interleaved, sva, "
            "cross_attention or deepseek_hybrid"
        )
    if plan.layers:
        raise PartError(
            f"tiling: fusion {fusion!r} gives tokens to {plan.layers} layers of the language model "
            "besides, and those of tiles have no separators; choose concat, comm or sva"
        )
    if plan.text is not None or plan.object_texts or plan.refines or plan.reconstructs:
        raise PartError(f"tiling: fusion {fusion!r} reads or gives more than the tiles' places")
    if encoder_decoder:
        raise PartError(
            "tiling: the prompts of an encoder-decoder model are cut around one number of visual "
            "tokens for all pictures; choose a decoder-only language model"
        )


def check_room(longest: int, max_tokens: int | None, limit: int | None) -> None:
    """Raise ``RecipeError`` where a picture alone is longer than a text may be.

    ``limit``: of the language model's positions.
    """
    for key, room in (("max_tokens", max_tokens), ("language", limit)):
        if room is not None and longest >= room:
            raise RecipeError(
                f"model.{key}: a picture in tiles has up to {longest} visual tokens, and a text "
                f"holds {room}; take fewer tiles (tiling.most), or fold patches "
                "(fusion.merge_patches)"
            )


def cut_wholes(
    bundle: FeatureBundle,
    specs: Mapping[str, EncoderSpec],
    tiles: Tiles,
    inputs: Mapping[str, Tensor],
    target: Grid,
) -> FeatureBundle:
    """Return a bundle with a row for each tile, whatever each encoder has seen.

    ``inputs`` hold ``tile_grids`` and ``tile_views``. ``target``: the grid of one tile.

    Raises:
        PartError: they are missing, or name other tiles than there are.
    """
    if GRIDS not in inputs or VIEWS not in inputs:
        raise PartError(f"this model sees pictures in tiles: pass {GRIDS} and {VIEWS} too")
    grids, views = inputs[GRIDS], inputs[VIEWS]
    found = dict(bundle)
    for name, features in bundle.items():
        if not isinstance(features, GridFeatures) or not specs[name].fused:
            continue
        sees_tiles = name in tiles.encoders
        expected = len(tiles.layout.owners(grids)) if sees_tiles else len(grids)
        if len(features.levels[0]) != expected:
            what = "tiles" if sees_tiles else "pictures"
            raise PartError(
                f"encoder {name!r} saw {len(features.levels[0])} {what}, but {GRIDS} says "
                f"{expected}"
            )
        if not sees_tiles:
            mode = specs[name].resample_mode
            found[name] = cut_whole(features, tiles.layout, grids, views, target, mode)
    return found


def need_sizes() -> UsageError:
    """What is said where a text is tokenised whose images nobody gave the sizes of."""
    return UsageError(
        "this model sees pictures in tiles, so the tokens of a text depend on its pictures: pass "
        "image_sizes, (width, height) of each image in reading order"
    )

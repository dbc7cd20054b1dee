"""Pictures that come round in training: features and goals (``told``) are made once and kept.

Shapes: B pictures, N cells, H language-model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from manyeyes.encoders import ENCODERS
from manyeyes.model.inputs import FEATURES
from manyeyes.model.modeling import ManyEyesForConditionalGeneration
from manyeyes.model.precision import CPU, autocast
from manyeyes.model.processing import ManyEyesProcessor
from manyeyes.world.pretrain.language.documents import document_scene
from manyeyes.world.pretrain.language.layouts import mix_words
from manyeyes.world.pretrain.pictures import picture_batch
from manyeyes.world.pretrain.told import goals
from manyeyes.world.scene import Scene

BLOCK = 24
"""Pictures are encoded in blocks of so many, so that a picture's features are always the same."""


@dataclass(frozen=True)
class Block:
    """``features``: packed, by encoder, ``[B, ...]``; ``goals`` ``[B, N, H]``; float16."""

    features: dict[str, Tensor]
    goals: Tensor


class KeptPictures:
    """The pictures of a split by number, as an arm's frozen encoders see them."""

    def __init__(
        self,
        network: ManyEyesForConditionalGeneration,
        processor: ManyEyesProcessor,
        split: str,
        seed: int,
    ) -> None:
        self.network, self.processor = network, processor
        self.split, self.seed = split, seed
        self.blocks: dict[int, Block] = {}

    def scenes(self, numbers: Sequence[int]) -> list[Scene]:
        """Return what the pictures show."""
        return [document_scene(self.split, number, self.seed) for number in numbers]

    def features(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Return ``features_<encoder>`` ``[B, ...]``, as ``encode_images`` takes them."""
        rows = [(self._block(number), number % BLOCK) for number in numbers]
        names = rows[0][0].features
        return {
            name: torch.stack([block.features[name][at].float() for block, at in rows])
            for name in names
        }

    def goals(self, numbers: Sequence[int]) -> Tensor:
        """Return ``[B, N, H]`` float32: what the arm shall say of every cell."""
        rows = [self._block(number).goals[number % BLOCK].float() for number in numbers]
        return torch.stack(rows)

    def _block(self, number: int) -> Block:
        first = number - number % BLOCK
        if first not in self.blocks:
            self.blocks[first] = self._make(range(first, first + BLOCK))
        return self.blocks[first]

    @torch.no_grad()
    def _make(self, numbers: Sequence[int]) -> Block:
        scenes = self.scenes(numbers)
        features = {}
        for name, encoder in self.network.encoders.items():
            pixels = picture_batch(scenes, ENCODERS[encoder.spec.family].normalization)
            with autocast(CPU):
                features[f"{FEATURES}{name}"] = encoder.pack(encoder(pixels)).half()
        return Block(features, goals(self.network, self._layouts(scenes)).half())

    def _layouts(self, scenes: Sequence[Scene]) -> Tensor:
        """Clean layouts ``[B, N, H]``, as the language model reads them."""
        table_VH: Any = self.network.get_input_embeddings().weight
        tokenizer = self.processor.tokenizer
        words = torch.stack([mix_words(s, Random(0), tokenizer, clean=True) for s in scenes])
        layouts_BNH: Tensor = words[..., : len(table_VH)] @ table_VH
        return layouts_BNH

"""Steps 1 and 2 of the model: pixels → feature bundle → evidence.

Shapes: I images of the batch, J tiles of them where pictures are seen in tiles, N patches.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from manyeyes.errors import PartError
from manyeyes.layers.bundles import cast_features
from manyeyes.layers.pooled_text import pool_text
from manyeyes.model.assembly import PartsModel
from manyeyes.model.inputs import FEATURES, NOISE, PIXELS
from manyeyes.model.pictures.tiles import GRIDS, Tiles, cut_wholes
from manyeyes.records import PERCEPTION, FeatureBundle, Features, FusionText, VisualEvidence


class SeeingModel(PartsModel):
    """The part of ``ManyEyesForConditionalGeneration`` that looks at images.

    ``tiles``: how it sees pictures in tiles; None = every encoder sees the whole.
    """

    tiles: Tiles | None
    tile_grid: tuple[int, int]

    def encode(self, **inputs: Tensor) -> FeatureBundle:
        """Step 1. ``pixel_values_<encoder>`` ``[I, 3, h, w]`` or stored ``features_<encoder>``
        ``[I, ...]`` (see ``Encoder.pack``) → feature bundle, in the fusion's dtype.
        ``noise_<encoder>`` ``[I, N]`` decides which patches a masked autoencoder does not see.
        Encoders that the fusion does not read are left out where they have no pixels.

        Where pictures are seen in tiles, ``tile_grids`` and ``tile_views`` say which; the features
        are then of J tiles, those of detectors that the fusion does not read of I pictures.

        Raises:
            PartError: an encoder's pixels are missing, or are of other tiles.
        """
        dtype = next(iter(self.fusion.parameters())).dtype
        bundle = {}
        for name, encoder in self.encoders.items():
            if f"{FEATURES}{name}" in inputs:
                features: Features = encoder.unpack(inputs[f"{FEATURES}{name}"])
            elif f"{PIXELS}{name}" in inputs:
                noise = inputs.get(f"{NOISE}{name}")
                # GridEncoder.forward in encoders/contract.py, or the detector's own
                features = encoder(inputs[f"{PIXELS}{name}"], training=self.training, noise=noise)
            elif not encoder.spec.fused:
                continue
            else:
                raise PartError(f"no pixels for encoder {name!r}: pass {PIXELS}{name}")
            bundle[name] = cast_features(features, dtype)
        if self.tiles is None:
            return bundle
        specs: Any = {name: encoder.spec for name, encoder in self.encoders.items()}
        return cut_wholes(bundle, specs, self.tiles, inputs, self.tile_grid)

    def fuse(
        self,
        bundle: FeatureBundle,
        question: FusionText | None = None,
        tile_grids: Tensor | None = None,
    ) -> VisualEvidence:
        """Step 2. Feature bundle → evidence, which says of which pictures' tiles it is."""
        evidence: VisualEvidence = self.fusion(bundle, question)
        if self.tiles is None:
            return evidence
        return replace(evidence, grids=tile_grids)

    def encode_images(
        self,
        question: FusionText | None = None,
        perception: FusionText | None = None,
        **inputs: Tensor,
    ) -> VisualEvidence:
        """Steps 1 and 2: pixels (or stored features) → evidence.

        It is reusable for many questions unless the fusion reads the ``question``. ``perception``:
        texts about detected objects ``[I, O, T]`` for a fusion that reads them.
        """
        bundle = self.with_object_texts(self.encode(**inputs), perception)
        return self.fuse(bundle, question, inputs.get(GRIDS))

    def with_object_texts(
        self, bundle: FeatureBundle, perception: FusionText | None
    ) -> FeatureBundle:
        """Return a bundle with the pooled texts ``[I, O, T]`` about the images' objects."""
        if perception is None:
            return bundle
        texts = pool_text(self.get_input_embeddings(), perception.ids, perception.mask)
        return {**bundle, PERCEPTION: texts}

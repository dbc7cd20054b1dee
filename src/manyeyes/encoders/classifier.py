"""Any image classifier of ``transformers`` as a tagger: one tag per class, by its sigmoid.

A classifier that was trained with a softmax (``problem_type`` single_label_classification or none)
gives tags too, but its logits are no independent probabilities; its threshold is then a matter of
trial.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageClassification
from transformers.image_processing_base import ImageProcessingMixin

from manyeyes.checkpoints import hub
from manyeyes.encoders.contract import PixelTransform
from manyeyes.encoders.spec import NORMALIZATIONS
from manyeyes.encoders.tagging import Tagger, TaggerSpec, read_lines
from manyeyes.errors import CheckpointError

_RESAMPLING = {2: "bilinear", 3: "bicubic"}


class ClassifierTagger(Tagger):
    """``AutoModelForImageClassification``; size and normalisation of its preprocessor's file."""

    def __init__(self, spec: TaggerSpec, model: Any, preprocessor: dict[str, Any]) -> None:
        super().__init__(spec, _names(spec, model.config))
        self.model, self.preprocessor = model, preprocessor
        self.requires_grad_(False).eval()

    @classmethod
    def load(cls, spec: TaggerSpec) -> ClassifierTagger:
        config = hub.load_config(spec.checkpoint, None, spec.backbone)
        if type(config) not in AutoModelForImageClassification._model_mapping:
            raise CheckpointError(
                f"tagger.checkpoint: {spec.checkpoint!r} is a {config.model_type!r}, which is no "
                "image classifier of transformers"
            )
        model = hub.load_pretrained(AutoModelForImageClassification, spec.checkpoint, config)
        place = hub.resolve(spec.checkpoint)
        try:
            settings, _ = ImageProcessingMixin.get_image_processor_dict(place)
        except OSError:  # there is none; a damaged one was named when the model was loaded
            settings = {}
        return cls(spec, torch.nn.Module.to(model, torch.float32), settings)

    @property
    def transform(self) -> PixelTransform:
        own = self.preprocessor
        size = own.get("crop_size" if own.get("do_center_crop") else "size") or {}
        side = self.model.config.image_size
        default = side if isinstance(side, int) else side[0]
        edge = int(size if isinstance(size, int) else size.get("shortest_edge", default))
        if isinstance(size, dict) and "height" in size:
            edge = int(size["height"])
            if edge != int(size["width"]):
                raise CheckpointError(
                    f"{self.spec.checkpoint!r}: a tagger needs square images, its preprocessor "
                    f"makes {size['width']} x {edge}"
                )
        mean, std = NORMALIZATIONS["imagenet"]
        return PixelTransform(
            (edge, edge),
            tuple(own.get("image_mean", mean)),
            tuple(own.get("image_std", std)),
            _RESAMPLING.get(own.get("resample", 2), "bilinear"),
        )

    def logits(self, pixels: Tensor) -> Tensor:
        found: Tensor = self.model(pixel_values=pixels).logits
        return found


def _names(spec: TaggerSpec, config: AutoConfig) -> list[str]:
    names = [str(config.id2label[index]) for index in range(config.num_labels)]  # type: ignore[attr-defined]
    if spec.tags is None:
        return names
    given = read_lines(spec.tags, "tagger.tags")
    if len(given) != len(names):
        raise CheckpointError(
            f"tagger.tags: {spec.tags!r} holds {len(given)} names for {len(names)} classes"
        )
    return given

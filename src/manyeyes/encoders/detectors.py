"""DETR-type detectors of ``transformers``: object descriptors, boxes and class logits.

A descriptor is what the last class head reads. New descriptors O' are judged by the same heads, as
the change they make: ``logits + (class(O') - class(O))``, and boxes likewise before their sigmoid.
For every head that adds its output to a reference this is the head applied to O'; at O' = O it is
the detector's own output bit for bit.

Shapes: I images, Q queries, D width, C classes, M places of the encoder's map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    ConditionalDetrConfig,
    ConditionalDetrForObjectDetection,
    DabDetrConfig,
    DabDetrForObjectDetection,
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DetrConfig,
    DetrForObjectDetection,
    DFineConfig,
    DFineForObjectDetection,
    PreTrainedConfig,
    PreTrainedModel,
    RTDetrConfig,
    RTDetrForObjectDetection,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
    YolosConfig,
    YolosForObjectDetection,
)

from manyeyes.encoders.contract import Encoder, EncoderCost, ObjectShape, PixelTransform
from manyeyes.encoders.spec import EncoderSpec
from manyeyes.errors import PartError, RecipeError
from manyeyes.records import ObjectFeatures

STRIDE = 32
"""Of the coarsest feature map, for estimates of cost."""


class DetectorEncoder(Encoder):
    """A detector with one descriptor per query.

    The image is squeezed into its square input without regard to the aspect (ours), so that boxes
    in 0..1 are those of the whole image whatever the recipe's geometry does to other encoders.

    Raises:
        PartError: labels other than the recipe counts on; a source it does not have; a backbone
            that needs timm.
    """

    normalization = "imagenet"
    resize = "bilinear"
    no_object: ClassVar[bool] = False
    """Whether the last class means "nothing" and scores are a softmax."""
    boxes_follow: ClassVar[bool] = True
    """Whether the box head adds to a reference before the sigmoid, so that boxes can be renewed."""
    encoder_states: ClassVar[bool] = True
    """Whether its encoder gives one map of states."""
    float32_only: ClassVar[bool] = False
    """Whether transformers computes it in float32 whatever its weights are in."""
    side: ClassVar[int] = 800
    """Of its input in pixels, where neither recipe nor configuration says."""

    def __init__(self, spec: EncoderSpec, config: PreTrainedConfig) -> None:
        if spec.object_source == "encoder" and not self.encoder_states:
            raise PartError(
                f"encoder {spec.name!r}: {spec.family} has no single map of encoder states; use "
                "object_source: decoder"
            )
        try:
            super().__init__(spec, config)
        except ImportError as error:
            raise PartError(
                f"encoder {spec.name!r}: its backbone needs timm, which is not used here. Give a "
                "backbone of transformers under `backbone.backbone_config`, or a checkpoint that "
                "has one (facebook/detr-resnet-50 does in its revision no_timm)"
            ) from error

    @classmethod
    def read_config(cls, spec: EncoderSpec) -> PreTrainedConfig:
        config = super().read_config(spec)
        if spec.labels and tuple(spec.labels) != cls.label_names(config):
            raise PartError(
                f"encoder {spec.name!r}: the recipe counts on the labels {', '.join(spec.labels)}, "
                f"but {spec.checkpoint or 'its configuration'} has "
                f"{', '.join(cls.label_names(config))}"
            )
        return config

    @classmethod
    def label_names(cls, config: PreTrainedConfig) -> tuple[str, ...]:
        """Return the class names of a configuration in the order of the logits."""
        names: Any = config.id2label or {}
        return tuple(str(names[number]) for number in sorted(names))

    @classmethod
    def image_size(cls, spec: EncoderSpec, config: PreTrainedConfig) -> int:
        own = getattr(config, "image_size", None)
        if isinstance(own, list | tuple):
            own = max(own)
        return int(spec.image_size or own or cls.side)

    @classmethod
    def transform(cls, spec: EncoderSpec, config: PreTrainedConfig) -> PixelTransform:
        return replace(super().transform(spec, config), geometry="squash")

    @classmethod
    def num_queries(cls, config: PreTrainedConfig) -> int:
        return int(config.num_queries)

    @classmethod
    def shape(cls, spec: EncoderSpec, config: PreTrainedConfig) -> ObjectShape:
        classes = len(cls.label_names(config)) + int(cls.no_object)
        aligned = spec.object_source == "decoder"
        return ObjectShape(int(config.hidden_size), cls.num_queries(config), classes, aligned)

    @classmethod
    def cost(cls, spec: EncoderSpec, config: PreTrainedConfig) -> EncoderCost:
        places = (cls.image_size(spec, config) // STRIDE) ** 2
        blocks = int(config.num_hidden_layers) + int(getattr(config, "decoder_layers", 0))
        given = places if spec.object_source == "encoder" else cls.num_queries(config)
        return EncoderCost(places, given, int(config.hidden_size), blocks)

    def packed_size(self) -> tuple[int, ...]:
        shape = self.shape(self.spec, self.backbone.config)
        if not shape.aligned:
            raise RecipeError(
                f"cache_features: encoder {self.spec.name!r} describes places (object_source: "
                "encoder), which are not stored; use object_source: decoder, or do not cache"
            )
        return shape.num_queries, shape.width + 4 + shape.num_classes

    def packed_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """float32: in bfloat16 a box would be off by up to 1/256 of the image."""
        return torch.float32

    def pack(self, features: ObjectFeatures) -> Tensor:
        """Return ``[I, Q, D + 4 + C]``: descriptors, boxes, logits."""
        parts = (features.queries, features.boxes, features.logits)
        return torch.cat([part.float() for part in parts], dim=-1)

    def unpack(self, packed: Tensor) -> ObjectFeatures:
        width = self.shape(self.spec, self.backbone.config).width
        queries, boxes, logits = packed.split((width, 4, packed.shape[-1] - width - 4), dim=-1)
        return ObjectFeatures(queries, boxes, logits, self.labels, self.no_object)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes in the order of the logits."""
        return self.label_names(self.backbone.config)

    def forward(
        self, pixels: Tensor, *, training: bool = False, noise: Tensor | None = None
    ) -> ObjectFeatures:
        """Return the objects of ``pixels`` ``[I, 3, height, width]``."""
        with self.gradients():
            output = self.run(pixels.to(self.backbone.dtype))
            aligned = self.spec.object_source == "decoder"
            states = self.descriptors(output) if aligned else output.encoder_last_hidden_state
        return ObjectFeatures(
            states, output.pred_boxes, output.logits, self.labels, self.no_object, aligned
        )

    def run(self, pixels: Tensor) -> Any:
        """Return the detector's own output for normalised pixels."""
        return self.backbone(pixel_values=pixels)

    def descriptors(self, output: Any) -> Tensor:
        """Return what the last class head has read, ``[I, Q, D]``."""
        states: Tensor = output.last_hidden_state
        return states

    def class_head(self) -> nn.Module:
        """Return the last layer's class head."""
        head: nn.Module = self.backbone.class_labels_classifier
        return head

    def box_head(self) -> nn.Module:
        """Return the last layer's box head, whose output is added to a reference."""
        head: nn.Module = self.backbone.bbox_predictor
        return head

    def judge(self, objects: ObjectFeatures, descriptors: Tensor) -> ObjectFeatures:
        """Let the heads judge new ``descriptors`` ``[I, Q, D]`` of ``objects``; see above.

        Boxes stay as they are where ``boxes_follow`` is false.

        Raises:
            PartError: the descriptors are not those of the objects.
        """
        if not objects.aligned:
            raise PartError(
                f"encoder {self.spec.name!r}: with object_source: encoder a descriptor is a place "
                "in the image, so no head can judge it; refine needs object_source: decoder"
            )
        old, new = (x.to(self.backbone.dtype) for x in (objects.queries, descriptors))
        logits = objects.logits + (self.class_head()(new) - self.class_head()(old))
        boxes = objects.boxes
        if self.boxes_follow:
            place = torch.logit(boxes.float(), eps=1e-5)
            change = (self.box_head()(new) - self.box_head()(old)).float()
            moved = torch.sigmoid(place + change) - torch.sigmoid(place)
            boxes = (boxes + moved.to(boxes.dtype)).clamp(0.0, 1.0)
        return replace(objects, queries=descriptors, logits=logits, boxes=boxes)


class DetrDetector(DetectorEncoder):
    """DETR (arXiv 2005.12872)."""

    model_class = DetrForObjectDetection
    config_class = DetrConfig
    no_object = True


class ConditionalDetrDetector(DetectorEncoder):
    """Conditional DETR (arXiv 2108.06152)."""

    model_class = ConditionalDetrForObjectDetection
    config_class = ConditionalDetrConfig


class DabDetrDetector(DetectorEncoder):
    """DAB-DETR (arXiv 2201.12329): boxes go on from those of the layer before."""

    model_class = DabDetrForObjectDetection
    config_class = DabDetrConfig
    float32_only = True

    def run(self, pixels: Tensor) -> Any:
        return self.backbone(pixel_values=pixels, output_hidden_states=True)

    def class_head(self) -> nn.Module:
        head: nn.Module = self.backbone.class_embed
        return head


class DeformableDetrDetector(DetectorEncoder):
    """Deformable DETR (arXiv 2010.04159)."""

    model_class = DeformableDetrForObjectDetection
    config_class = DeformableDetrConfig

    def class_head(self) -> nn.Module:
        return self._last(self.backbone.class_embed)

    def box_head(self) -> nn.Module:
        return self._last(self.backbone.bbox_embed)

    def _last(self, heads: nn.ModuleList) -> nn.Module:
        # of two stages, one more head follows for the proposals
        return heads[int(self.backbone.config.decoder_layers) - 1]


class RtDetrDetector(DetectorEncoder):
    """RT-DETR (arXiv 2304.08069); pixels are scaled to 0..1 and not normalised further."""

    model_class: ClassVar[type[PreTrainedModel]] = RTDetrForObjectDetection
    config_class: ClassVar[type[PreTrainedConfig]] = RTDetrConfig
    normalization = "none"
    encoder_states = False
    side = 640

    def class_head(self) -> nn.Module:
        head: nn.Module = self.backbone.model.decoder.class_embed[-1]
        return head

    def box_head(self) -> nn.Module:
        head: nn.Module = self.backbone.model.decoder.bbox_embed[-1]
        return head


class RtDetrV2Detector(RtDetrDetector):
    """RT-DETRv2 (arXiv 2407.17140)."""

    model_class = RTDetrV2ForObjectDetection
    config_class = RTDetrV2Config


class DFineDetector(RtDetrDetector):
    """D-FINE (arXiv 2410.13842). Its boxes are distributions that every layer sharpens, so only
    classes can be renewed."""

    model_class = DFineForObjectDetection
    config_class = DFineConfig
    boxes_follow = False

    def class_head(self) -> nn.Module:
        decoder = self.backbone.model.decoder
        head: nn.Module = decoder.class_embed[decoder.eval_idx]
        return head


class YolosDetector(DetectorEncoder):
    """YOLOS (arXiv 2106.00666): a plain ViT whose last tokens are the queries."""

    model_class = YolosForObjectDetection
    config_class = YolosConfig
    no_object = True
    encoder_states = False

    @classmethod
    def num_queries(cls, config: PreTrainedConfig) -> int:
        return int(config.num_detection_tokens)

    def descriptors(self, output: Any) -> Tensor:
        queries = self.num_queries(self.backbone.config)
        states: Tensor = output.last_hidden_state[:, -queries:]
        return states

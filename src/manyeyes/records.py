"""The plain records that travel along the straight line. No modules, no file reading.

Shape letters: B samples, I images of the whole batch (several or none per sample), N patches,
D encoder width, K visual tokens per image, H language-model width, Q object queries, C classes,
L adapted layers, P prompt length, S layers that add tokens.

    files ─data→ Sample ─processor→ Batch ─encoders→ FeatureBundle ─fusion→ VisualEvidence ─bridge→
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[float, float, float, float]
"""``(x1, y1, x2, y2)`` corners in pixels of the original (EXIF-rotated) image."""

Point = tuple[float, float]
"""``(x, y)`` in pixels of the original (EXIF-rotated) image."""

Tags = tuple[tuple[str, ...], ...]
"""Tag names per image, in the tagger's own order."""

Role = Literal["system", "user", "assistant"]

Use = Literal["given", "shuffled", "empty"]
"""Of what is known of images beside the data: each image's own, another image's, or nothing."""

USES: tuple[Use, ...] = get_args(Use)

IGNORE = -100
"""Label of a token that nothing is learnt from, as in PyTorch's cross entropy."""

IMAGE_PLACEHOLDER = "<image>"
"""Stands in a turn's text where an image belongs; one per image, in order."""

BOXES_PLACEHOLDER = "<boxes>"
"""Stands in a turn's text where boxes belong; one per group in ``Turn.boxes``, in order.

Boxes stay in pixels until the processor knows the recipe's box format and the image's geometry."""

POINTS_PLACEHOLDER = "<points>"
"""Stands in a turn's text where points belong; one per group in ``Turn.points``, in order."""


class PackedImage(str):
    """An image inside a container file, standing where the path of an image file may stand.

    Its text is ``CONTAINER/NAME``: it prints, compares and hashes as a path does. Subclasses know
    how to get at the bytes (see ``data/tars`` and ``data/parquet``).
    """

    container: str
    """Path of the container file."""

    def read(self) -> bytes:
        """Return the encoded image file; raises OSError or DataError if it cannot be had."""
        raise NotImplementedError


@dataclass(frozen=True)
class Turn:
    """One message of a conversation.

    ``boxes`` holds one group of boxes for each ``<boxes>`` in ``text``; a group of several boxes is
    one phrase that names several objects; ``points`` and ``<points>`` likewise. ``box_image`` is
    the index of the image that both lie in. ``context`` is text that was made from the turn's
    images; the prompt style decides where it stands.
    """

    role: Role
    text: str
    boxes: tuple[tuple[Box, ...], ...] = ()
    box_image: int = 0
    points: tuple[tuple[Point, ...], ...] = ()
    context: str = ""


@dataclass(frozen=True)
class Detection:
    """One object of an image; ``score`` in 0..1, None where nobody gave one."""

    label: str
    box: Box
    score: float | None = None


Detections = tuple[Detection, ...]
"""The objects of one image."""


@dataclass(frozen=True)
class Perceived:
    """What is known of a conversation's images before its prompt is written.

    ``tags``: one list of names per image; None = nobody tagged them. ``objects``: one entry per
    image; None = nobody looked.
    """

    tags: Tags | None = None
    objects: Sequence[Detections] | None = None

    @classmethod
    def of_images(cls, parts: Sequence[Perceived]) -> Perceived:
        """Put what is known of several images together; None where one of them lacks it."""
        every_tags = [part.tags for part in parts if part.tags is not None]
        every_objects = [part.objects for part in parts if part.objects is not None]
        return cls(
            tuple(chain.from_iterable(every_tags)) if len(every_tags) == len(parts) else None,
            tuple(chain.from_iterable(every_objects)) if len(every_objects) == len(parts) else None,
        )


NOTHING_PERCEIVED = Perceived()


@dataclass(frozen=True)
class Sample:
    """One training or evaluation conversation, with its images still as paths or `PackedImage`s.

    ``meta`` carries what benchmarks need besides (question type, label, image id, ...).
    ``objects``: what a detector found, one entry per image; None = nobody looked. ``tags``: those
    of each image; None = nobody tagged them.
    """

    id: str
    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    task: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    objects: tuple[Detections, ...] | None = None
    tags: Tags | None = None

    @property
    def perceived(self) -> Perceived:
        """Tags and objects of the images."""
        return Perceived(self.tags, self.objects)


@dataclass(frozen=True)
class Masking:
    """Which patches of an image an encoder did not see.

    ``hidden`` ``[I, N]``: 1 where a patch was removed, row-major. ``restore`` ``[I, N]``: place of
    each patch in the order visible patches, then hidden ones.
    """

    hidden: Tensor
    restore: Tensor


@dataclass(frozen=True)
class GridFeatures:
    """Patch features of one ViT-like encoder at the requested levels.

    ``levels``: one ``[I, N, D]`` tensor per entry of ``level_indices`` (Hugging Face
    ``hidden_states`` indices), row-major over ``grid`` = (rows, columns), N = rows x columns.
    ``prefix``: the class/register tokens of the same levels, each ``[I, R, D]``; empty if dropped.
    ``masking``: set where patches were hidden; then N counts the visible ones, shuffled.
    """

    levels: tuple[Tensor, ...]
    level_indices: tuple[int, ...]
    grid: tuple[int, int]
    prefix: tuple[Tensor, ...] = ()
    masking: Masking | None = None


@dataclass(frozen=True)
class ObjectFeatures:
    """Detector output of I images.

    ``queries`` ``[I, Q, D]`` are the object descriptors, ``boxes`` ``[I, Q, 4]`` (cx, cy, w, h in
    0..1 of the whole image) and ``logits`` ``[I, Q, C]``, one class per label and, with
    ``no_object``, a last one for "nothing". ``aligned``: a descriptor, a box and a row of logits
    belong together; otherwise the descriptors are of places in the image, ``[I, M, D]``.
    """

    queries: Tensor
    boxes: Tensor
    logits: Tensor
    labels: tuple[str, ...]
    no_object: bool = False
    aligned: bool = True

    @property
    def scores(self) -> Tensor:
        """``[I, Q, labels]`` in 0..1: softmax without its last class, or sigmoid."""
        if self.no_object:
            return self.logits.float().softmax(dim=-1)[..., :-1]
        return self.logits.float().sigmoid()


@dataclass(frozen=True)
class TagFeatures:
    """Tagger output: per image the tag names and scores in 0..1, in the tagger's own order."""

    names: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class TextFeatures:
    """Short texts about each image as pooled token embeddings of the language model.

    ``vectors`` ``[I, O, H]``, one per text; ``mask`` ``[I, O]``, true = there is one.
    """

    vectors: Tensor
    mask: Tensor


PERCEPTION = "perception_text"
"""Name in a feature bundle of the texts about detected objects."""

Features = GridFeatures | ObjectFeatures | TagFeatures | TextFeatures
FeatureBundle = Mapping[str, Features]
"""Features of one batch of images by encoder name."""


@dataclass(frozen=True)
class FusionText:
    """Text that a fusion reads beside the images, one row per image, in its own tokenizer's ids.

    ``ids`` ``[I, T]``; ``mask`` ``[I, T]``, 1 = real. The processor makes it.
    """

    ids: Tensor
    mask: Tensor


LOCAL_STATES = "local_states"
"""Name in a trace of local features ``[I, 1 + visible, D]`` that a decoder can turn into pixels."""

REFINED = "refined_objects"
"""Name in a trace of object descriptors ``[I, Q, D]`` that a detector's heads can judge anew."""


@dataclass(frozen=True)
class VisualEvidence:
    """What a fusion hands to the bridge; every part is optional and the parts compose.

    ``tokens`` ``[I, K, H]`` go to the image placeholder; ``prompts`` ``[I, L, P, H]`` feed the
    adapter attention of the last L layers; ``layers`` ``[I, S, K, H]`` are added to the hidden
    states of the placeholder's tokens after each of the first S layers. Text about images is an
    earlier step of the processor. ``grids`` ``[I, 2]``: rows and columns of the tiles of each
    image, where pictures are seen in tiles; ``tokens`` are then ``[J, K, H]``, of all tiles.
    """

    tokens: Tensor | None = None
    prompts: Tensor | None = None
    layers: Tensor | None = None
    grids: Tensor | None = None
    trace: Mapping[str, Tensor] = field(default_factory=dict)
    """Named intermediates for losses and pictures; empty unless asked for."""


@dataclass(frozen=True)
class Score:
    """One metric of one benchmark, on the metric's own scale (accuracies in 0..100).

    ``per_item``: item id -> the item's value where the metric is the mean of those; else empty.
    """

    benchmark: str
    metric: str
    value: float
    n: int
    ci95: tuple[float, float] | None = None
    variant: str = "official"
    by: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    parse_failures: int = 0
    per_item: Mapping[str, float] = field(default_factory=dict, repr=False)

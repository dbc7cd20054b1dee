"""BLIP-2's Q-Former (arXiv 2301.12597), also as InstructBLIP's, which reads the question too."""

from __future__ import annotations

from dataclasses import dataclass

from manyeyes.fusion.image_text import ImageTextFusion
from manyeyes.fusion.queries import QueryOptions


@dataclass(frozen=True, kw_only=True)
class QFormerOptions(QueryOptions):
    """See ``QueryOptions``."""


class QFormerFusion(ImageTextFusion):
    """Learned queries over the deepest level of one encoder, projected to the language width."""

    options_class = QFormerOptions

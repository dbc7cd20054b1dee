"""What layers of the language model read besides their input: prompts, routes, visual tokens.

Shapes: B samples, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from manyeyes.layers.adapters.attention import PROMPTS, answering
from manyeyes.layers.adapters.mixture import ROUTES, routed
from manyeyes.layers.adapters.stacked_tokens import STACKED, stacking
from manyeyes.records import VisualEvidence


class LayerInputs:
    """Of a model with a ``bridge`` that reaches into the layers of its ``language_model``."""

    def layer_inputs(
        self: Any,
        batch_size: int,
        evidence: VisualEvidence | None,
        image_counts: Tensor | None,
        image_index: Tensor | None = None,
        routes: Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
    ) -> dict[str, Any]:
        """Return what layers of the language model read besides its input, by keyword.

        ``input_ids`` ``[B, T]``: the prompts that are read now, from their beginning; None = they
        were read before, and are continued.
        """
        given = {
            PROMPTS: self.bridge.prompts(
                self.language_model, batch_size, evidence, image_counts, image_index
            ),
            ROUTES: routes if self.config.routed else None,
        }
        if input_ids is not None:
            ids = self.image_token_ids
            given[STACKED] = self.bridge.stacked(input_ids, evidence, image_index, ids)
        return {keyword: value for keyword, value in given.items() if value is not None}

    @contextmanager
    def layer_context(self, inner: Mapping[str, Any]) -> Iterator[None]:
        """Let the language model's layers read ``layer_inputs`` for a block of code."""
        prompts, routes, tokens = (inner.get(name) for name in (PROMPTS, ROUTES, STACKED))
        with answering(prompts), routed(routes), stacking(tokens):
            yield

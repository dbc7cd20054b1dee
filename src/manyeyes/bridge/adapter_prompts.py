"""Adapter prompts: the last layers attend to learned queries plus the image (MR-MLLM E7).

    Â_n = A_n + V        per adapted layer n; V = what the fusion made of the sample's image

Gates start at zero, where the language model is bit for bit itself. The prompts do not stand in the
text: the image placeholder becomes no token at all.

Shapes: B samples, I images, N layers, L adapted layers, G gated layers, h heads, P prompts per
layer, H language-model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from manyeyes.bridge.contract import Bridge, BridgeOptions, Given, ImageTokenIds
from manyeyes.errors import PartError, PlaceholderError, nearest
from manyeyes.layers.adapters.attention import FAMILIES, AdapterState, adapt
from manyeyes.options import check_choice
from manyeyes.records import VisualEvidence

ENTRIES = ("late", "early")
GATE_LAYERS = ("adapted", "all")


@dataclass(frozen=True, kw_only=True)
class AdapterPromptsOptions(BridgeOptions):
    """The options of ``BridgeOptions``, and where prompts and gates are."""

    layers: int | None = None
    """Number of adapted layers (L), counted from the last. By default all but the first."""
    entry: str = "late"
    """``late`` adds the image to the queries of every adapted layer (MR-MLLM, and LLaMA-Adapter
    V2's released code). ``early`` hands it to the first layer alone, as that paper's text has
    it."""
    gates: str = "adapted"
    """Which layers hold gates. ``all`` as in the released code, whose first layer never uses them.
    """
    gate_scale: bool = False
    """One more factor per layer, which starts at 1 (released models with LoRA)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("bridge", "entry", self.entry, ENTRIES)
        check_choice("bridge", "gates", self.gates, GATE_LAYERS)

    def adapted(self, num_layers: int) -> tuple[int, ...]:
        """Indices of the layers with adapter queries."""
        count = num_layers - 1 if self.layers is None else self.layers
        return tuple(range(num_layers - count, num_layers))

    def gated(self, num_layers: int) -> tuple[int, ...]:
        """Indices of the layers with gates, in the order of the gates' rows."""
        first = (0,) if self.entry == "early" else ()
        return tuple(range(num_layers)) if self.gates == "all" else first + self.adapted(num_layers)


class AdapterPromptsBridge(Bridge):
    """Learned queries ``[L * P, H]`` and zero-initialised gates ``[G, h]``.

    A sample without images reads the queries alone; several images count with their mean (ours).
    """

    options_class = AdapterPromptsOptions

    def __init__(
        self, options: AdapterPromptsOptions, language: PreTrainedConfig, given: Given
    ) -> None:
        super().__init__(options, language, given)
        self.options, self.length = options, given.prompts
        num_layers = int(language.num_hidden_layers)
        self.layers, self.gated = options.adapted(num_layers), options.gated(num_layers)
        self.queries = nn.Embedding(len(self.layers) * self.length, int(language.hidden_size))
        self.gates = nn.Parameter(torch.zeros(len(self.gated), int(language.num_attention_heads)))
        if options.gate_scale:
            self.gate_scales = nn.Parameter(torch.ones(len(self.gated)))

    @classmethod
    def check(
        cls, options: AdapterPromptsOptions, language: PreTrainedConfig, given: Given
    ) -> None:
        super().check(options, language, given)
        if language.model_type not in FAMILIES:
            raise PartError(
                f"bridge 'adapter_prompts' reaches into the attention of {', '.join(FAMILIES)}; "
                f"the language model is a {language.model_type!r}"
                f"{nearest(language.model_type, FAMILIES)}"
            )
        if not given.prompts or given.tokens:
            raise PartError(
                "bridge 'adapter_prompts' needs a fusion that gives prompts and no tokens, such as "
                "'llama_adapter_v2' or 'shared_queries'"
            )
        layers = int(language.num_hidden_layers)
        most = layers if options.entry == "late" else layers - 1
        if options.layers is not None and not 1 <= options.layers <= most:
            raise PartError(
                f"bridge.layers: {options.layers} is not in 1..{most} (the language model has "
                f"{layers} layers{', the first reads the image' if most < layers else ''})"
            )

    def forward(
        self,
        embeddings_BTH: Tensor,
        input_ids_BT: Tensor,
        tokens_IKH: Tensor,
        image_counts: Sequence[int],
        ids: ImageTokenIds,
        grids_I2: Tensor | None = None,
    ) -> Tensor:
        raise PartError("bridge 'adapter_prompts' takes prompts, but the evidence holds tokens")

    def prompts(
        self,
        model: Any,
        batch_size: int,
        evidence: VisualEvidence | None,
        image_counts: Tensor | None,
        image_index: Tensor | None = None,
    ) -> AdapterState:
        """Return queries, image and gates by layer; see ``Bridge.prompts``.

        Raises:
            PlaceholderError: images and ``image_counts`` disagree.
            PartError: prompts of another shape, or an attention that cannot be adapted.
        """
        adapt(model)
        factors = torch.tanh(self.gates.float())
        if self.options.gate_scale:
            factors = factors * self.gate_scales.float()[:, None]
        gates = dict(zip(self.gated, factors, strict=True))
        visual = self._by_sample(evidence, batch_size, image_counts, image_index)
        queries = self.queries.weight.view(len(self.layers), 1, self.length, -1)
        if visual is None:
            return AdapterState(dict(zip(self.layers, queries, strict=True)), gates)
        image_BLPH, has_image_B = visual
        if self.options.entry == "early":
            prompts = {0: image_BLPH[:, 0], **dict(zip(self.layers, queries, strict=True))}
            return AdapterState(prompts, {**gates, 0: gates[0] * has_image_B[:, None]})
        layers = image_BLPH.expand(-1, len(self.layers), -1, -1).unbind(dim=1)
        sums = [query + image for query, image in zip(queries, layers, strict=True)]
        return AdapterState(dict(zip(self.layers, sums, strict=True)), gates)

    def _by_sample(
        self,
        evidence: VisualEvidence | None,
        batch_size: int,
        image_counts: Tensor | None,
        image_index: Tensor | None,
    ) -> tuple[Tensor, Tensor] | None:
        """Return each sample's image ``[B, 1 or L, P, H]``, zero without one, and who has one."""
        if evidence is None or evidence.prompts is None:
            if image_counts is not None and bool(image_counts.any()):
                raise PlaceholderError("the text holds images, but no image was given")
            return None
        rows = evidence.prompts if image_index is None else evidence.prompts[image_index]
        if rows.shape[1] not in (1, len(self.layers)) or rows.shape[2] != self.length:
            raise PartError(
                f"prompts for {rows.shape[1]} layers x {rows.shape[2]} do not fit "
                f"{len(self.layers)} adapted layers x {self.length}"
            )
        if image_counts is None:
            image_counts = torch.ones(batch_size, dtype=torch.long, device=rows.device)
        counts = image_counts.to(rows.device)
        if len(counts) != batch_size or int(counts.sum()) != len(rows):
            raise PlaceholderError(
                f"{batch_size} samples refer to {int(counts.sum())} images, but evidence of "
                f"{len(rows)} was given"
            )
        owner = torch.arange(batch_size, device=rows.device).repeat_interleave(counts)
        total = rows.new_zeros(batch_size, *rows.shape[1:]).index_add(0, owner, rows)
        return total / counts.clamp(min=1)[:, None, None, None], counts > 0

"""What every bridge is: it puts visual evidence where the language model reads it.

Shapes: B samples, T positions, I images, K visual tokens per image, P prompts per layer, S layers
that add tokens, H language-model width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn
from transformers import PreTrainedConfig

from manyeyes.conversation.tags import VARIANTS
from manyeyes.layers.adapters.attention import AdapterState
from manyeyes.layers.adapters.ffn_places import place_names
from manyeyes.layers.adapters.mixture import AdapterMixture, AdapterOptions
from manyeyes.layers.adapters.soft_prompt import SoftPrompt
from manyeyes.layers.adapters.stacked_tokens import StackedTokens
from manyeyes.layers.tiling import TileLayout
from manyeyes.options import check_choice, parse_options
from manyeyes.records import VisualEvidence


class ImageTokenIds(NamedTuple):
    """Ids that mark an image in ``input_ids``: K times ``image``, between ``start`` and ``end``.

    ``slot`` marks the soft prompt; it is no id of any token where there is none.
    """

    image: int
    start: int
    end: int
    slot: int = -1


class Given(NamedTuple):
    """What the fusion gives per image: ``tokens`` K for the text, ``prompts`` P for attention.

    ``grid``: rows and columns where the tokens are the cells of a grid, row by row. ``layers``: S,
    the first layers of the language model that add as many tokens again. ``tiles``: how the tokens
    of tiles stand for an image, where all this is of a tile.
    """

    tokens: int
    prompts: int = 0
    grid: tuple[int, int] | None = None
    layers: int = 0
    tiles: TileLayout | None = None


@dataclass(frozen=True, kw_only=True)
class BridgeOptions:
    """What every bridge takes."""

    adapters: AdapterOptions | None = None
    """Adapters beside the language model's feed-forward layers (LION). By default there are none.
    """
    tags: str = "none"
    """How the tags of an image stand in the prompt: ``soft``, ``hard`` or ``none``."""

    def __post_init__(self) -> None:
        check_choice("bridge", "tags", self.tags, VARIANTS)
        if isinstance(self.adapters, Mapping):
            parsed = parse_options(AdapterOptions, self.adapters, "bridge.adapters")
            object.__setattr__(self, "adapters", parsed)


class Bridge(nn.Module, ABC):
    """Base of all bridges; built from its options, the language model's configuration and P."""

    options_class: ClassVar[type[Any]]

    def __init__(self, options: Any, language: PreTrainedConfig, given: Given) -> None:
        super().__init__()
        self.mixture: AdapterMixture | None = None
        if options.adapters is not None:
            places, width = place_names(language), int(language.hidden_size)
            self.mixture = AdapterMixture(options.adapters, places, width)
        self.soft_prompt: SoftPrompt | None = None
        if options.tags == "soft":
            self.soft_prompt = SoftPrompt(int(language.hidden_size), embedding_std(language))

    @classmethod
    def check(cls, options: Any, language: PreTrainedConfig, given: Given) -> None:
        """Raise ``PartError`` unless fusion, bridge and language model fit together."""
        if options.adapters is not None:
            place_names(language)

    @classmethod
    def routes_samples(cls, options: Any) -> bool:
        """Whether every sample needs the route of its task type."""
        return options.adapters is not None and options.adapters.routed

    @classmethod
    def tags(cls, options: Any) -> str:
        """How tags stand in the prompt, one of ``tags.VARIANTS``."""
        variant: str = options.tags
        return variant

    @classmethod
    def marks_images(cls, options: Any) -> bool:
        """Whether each image's tokens stand between two marker tokens."""
        return False

    def attach(self, model: Any) -> None:
        """Install what acts inside the language model, once it is built."""
        if self.mixture is not None:
            self.mixture.attach(model)

    def start_from(self, embeddings_VH: Tensor) -> None:
        """Set what starts from the language model's embedding table, which was just loaded."""
        return None

    def fill_slots(self, embeddings_BTH: Tensor, slots_BT: Tensor) -> Tensor:
        """Return the text embeddings with the soft prompt at its slots, if there is one."""
        if self.soft_prompt is None:
            return embeddings_BTH
        filled: Tensor = self.soft_prompt(embeddings_BTH, slots_BT)
        return filled

    @abstractmethod
    def forward(
        self,
        embeddings_BTH: Tensor,
        input_ids_BT: Tensor,
        tokens_IKH: Tensor,
        image_counts: Sequence[int],
        ids: ImageTokenIds,
        grids_I2: Tensor | None = None,
    ) -> Tensor:
        """Return the text embeddings with every image's tokens in their place.

        ``grids_I2``: rows and columns of each image's tiles, of which ``tokens_IKH`` then are.
        """

    def prompts(
        self,
        model: Any,
        batch_size: int,
        evidence: VisualEvidence | None,
        image_counts: Tensor | None,
        image_index: Tensor | None = None,
    ) -> AdapterState | None:
        """Return what the attention of ``model`` reads besides the text; None = nothing."""
        return None

    def stacked(
        self,
        input_ids_BT: Tensor,
        evidence: VisualEvidence | None,
        image_index: Tensor | None,
        ids: ImageTokenIds,
    ) -> StackedTokens | None:
        """Return what the first layers add at the tokens of the images; None = nothing."""
        return None


def embedding_std(language: PreTrainedConfig) -> float:
    """Return the deviation that the language model's embeddings start with, the soft prompt's too.

    T5: ``initializer_factor`` (LION §4.2); the others' ``initializer_range`` (ours).
    """
    for name in ("initializer_factor", "initializer_range"):
        if getattr(language, name, None) is not None:
            return float(getattr(language, name))
    return 1.0

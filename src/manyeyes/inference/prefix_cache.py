"""Prompts that begin alike: what the language model made of the beginning is computed once.

    prompts ─split behind the last visual token→ beginnings, questions
    beginnings ─language model, each distinct one once→ keys and values
    questions ─generate behind them→ the answers that whole prompts would get

Two prompts begin alike when the tokens up to the last visual one, the images and the route of the
adapters are the same: many questions about one image, behind one system text. A later position
never changes an earlier one of a decoder, so nothing but the order of rounding differs.

Shapes: B prompts, D distinct beginnings, P positions of the longest beginning, Q of the longest
question, heads h, width of a head c.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from manyeyes.inference.ranking import ShownImages
from manyeyes.model.modeling import ManyEyesForConditionalGeneration

Layers = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values ``[1, h, P, c]`` of every layer."""


@dataclass(frozen=True)
class _Prompt:
    """One row without padding: its tokens, where its beginning ends, and its row of the batch."""

    ids: Tensor
    length: int
    row: int
    key: Hashable

    @property
    def begun(self) -> Tensor:
        """The tokens of the beginning."""
        return self.ids[: self.length]


@dataclass(eq=False)
class PrefixCache:
    """Keys and values of beginnings, the least recently used forgotten first.

    Args:
        model: a trained model in ``eval()``. limit: bytes that may be kept from one call of
            ``share`` to the next; 0 = beginnings are shared within a call only.
    """

    model: ManyEyesForConditionalGeneration
    limit: int = 0
    read: int = 0
    """Beginnings that the language model has read so far."""
    reused: int = 0
    """Prompts whose beginning was there already."""
    _kept: OrderedDict[Hashable, Layers] = field(default_factory=OrderedDict)

    @cached_property
    def usable(self) -> bool:
        """Whether the language model keeps plain keys and values of all that it has read.

        Encoder–decoder models, sliding windows and recurrent layers do not, and models that do not
        put images into the text have no beginning worth keeping.
        """
        model = self.model
        if not model.language_kind.answers_in_sequence or not model.config.given.tokens:
            return False
        if model.generation_config.cache_implementation is not None:
            return False
        layers = DynamicCache(config=model.config.text_config).layers
        return all(type(layer) is DynamicLayer for layer in layers)

    def forget(self) -> None:
        """Drop everything that is kept."""
        self._kept.clear()

    def share(
        self,
        inputs: Mapping[str, Tensor],
        shown: ShownImages | None,
        names: Sequence[Hashable],
        *,
        copies: int = 1,
        worthwhile: bool = True,
    ) -> dict[str, Any]:
        """Return the inputs of ``generate`` with the beginnings read: ``past_key_values``.

        Args:
            inputs: of B prompts, padded on the left, as ``processor.answer_inputs`` makes them.
            shown: evidence and the row of it for every image in reading order.
            names: what tells the images apart, in reading order, for as long as this cache lives.
            copies: sequences that ``generate`` follows for each prompt (its beams).
            worthwhile: leave the inputs alone unless some beginning saves reading.
        """
        prompts = self._prompts(inputs, names)
        known = {prompt.key for prompt in prompts if prompt.key in self._kept}
        distinct = {prompt.key: prompt for prompt in prompts}
        alone = len(distinct) == len(prompts) and not known and not self.limit
        if not self.usable or (worthwhile and alone) or min(p.length for p in prompts) < 1:
            return dict(inputs)
        new = [prompt for key, prompt in distinct.items() if key not in known]
        found: dict[Hashable, Layers] = {key: self._kept[key] for key in known}
        if new:
            found |= zip([p.key for p in new], self._read(new, inputs, shown), strict=True)
        self.read, self.reused = self.read + len(new), self.reused + len(prompts) - len(new)
        self._keep(found)
        return self._joined(inputs, prompts, [found[p.key] for p in prompts], copies)

    def _prompts(self, inputs: Mapping[str, Tensor], names: Sequence[Hashable]) -> list[_Prompt]:
        ids_BT, mask_BT = inputs["input_ids"], inputs["attention_mask"].bool()
        special = self.model.image_token_ids
        visual_BT = (ids_BT == special.image) | (ids_BT == special.end)
        routes = inputs["routes"].tolist() if "routes" in inputs else [None] * len(ids_BT)
        prompts, first = [], 0
        for row, count in enumerate(inputs["image_counts"].tolist()):
            ids, visual = ids_BT[row, mask_BT[row]], visual_BT[row, mask_BT[row]]
            places = visual.nonzero()
            length = int(places.max()) + 1 if len(places) else 1
            length = min(length, len(ids) - 1)
            own = tuple(names[first : first + count])
            key = (tuple(ids[:length].tolist()), own, routes[row])
            prompts.append(_Prompt(ids, length, row, key))
            first += count
        return prompts

    @torch.inference_mode()
    def _read(
        self, new: Sequence[_Prompt], inputs: Mapping[str, Tensor], shown: ShownImages | None
    ) -> list[Layers]:
        """Keys and values of D beginnings, which the language model reads together."""
        model = self.model
        rows = torch.tensor([prompt.row for prompt in new], device=model.device)
        ids, mask = _left([prompt.begun for prompt in new], [prompt.ids[-1] for prompt in new])
        counts = inputs["image_counts"]
        owners = torch.arange(len(counts)).repeat_interleave(counts.cpu())
        of_new = torch.cat([(owners == row).nonzero()[:, 0] for row in rows.tolist()])
        evidence = None if shown is None else shown.evidence
        index = None if shown is None else shown.rows[of_new.to(shown.rows.device)]
        routes = inputs["routes"][rows] if "routes" in inputs else None
        inner = model.layer_inputs(len(new), evidence, counts[rows], index, routes, input_ids=ids)
        with model.layer_context(inner):
            embeddings = model.embed(ids, evidence, counts[rows], index)
            state = model.language_kind.read(model.language_model, embeddings, mask).state
        kept = []
        for place, prompt in enumerate(new):
            part = slice(ids.shape[1] - prompt.length, None)
            pairs = [(layer.keys, layer.values) for layer in state.layers]
            kept.append(tuple(tuple(x[place : place + 1, :, part] for x in p) for p in pairs))
        return kept

    def _keep(self, found: Mapping[Hashable, Layers]) -> None:
        if not self.limit:
            return
        for key, layers in found.items():
            # a slice would keep the whole batch alive
            self._kept.setdefault(key, tuple((k.clone(), v.clone()) for k, v in layers))
            self._kept.move_to_end(key)
        while self._kept and self.bytes > self.limit:
            self._kept.popitem(last=False)

    @property
    def bytes(self) -> int:
        """Bytes that are kept."""
        every = (x for layers in self._kept.values() for pair in layers for x in pair)
        return sum(x.numel() * x.element_size() for x in every)

    def _joined(
        self,
        inputs: Mapping[str, Tensor],
        prompts: Sequence[_Prompt],
        found: Sequence[Layers],
        copies: int,
    ) -> dict[str, Any]:
        """Beginnings and questions, each padded on the left; the cache holds the beginnings."""
        fill = [prompt.ids[-1] for prompt in prompts]
        begun, mask_BP = _left([prompt.begun for prompt in prompts], fill)
        asked, mask_BQ = _left([prompt.ids[prompt.length :] for prompt in prompts], fill)
        longest = begun.shape[1]
        cache = DynamicCache(config=self.model.config.text_config)
        for number in range(len(found[0])):
            keys, values = (
                torch.cat([pad(layers[number][part], _before(layers, longest)) for layers in found])
                for part in (0, 1)
            )
            cache.update(keys, values, number)
        if copies > 1:
            cache.batch_repeat_interleave(copies)
        return {
            **inputs,
            "input_ids": torch.cat([begun, asked], dim=1),
            "attention_mask": torch.cat([mask_BP, mask_BQ], dim=1),
            "past_key_values": cache,
        }


def _before(layers: Layers, longest: int) -> tuple[int, int, int, int]:
    """Padding of ``[1, h, P, c]`` in front of its positions."""
    return (0, 0, longest - layers[0][0].shape[2], 0)


def _left(rows: Sequence[Tensor], fill: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Token ids padded on the left ``[B, T]``, and their attention mask.

    A row is padded with a token of its own prompt, so that penalties on repetition see no other.
    """
    longest = max(len(row) for row in rows)
    short = [longest - len(row) for row in rows]
    ids = [torch.cat([f.expand(n), row]) for row, f, n in zip(rows, fill, short, strict=True)]
    masks = [pad(torch.ones_like(row), (n, 0)) for row, n in zip(rows, short, strict=True)]
    return torch.stack(ids), torch.stack(masks)

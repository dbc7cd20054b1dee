"""LION's mixture of adapters beside every feed-forward sub-layer of a frozen language model.

    O^t = F(X) + Σ_k G^t_k ⊙ H_k(X),    H_k(X) = s_k · (W_u,k ReLU(W_d,k X + b_d,k) + b_u,k)

F(X) is the whole sub-layer, X its raw input: the residual stream before the norm. G^t_k is a free
vector per place, task type t and adapter k: a table, without softmax and without looking at X. Row
and adapter 0 are for region-level tasks, 1 for image-level ones, as in the released code (the
paper's figure has the image first). Source: LION §2.

With one adapter there are no gates (stages 1 and 2). Shapes: B samples, R rows of the language
model's batch (a whole multiple of B: beams, several answers; in OPT also positions), T positions,
H language-model width, P places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyeyes.conversation.task_types import TASK_TYPES
from manyeyes.errors import PartError
from manyeyes.layers.adapters.ffn_places import FfnPlace, ffn_places
from manyeyes.layers.adapters.side_inputs import Inside
from manyeyes.layers.mlp import ZeroLinear
from manyeyes.options import check_choice

ROUTES = "adapter_routes"
"""Keyword of the language model's ``forward`` that carries the samples' routes ``[B]``."""

_ROUTES: Inside[Tensor] = Inside(ROUTES)

routed = _ROUTES.given
"""Let every sub-layer that runs inside a block of code read routes ``[B]`` (or None)."""


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """Adapters beside the language model's feed-forward layers (LION)."""

    count: int = 2
    """Adapters per layer: 2, or 1 for a stage of one kind of task and for the ablation."""
    bottleneck: int = 64
    """Inner width of an adapter."""
    router: bool = True
    """The gates of the sample's task type weight two adapters. false: they are added up (ablation,
    ours)."""

    def __post_init__(self) -> None:
        check_choice("bridge.adapters", "count", self.count, (1, 2))

    @property
    def routed(self) -> bool:
        """Whether every sample needs a route."""
        return self.router and self.count == len(TASK_TYPES)


class DownLinear(nn.Linear):
    """Weights as PyTorch draws them (Kaiming, a = √5), biases 0."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.bias)


class Adapter(nn.Module):
    """H(X); fresh, it is zero."""

    def __init__(self, width: int, bottleneck: int) -> None:
        super().__init__()
        self.down_proj = DownLinear(width, bottleneck)
        self.up_proj = ZeroLinear(bottleneck, width)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x_RTH: Tensor) -> Tensor:
        """Return what is added, same shape, in the adapter's dtype (or autocast's)."""
        hidden = F.relu(self.down_proj(x_RTH.to(self.down_proj.weight.dtype)))
        return self.up_proj(hidden) * self.scale


class Gate(nn.Module):
    """G_k of one place: a row per task type, one-hot at the start; changes no other adapter."""

    def __init__(self, adapter: int, width: int) -> None:
        super().__init__()
        self.adapter = adapter
        self.weight = nn.Parameter(torch.empty(len(TASK_TYPES), width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Open for the adapter's own task type, closed for the other."""
        with torch.no_grad():
            self.weight.zero_()
            self.weight[self.adapter] = 1.0

    def forward(self, routes_R: Tensor) -> Tensor:
        """Return ``[R, H]``."""
        return self.weight[routes_R]


class AdapterMixture(nn.Module):
    """Adapters by number and place, and their gates: ``adapters.0.encoder5``, ``gates.1.layer3``.

    They live beside the language model, which stays untouched, and act on it once ``attach`` was
    called.
    """

    def __init__(self, options: AdapterOptions, places: list[str], width: int) -> None:
        super().__init__()
        self.routed = options.routed

        def everywhere(make: Any) -> nn.ModuleDict:
            return nn.ModuleDict({place: make() for place in places})

        numbers = range(options.count)
        self.adapters = nn.ModuleList(
            everywhere(partial(Adapter, width, options.bottleneck)) for _ in numbers
        )
        self.gates = nn.ModuleList(
            everywhere(partial(Gate, number, width)) for number in numbers if self.routed
        )

    def attach(self, model: Any) -> None:
        """Add to the output of every feed-forward sub-layer of ``model`` from now on."""
        for place in ffn_places(model):
            attached = _Attached(self, place)
            for attention in place.attentions:
                attention.register_forward_pre_hook(attached.enter, with_kwargs=True)
            place.reads.register_forward_pre_hook(attached.note)
            place.adds.register_forward_hook(attached.add)

    def forward(self, place: str, x_RTH: Tensor, routes_B: Tensor | None) -> Tensor:
        """Return Σ_k G_k ⊙ H_k(X) at one place.

        Raises:
            PartError: no routes, or not one for every sample of the batch.
        """
        found = [at[place](x_RTH) for at in _by_place(self.adapters)]
        if self.routed:
            routes_R = _by_row(routes_B, len(x_RTH))
            gates = [at[place](routes_R) for at in _by_place(self.gates)]
            found = [_over(gate, x) * x for gate, x in zip(gates, found, strict=True)]
        total: Tensor = found[0]
        for more in found[1:]:
            total = total + more
        return total


def _over(gate_RH: Tensor, x_RTH: Tensor) -> Tensor:
    """Give a gate the dimensions of x ``[R, ..., H]``; OPT keeps all positions in one row."""
    return gate_RH.view(len(gate_RH), *(1 for _ in x_RTH.shape[1:-1]), -1)


def _by_place(numbered: nn.ModuleList) -> list[nn.ModuleDict]:
    return [cast(nn.ModuleDict, places) for places in numbered]


class _Attached:
    """One place of one language model: routes and X of the pass that is running."""

    def __init__(self, mixture: AdapterMixture, place: FfnPlace) -> None:
        self.mixture, self.name = mixture, place.name
        self.routes: Tensor | None = None
        self.x: Tensor | None = None

    def enter(
        self, attention: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Take the routes out of the keywords that a layer hands on to its attention."""
        rest = dict(kwargs)
        self.routes = _ROUTES.read(rest.pop(ROUTES, None))
        return args, rest

    def note(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        """Keep the raw input of the sub-layer."""
        self.x = args[0]

    def add(self, module: nn.Module, args: tuple[Any, ...], output_RTH: Tensor) -> Tensor:
        """Return the sub-layer's output plus what the adapters add."""
        assert self.x is not None, "the sub-layer's norm runs before its end"
        x, self.x = self.x, None
        return output_RTH + self.mixture(self.name, x, self.routes).to(output_RTH.dtype)


def _by_row(routes_B: Tensor | None, rows: int) -> Tensor:
    """Repeat every sample's route for all of its rows, which stand side by side."""
    if routes_B is None:
        raise PartError(
            "the adapters are chosen by task type, but no routes were given: pass the processor's "
            f"`routes`, or generate(..., task=...) with one of {', '.join(TASK_TYPES)}"
        )
    copies, left = divmod(rows, len(routes_B))
    if left:
        raise PartError(f"routes of {len(routes_B)} samples for a batch of {rows} rows")
    return routes_B.repeat_interleave(copies)

"""Zero biases for projections that have none, so that bias tuning has something to tune.

LLaMA-Adapter V2 adds them to the query and output projections and to the three matrices of the MLP;
its instruction stage trains these biases and the norms, and no matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from manyeyes.errors import PartError, nearest


def add_biases(model: nn.Module, projections: Sequence[str]) -> frozenset[str]:
    """Give every linear layer whose last name is in ``projections`` a zero bias, unless it has one.

    Returns the names of the new parameters.

    Raises:
        PartError: a name that no linear layer has (naming the nearest).
    """
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    known = dict.fromkeys(name.rpartition(".")[2] for name in linears)
    for projection in projections:
        if projection not in known:
            raise PartError(
                f"language.added_biases: the language model has no linear layer {projection!r}"
                f"{nearest(projection, known)}; it has {', '.join(known)}"
            )
    added: set[str] = set()
    for name, linear in linears.items():
        if name.rpartition(".")[2] in projections and linear.bias is None:
            bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
            bias._is_hf_initialized = True  # else drawn at random
            linear.bias = bias
            added.add(f"{name}.bias")
    return frozenset(added)

"""Linear layers that start as BERT's do."""

from __future__ import annotations

from torch import nn

STD = 0.02


class NormalLinear(nn.Linear):
    """Weights N(0, 0.02), biases 0; all zero with ``zero=True``."""

    def __init__(self, in_features: int, out_features: int, *, zero: bool = False) -> None:
        self.zero = zero
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.0 if self.zero else STD)
        nn.init.zeros_(self.bias)

"""Projectors and MLP blocks. Shapes: any leading dimensions, D in, H out."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.activations import ACT2FN

PROJECTORS = ("linear", "mlp2x", "mlp3x_fused", "merger")


def build_projector(kind: str, in_width: int, out_width: int) -> nn.Sequential:
    """Return the map from visual width to language width.

    ``linear``: one Linear (COMM §1.5, Shikra). ``mlp2x``: Linear, GELU, Linear (LLaVA-1.5).
    ``mlp3x_fused``: Linear to 4 x in, GELU, Linear, GELU, Linear (Prismatic, for several encoders).
    ``merger``: LayerNorm, Linear at the width in, GELU, Linear (Qwen3-VL).
    """
    if kind == "linear":
        return nn.Sequential(nn.Linear(in_width, out_width))
    if kind == "mlp2x":
        return nn.Sequential(
            nn.Linear(in_width, out_width), nn.GELU(), nn.Linear(out_width, out_width)
        )
    if kind == "mlp3x_fused":
        hidden = 4 * in_width
        return nn.Sequential(
            nn.Linear(in_width, hidden),
            nn.GELU(),
            nn.Linear(hidden, out_width),
            nn.GELU(),
            nn.Linear(out_width, out_width),
        )
    if kind == "merger":
        return nn.Sequential(
            nn.LayerNorm(in_width, eps=1e-6),
            nn.Linear(in_width, in_width),
            nn.GELU(),
            nn.Linear(in_width, out_width),
        )
    raise AssertionError(f"unchecked projector {kind!r}")


class ZeroLinear(nn.Linear):
    """A linear layer that starts at zero, so that what it adds is nothing at first."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class MlpStack(nn.Module):
    """``num_blocks`` blocks of Linear(D→rD), activation, Linear(rD→D) in sequence (COMM §1.4)."""

    def __init__(
        self, width: int, *, num_blocks: int, ratio: int, activation: str, residual: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, ratio * width),
                ACT2FN[activation],
                nn.Linear(ratio * width, width),
            )
            for _ in range(num_blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the stack's output, same shape as ``x``."""
        for block in self.blocks:
            x = x + block(x) if self.residual else block(x)
        return x

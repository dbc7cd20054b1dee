"""Two processes see the losses and gradients of one process with the joined batch.

Tolerance: float32 sums come in another order. What is drawn at random (negatives, masks) is equal.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from image_text_process import PAIRS, run
from manyeyes.layers.ranks import gather_rows, shared_generator
from processes import on_two_ranks

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parents[1] / "support" / "image_text_process.py"


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    root = tmp_path_factory.mktemp("ranks")
    on_two_ranks(SCRIPT, root)
    return [torch.load(root / f"rank-{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def single() -> dict[str, Tensor]:
    return run(0, PAIRS)


@pytest.mark.parametrize("name", ["itc", "itm", "itg", "local"])
def test_losses_and_gradients_do_not_depend_on_the_split(
    ranks: list[dict[str, Tensor]], single: dict[str, Tensor], name: str
) -> None:
    for rank in ranks:
        assert rank.keys() == single.keys()
        torch.testing.assert_close(
            rank[f"loss.{name}"], single[f"loss.{name}"], rtol=1e-5, atol=1e-6
        )
        gradients = [key for key in single if key.startswith(f"{name}.")]
        assert len(gradients) > 20
        for key in gradients:
            torch.testing.assert_close(rank[key], single[key], rtol=1e-4, atol=2e-6)


def test_masks_do_not_depend_on_the_split(
    ranks: list[dict[str, Tensor]], single: dict[str, Tensor]
) -> None:
    assert torch.equal(torch.cat([rank["hidden"] for rank in ranks]), single["hidden"])
    assert len(torch.unique(single["hidden"], dim=0)) > 1


def test_one_process_gathers_nothing() -> None:
    rows = torch.randn(3, 2)
    assert gather_rows(rows) is rows
    torch.manual_seed(0)
    first = torch.rand(2, generator=shared_generator(rows.device))
    torch.manual_seed(0)
    assert torch.equal(first, torch.rand(2, generator=shared_generator(rows.device)))

"""`feature_norm: standardize`: every channel over measured patches, and what it does without."""

from __future__ import annotations

import pytest
import torch

from manyeyes.errors import PartError
from manyeyes.layers.feature_norm import LEAST_SPREAD, FeatureNorm


def tokens(images: int = 6) -> torch.Tensor:
    """``[I, 1 + 5, 4]``: a class token far away, a loud channel, and one that never changes."""
    drawn = torch.randn(images, 6, 4, generator=torch.Generator().manual_seed(0))
    drawn = drawn * torch.tensor([1.0, 100.0, 3.0, 0.0]) + torch.tensor([0.0, 7.0, -2.0, 5.0])
    drawn[:, 0] = 1e4
    return drawn


def measured(parts: int = 1) -> FeatureNorm:
    norm = FeatureNorm("standardize", [2, 4])
    with norm.measuring():
        for part in tokens().chunk(parts):
            assert torch.equal(norm(part, 1, prefix=1), part)
            norm(part[..., :2], 0, prefix=1)
    return norm


@pytest.mark.parametrize("parts", [1, 3])
def test_every_channel_of_the_patches_has_mean_0_and_deviation_1(parts: int) -> None:
    found = measured(parts)(tokens(), 1, prefix=1)[:, 1:].flatten(0, 1)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    expected = torch.tensor([1.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(found.std(dim=0, correction=0), expected, atol=1e-4, rtol=0)


def test_a_channel_that_never_changed_is_not_blown_up() -> None:
    norm = measured()
    patches = tokens()[:, 1:].flatten(0, 1).double()
    spread = patches.var(dim=0, correction=0).mean().sqrt()
    new = tokens()
    new[..., 3] += float(spread) * LEAST_SPREAD
    found = norm(new, 1, prefix=1)[:, 1:, 3]
    torch.testing.assert_close(found, torch.ones_like(found), rtol=1e-3, atol=0)


def test_statistics_are_saved_and_loaded() -> None:
    norm, other = measured(), FeatureNorm("standardize", [2, 4])
    assert other.unmeasured and not norm.unmeasured
    other.load_state_dict(norm.state_dict())
    assert not other.unmeasured
    assert torch.equal(other(tokens(), 1), norm(tokens(), 1))
    assert not list(norm.parameters())
    assert norm.state_dict().keys() == {
        f"channels.{place}.{name}" for place in (0, 1) for name in ("mean", "std", "count")
    }
    assert not FeatureNorm("rms", [2, 4]).state_dict()


def test_without_statistics_it_says_who_measures_them() -> None:
    with pytest.raises(PartError, match="training measures them before its first step"):
        FeatureNorm("standardize", [4])(tokens(), 0)

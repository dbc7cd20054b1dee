"""X-Former's reconstruction of hidden patches: x-former.md §10, checks 7 and 8, over tiny parts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import ViTMAEForPreTraining

import image_text_parts as tiny_parts
from manyeyes.errors import PartError
from manyeyes.losses import OBJECTIVES
from manyeyes.losses.reconstruction import reconstruction_loss
from manyeyes.model.intermediates import read_back
from manyeyes.records import GridFeatures, Masking
from xformer_models import FIRST, make, needs, pairs, xformer

pytestmark = pytest.mark.long


def test_xformer_check_08_only_hidden_patches_count(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    model.train()
    trace = model(**pairs(processor, pictures), wanted=needs("reconstruction")).trace
    predicted, target, hidden = (trace[name].detach() for name in needs("reconstruction"))
    assert hidden.sum(dim=1).tolist() == [8.0] * 3
    loss = float(reconstruction_loss(predicted, target, hidden))
    visible = (1 - hidden)[..., None]
    assert float(reconstruction_loss(predicted + 5 * visible, target, hidden)) == loss
    assert float(reconstruction_loss(target + 5 * visible, target, hidden)) == 0.0
    assert float(reconstruction_loss(predicted + 5 * (1 - visible), target, hidden)) != loss


def local_permuted(found: GridFeatures, order: Tensor) -> GridFeatures:
    """Visible patches in another order, and the places that say where they belong."""
    assert found.masking is not None
    place = order.argsort()
    restore = found.masking.restore.clone()
    visible = restore < len(order)
    restore[visible] = place[restore[visible]]
    return replace(
        found,
        levels=tuple(level[:, order] for level in found.levels),
        masking=Masking(found.masking.hidden, restore),
    )


@torch.no_grad()
def test_xformer_check_07_permuted_patches_reconstruct_the_same(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home)
    model.train()
    batch = pairs(processor, pictures)
    visual = {name: value for name, value in batch.items() if name.startswith("pixel_values_")}
    bundle = dict(model.encode(**visual))
    moved = {**bundle, "mae": local_permuted(bundle["mae"], torch.randperm(8))}
    assert not torch.equal(moved["mae"].levels[0], bundle["mae"].levels[0])
    read = [model.fusion(given) for given in (bundle, moved)]
    torch.testing.assert_close(read[1].tokens, read[0].tokens, rtol=0, atol=1e-5)
    traces = [
        read_back(model, evidence.trace, given, visual)
        for evidence, given in zip(read, (bundle, moved), strict=True)
    ]
    torch.testing.assert_close(
        traces[1]["predicted_patches"], traces[0]["predicted_patches"], rtol=0, atol=1e-5
    )
    first, second = (float(OBJECTIVES["reconstruction"](trace)) for trace in traces)
    assert second == pytest.approx(first, abs=1e-5)
    forgotten = {**moved, "mae": replace(moved["mae"], masking=bundle["mae"].masking)}
    wrong = read_back(model, read[1].trace, forgotten, visual)
    assert not torch.allclose(wrong["predicted_patches"], traces[0]["predicted_patches"], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("normalized", [False, True])
def test_xformer_check_08_equals_the_loss_of_transformers(
    home: Path, pictures: list[Image.Image], tmp_path: Path, normalized: bool
) -> None:
    """M' := M under given noise, which shuffles ``ids_restore``: the loss of the whole MAE."""
    shutil.copytree(home, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "mae")
    tiny_parts.save_mae(tmp_path / "parts" / "mae", normalized=normalized)
    model, processor = xformer(tmp_path / "parts")
    model.fusion.dual.w_in, model.fusion.dual.w_out = nn.Identity(), nn.Identity()
    model.fusion.dual.layers[0].local.forward = lambda x, y, mask=None: x  # type: ignore[method-assign]
    model.fusion.dual.layers[0].query.forward = lambda x, y, mask=None: x  # type: ignore[method-assign]
    whole: Any = ViTMAEForPreTraining.from_pretrained(tmp_path / "parts" / "mae")
    whole.config.mask_ratio = whole.vit.config.mask_ratio = 0.5
    batch = pairs(processor, pictures)
    noise = torch.rand(3, 16, generator=torch.Generator().manual_seed(1))
    expected = whole(pixel_values=batch["pixel_values_mae"], noise=noise)
    assert not torch.equal(expected.ids_restore, torch.arange(16).expand(3, -1))
    model.train()
    trace = model(**batch, noise_mae=noise, wanted=needs("reconstruction")).trace
    assert torch.equal(trace["hidden_patches"], expected.mask)
    torch.testing.assert_close(trace["predicted_patches"], expected.logits, rtol=1e-5, atol=1e-5)
    found = float(OBJECTIVES["reconstruction"](trace))
    assert found == pytest.approx(float(expected.loss), rel=1e-5)


def test_xformer_check_08_nothing_hidden_is_an_error(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = xformer(home, ratio=0.0)
    model.train()
    with pytest.raises(PartError, match=r"nothing is hidden from encoder 'mae'.* mask_ratio"):
        model(**pairs(processor, pictures), wanted=needs("reconstruction"))
    with pytest.raises(PartError, match="no patch is hidden"):
        reconstruction_loss(torch.ones(1, 2, 3), torch.ones(1, 2, 3), torch.zeros(1, 2))


def test_reconstruction_needs_a_fusion_that_gives_local_states(
    home: Path, pictures: list[Image.Image]
) -> None:
    model, processor = make(tiny_parts.clip_block(home, **FIRST))
    with pytest.raises(PartError, match="reconstruct: true"):
        model(**pairs(processor, pictures), wanted=needs("reconstruction"))

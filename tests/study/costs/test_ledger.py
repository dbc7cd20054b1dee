"""What lives at once in a computation: storages once, until the last of them is gone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from manyeyes.study.costs.fakes import fake, fake_mode, fake_weights
from manyeyes.study.costs.ledger import Ledger

KIB = 1024


def kib() -> Tensor:
    return torch.zeros(256)


def test_what_is_gone_does_not_count_any_more() -> None:
    with Ledger([]) as ledger:
        first = kib()
        second = first + 1
        del first
        third = second + 1
        del second, third
    ledger.close_moment("end")
    assert ledger.moments == [("end", 2 * KIB, 0, 0)]


def test_views_and_updates_in_place_take_nothing() -> None:
    held = kib()
    with Ledger([held]) as ledger:
        held.add_(1)
        view = held.view(16, 16).t()[1:]
        copy = view.contiguous()
    ledger.close_moment("end")
    assert ledger.moments[0].others == copy.untyped_storage().nbytes()


def test_a_chain_of_layers_keeps_what_backward_reads() -> None:
    layers = nn.Sequential(nn.Linear(256, 256, bias=False), nn.GELU(), nn.Linear(256, 256))
    mode = fake_mode()
    with fake_weights(layers, mode, _float32, lambda name: name.startswith("2.")) as weights:
        ledger, inputs = Ledger(weights), fake(mode, (1, 256), torch.float32)
        for name, parameter in layers.named_parameters():
            if parameter.requires_grad:
                done = partial(ledger.complete, name=name, shared=name == "2.weight")
                parameter.register_post_accumulate_grad_hook(done)
        with ledger:
            layers(inputs).sum().backward()
        ledger.close_moment("end")
    assert not any(isinstance(p, FakeTensor) for p in layers.parameters())
    last = ledger.moments[-1]
    assert (last.whole, last.shared) == (KIB, 256 * KIB)
    # the frozen layer's output is not kept: the activation's own output is what backward reads
    assert max(moment.others for moment in ledger.moments) <= 256 * KIB + 6 * KIB


def _float32(name: str, tensor: Tensor) -> torch.dtype:
    return torch.float32


def test_real_masks_choose_among_fake_rows() -> None:
    mode = fake_mode()
    rows, mask = fake(mode, (4, 8), torch.float32), torch.tensor([True, False, True, True])
    with Ledger([]):
        chosen = rows[mask]
        assert chosen.shape == (3, 8)
        rows[mask] = chosen


def test_tied_weights_stay_tied_and_come_back() -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    model["b"].weight = model["a"].weight
    own = model["a"].weight
    with fake_weights(model, fake_mode(), _float32, lambda name: True) as weights:
        assert len(weights) == 1
        assert model["a"].weight is model["b"].weight is not own
    assert model["a"].weight is model["b"].weight is own


def test_weights_come_back_after_an_error() -> None:
    model = nn.Linear(2, 2)
    own = model.weight
    with (
        pytest.raises(ValueError, match="stop"),
        fake_weights(model, fake_mode(), _float32, lambda name: True),
    ):
        raise ValueError("stop")
    assert model.weight is own

"""What FSDP2 refuses is brought into a form that it takes, and back again for checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.distributed import fsdp

from lion_parts import build_lion, lion_block
from manyeyes.layers.object_refiner import ObjectRefiner
from manyeyes.training.sharding import (
    hold_scalars_as_vectors,
    name_blocks,
    reshaped_moments,
    scalars_again,
    units_of,
)


def test_a_scalar_acts_alike_as_a_vector_and_is_stored_as_a_scalar() -> None:
    torch.manual_seed(0)
    refiner = ObjectRefiner(16, 8)
    nn.init.constant_(refiner.gate, 0.7)
    objects, shared = torch.randn(2, 3, 16), torch.randn(2, 4, 8)
    before, stored = (
        refiner(objects, shared),
        {n: t.clone() for n, t in refiner.state_dict().items()},
    )
    assert hold_scalars_as_vectors(refiner) == {"gate"}
    assert refiner.gate.shape == (1,) and all(p.ndim > 0 for p in refiner.parameters())
    assert torch.equal(refiner(objects, shared), before)
    again = scalars_again(refiner.state_dict(), {"gate"})
    assert again["gate"].shape == ()
    assert all(torch.equal(again[name], tensor) for name, tensor in stored.items())


def test_moments_of_a_scalar_fit_either_form() -> None:
    moments = {"step": torch.tensor(2.0), "exp_avg": torch.tensor([0.5])}
    other = {"step": torch.tensor(2.0), "exp_avg": torch.ones(1)}
    state = {"state": {"gate": moments, "scale": other}, "param_groups": []}
    stored = reshaped_moments(state, {"gate"}, ())
    assert stored["state"]["gate"]["exp_avg"].shape == ()
    assert stored["state"]["scale"]["exp_avg"].shape == (1,)
    back = reshaped_moments(stored, {"gate"}, (1,))
    assert back["state"]["gate"]["exp_avg"].shape == (1,)
    assert back["state"]["gate"]["step"].shape == ()
    assert reshaped_moments({}, {"gate"}, ()) == {}  # on all processes but the first


def test_only_blocks_of_the_language_model_are_units(parts: Path) -> None:
    """Whatever a batch may lack, an image or a text about one, must be in the root."""
    for language, block in (("t5", "T5Block"), ("llama", "LlamaDecoderLayer")):
        model, _ = build_lion(lion_block(parts, language))
        name_blocks(model)
        assert model._no_split_modules == [block]
        embedding = model.get_input_embeddings()
        with units_of(model):
            assert model.get_input_embeddings() is model.get_output_embeddings() is None
        assert model.get_input_embeddings() is embedding


@pytest.fixture
def group_of_one() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


class Seen(nn.Module):
    """Notes in what precision its own weight is gathered."""

    def __init__(self, inside: nn.Module | None = None) -> None:
        super().__init__()
        self.weight, self.inside = nn.Parameter(torch.ones(2)), inside

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        self.gathered, self.given = self.weight.dtype, states.dtype
        return states if self.inside is None else self.inside(states)


@pytest.mark.parametrize(
    "inside, gathered",
    [(nn.Linear, torch.bfloat16), (lambda width, _: nn.LayerNorm(width), torch.float32)],
)
def test_blocks_alone_are_gathered_in_half_precision(
    group_of_one: None, inside: Callable[[int, int], nn.Module], gathered: torch.dtype
) -> None:
    """A layer norm on a CPU refuses weights in another precision than its input's."""
    block = Seen(inside(2, 2))
    root = Seen(block)
    policy = fsdp.MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    with units_of(root):  # type: ignore[arg-type]
        for module in (block, root):
            fsdp.fully_shard(module, mp_policy=policy)
    with torch.autocast("cpu", torch.bfloat16):
        root(torch.ones(1, 2))
    assert (root.gathered, block.gathered, block.given) == (torch.float32, gathered, torch.float32)

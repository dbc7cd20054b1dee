"""Joining the micro-batches of several processes, so that a batch is the same however it is split.

Rows stand in rank order: with W processes and equal micro-batches the joined batch is the one that
a single process with W times the micro-batch would see. Without a process group everything here is
the identity. Shapes: B rows of this process, N rows of all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def rank_and_world() -> tuple[int, int]:
    """Return this process's number and the number of processes."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gather_rows(rows_B: Tensor) -> Tensor:
    """Return ``rows_B`` ``[B, ...]`` of all processes, ``[N, ...]``; gradients flow back to each.

    Every process must bring the same shape. The gradient of a row is the sum of what all processes
    ask of it, so averaging parameter gradients over processes gives that of the joined batch. (In
    LAVIS gathered rows carry no gradient, and the gradient depends on the split.)
    """
    if rank_and_world()[1] == 1:
        return rows_B
    gathered: Tensor = _Gather.apply(rows_B)
    return gathered


def join_rows(rows_B: Tensor, value: float = 0) -> Tensor:
    """Return ``rows_B`` ``[B, ...]`` of all processes, ``[W·M, ...]``, M the largest B.

    Shorter shares end in rows of ``value``, and a process may have no row at all. Only this
    process's rows carry gradients, so a term of the joined rows counts W-fold in its gradient, see
    ``of_all_ranks``. Nothing is exchanged in the backward pass, where processes with and without
    rows come by in different orders.
    """
    rank, world = rank_and_world()
    missing = largest(len(rows_B), rows_B.device) - len(rows_B)
    own = torch.cat([rows_B, rows_B.new_full((missing, *rows_B.shape[1:]), value)])
    if world == 1 or not own.numel():
        return own
    parts = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(parts, own.detach().contiguous())
    return torch.cat([*parts[:rank], own, *parts[rank + 1 :]])


def of_all_ranks(term: Tensor) -> Tensor:
    """Return ``term`` of joined rows, with W times its gradient.

    Every process has computed the whole term, but only its own rows' share of the gradient;
    averaging over W processes gives the whole gradient.
    """
    rest = rank_and_world()[1] - 1
    return term + rest * (term - term.detach()) if rest else term


def gather_padded(rows_BT: Tensor, value: int) -> Tensor:
    """Return ``[B, T]`` rows of all processes, padded on the right with ``value`` to one T."""
    longest = int(largest(rows_BT.shape[1], rows_BT.device))
    missing = longest - rows_BT.shape[1]
    return gather_rows(torch.nn.functional.pad(rows_BT, (0, missing), value=value))


def largest(number: int, device: torch.device) -> int:
    """Return the largest of all processes' numbers."""
    if rank_and_world()[1] == 1:
        return number
    found = torch.tensor(number, device=device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return int(found)


def rows_of_ranks(count: int, device: torch.device) -> tuple[int, int]:
    """Return where this process's ``count`` rows begin among those of all, and how many all are."""
    rank, world = rank_and_world()
    if world == 1:
        return 0, count
    counts = torch.zeros(world, dtype=torch.long, device=device)
    counts[rank] = count
    distributed.all_reduce(counts)
    return int(counts[:rank].sum()), int(counts.sum())


def total(count: Tensor) -> Tensor:
    """Return the sum of all processes' counts, without gradient."""
    if rank_and_world()[1] == 1:
        return count
    found = count.detach().clone()
    distributed.all_reduce(found)
    return found


def shared_generator(device: torch.device) -> torch.Generator:
    """Return a generator in the same state on every process, seeded by the first one's.

    What is drawn from it for the joined batch does not depend on the number of processes.
    """
    seed = torch.randint(2**62, (1,))
    if rank_and_world()[1] > 1:
        seed = seed.to(device)
        distributed.broadcast(seed, src=0)
    return torch.Generator("cpu").manual_seed(int(seed))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_B: Tensor) -> Tensor:
        ctx.count = rows_B.shape[0]
        parts = [torch.empty_like(rows_B) for _ in range(rank_and_world()[1])]
        distributed.all_gather(parts, rows_B.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous()
        distributed.all_reduce(whole)
        start = rank_and_world()[0] * ctx.count
        return whole[start : start + ctx.count]

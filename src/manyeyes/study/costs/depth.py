"""The step of a deep language model, from steps of the same model with few blocks.

Blocks that are alike add the same bytes each, so every moment of a step is a straight line in their
number: those before, between and after the blocks, and of the blocks the first and the last ones,
between which the highest moment cannot lie. Two short steps give the line. Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from manyeyes.study.costs.ledger import Moment
from manyeyes.study.costs.tracing import Traced
from manyeyes.training.sharding import block_classes
from manyeyes.training.trainable import Assignment

FEW = 3
"""Blocks of the shorter step: the first one may differ from all others, as in T5."""
_LAST = "last"


def trace_deep(model: Any, assignment: Assignment, trace: Callable[[], Traced]) -> Traced:
    """Return ``trace()`` of ``model``, from fewer blocks where its blocks are alike."""
    stacks = _alike(model, assignment)
    if not stacks:
        return trace()
    depth = len(next(iter(stacks.values())))
    found = []
    for blocks in (FEW, FEW + 1):
        with _cut(model, stacks, blocks):
            found.append(_named(trace(), stacks, blocks))
    few, more = found
    rest = depth - FEW
    return Traced(tuple(_on(few[name], more[name], rest) for name in few.keys() & more.keys()))


def _on(few: Moment, more: Moment, blocks: int) -> Moment:
    """A moment with ``blocks`` more blocks than in ``few``, of which ``more`` has one."""
    others, whole, shared = (
        one + blocks * (other - one) for one, other in zip(few[1:], more[1:], strict=True)
    )
    return Moment(few.name, others, whole, shared)


def _alike(model: Any, assignment: Assignment) -> Mapping[str, nn.ModuleList]:
    """The language model's stacks of blocks by their names; none where they are not alike.

    Prompts are read, and tokens added, by some blocks only. All stacks must have one length, more
    than ``FEW`` + 1.
    """
    if model.config.given.prompts or model.config.given.layers:
        return {}
    kinds = set(block_classes(model))
    named = model.language_model.named_modules(prefix="language_model")
    stacks = {
        name: module
        for name, module in named
        if isinstance(module, nn.ModuleList) and {type(block).__name__ for block in module} <= kinds
        if len(module)
    }
    lengths = {len(stack) for stack in stacks.values()}
    if len(lengths) != 1 or min(lengths) <= FEW + 1:
        return {}
    for name, stack in stacks.items():
        if len({_shape(name, stack, i, assignment) for i in range(1, len(stack))}) != 1:
            return {}
    return stacks


def _shape(name: str, stack: nn.ModuleList, index: int, assignment: Assignment) -> Any:
    """All that tells one block from another."""
    return tuple(
        (own, tensor.shape, assignment.get(f"{name}.{index}.{own}") is not None)
        for own, tensor in stack[index].named_parameters()
    )


@contextmanager
def _cut(model: Any, stacks: Mapping[str, nn.ModuleList], blocks: int) -> Iterator[None]:
    """Leave ``model`` its first ``blocks`` blocks for a block of code."""
    try:
        for name, stack in stacks.items():
            _put(model, name, nn.ModuleList(list(stack)[:blocks]))
        yield
    finally:
        for name, stack in stacks.items():
            _put(model, name, stack)


def _put(model: nn.Module, name: str, stack: nn.ModuleList) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, stack)


def _named(traced: Traced, stacks: Mapping[str, Any], blocks: int) -> dict[str, Moment]:
    """Moments by what they are in a model of any depth; those of blocks in between are left out."""
    found = {}
    for moment in traced.moments:
        name = _place(moment.name, stacks, blocks)
        if name is not None:
            found[name] = moment
    return found


def _place(name: str, stacks: Mapping[str, Any], blocks: int) -> str | None:
    for stack in stacks:
        index, _, rest = name.removeprefix(f"{stack}.").partition(".")
        if name.startswith(f"{stack}.") and index.isdigit():
            if int(index) == blocks - 1:
                return f"{stack}.{_LAST}.{rest}"
            return name if int(index) < FEW - 1 else None
    return name

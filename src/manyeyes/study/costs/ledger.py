"""Which tensors live at every moment of a step, and how many bytes they take together.

A storage counts once, however many tensors share it, from the operation that made it until the last
of them is gone. What a kernel takes for itself inside one operation is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten: Any = torch.ops.aten
_DEVICE: Any = torch.ops.prim.device.default
_INDEXING = (
    _aten.index.Tensor,
    _aten._unsafe_index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._unsafe_index_put.default,
)


class Moment(NamedTuple):
    """Bytes that live at once: complete gradients, those of which a part is kept, all others.

    ``name``: what ended the moment, a parameter whose gradient is complete or a part of the step.
    """

    name: str
    others: int
    whole: int
    shared: int


class Ledger(TorchDispatchMode):
    """Counts what the operations of a block of code make, real tensors and fake ones.

    ``moments``: bytes that lived at once. While complete gradients stayed what they are in a
    moment, its ``others`` is the highest value of everything else.
    """

    def __init__(self, held: Iterable[Tensor]) -> None:
        """``held``: tensors that are there before and do not count."""
        super().__init__()
        self.moments: list[Moment] = []
        self._now = self._most = self._whole = self._shared = 0
        self._living: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        for tensor in held:
            self._living[tensor.untyped_storage()] = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is _DEVICE:
            return args[0].fake_device
        if func in _INDEXING:
            args = (args[0], _numbers(args[1]), *args[2:])
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return made

    def add(self, tensor: Tensor) -> None:
        """Count the storage of ``tensor`` from now on, unless it is counted already."""
        storage = tensor.untyped_storage()
        if storage in self._living:
            return
        size = storage.nbytes()
        self._now += size
        self._most = max(self._most, self._now)
        self._living[storage] = weakref.finalize(storage, self._drop, size)

    def complete(self, parameter: Tensor, *, name: str, shared: bool = False) -> None:
        """Count the gradient of ``parameter``, which nothing is added to any more, as float32.

        ``shared``: the process keeps a part of it only.
        """
        self.close_moment(name)
        gradient = parameter.grad
        finalizer = None if gradient is None else self._living.get(gradient.untyped_storage())
        if gradient is not None and finalizer is not None and finalizer.detach():
            self._now -= gradient.untyped_storage().nbytes()
        if shared:
            self._shared += 4 * parameter.numel()
        else:
            self._whole += 4 * parameter.numel()
        self._most = self._now

    def close_moment(self, name: str) -> None:
        """Write down the highest moment since the last one."""
        self.moments.append(Moment(name, self._most, self._whole, self._shared))
        self._most = self._now

    def _drop(self, size: int) -> None:
        self._now -= size


def _numbers(indices: Iterable[Tensor | None]) -> list[Tensor | None]:
    """Return indices with real masks as the numbers that they choose: how many, a fake cannot."""
    found: list[Tensor | None] = []
    for index in indices:
        mask = index is not None and index.dtype in (torch.bool, torch.uint8)
        if index is None or not mask or isinstance(index, FakeTensor):
            found.append(index)
        else:
            found += index.nonzero(as_tuple=True)
    return found

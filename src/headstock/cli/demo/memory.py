"""Counts the bytes of all tensors that are alive, and the most there were."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

__all__ = ["LivingBytes"]


class LivingBytes(TorchDispatchMode):
    """The peak of the bytes in storages that operations made inside the `with` block and that are still referenced.

    Each storage counts once, whatever views share it. What was alive before, a kernel's own workspace and what an
    allocator keeps aside do not count, so the number is the same on every machine.

    Example:
        >>> with LivingBytes() as counted:
        ...     total = torch.ones(1000).exp().sum()
        >>> counted.peak  # two tensors of 4000 bytes at a time: the ones and their exp
        8000
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.current = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count the storages that are new in its result."""
        del types
        before = {id(_storage(each)) for each in tree_iter((args, kwargs)) if isinstance(each, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for each in tree_iter(result):
            if isinstance(each, torch.Tensor) and id(_storage(each)) not in before:
                self._count(_storage(each))
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        size = storage.nbytes()
        self.current += size
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._forget, id(storage), size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.current -= size


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()

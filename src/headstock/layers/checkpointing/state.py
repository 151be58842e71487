"""The parameters and buffers that a layer's forward saw: recomputation sees the same and leaves no second trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from torch import Tensor, nn

from headstock.errors import UnsupportedFeature

__all__ = ["LayerState"]

Slots: TypeAlias = dict[str, Any]  # the `_parameters` or `_buffers` of a module


class LayerState:
    """A layer's tensors as they are when this is made.

    Buffers that forward writes (running statistics, counters, histories) are read by recomputation as forward read
    them, and are not written again. Tensors that were lent to the layer for one call, as by
    `torch.func.functional_call`, are lent again.

    Raises:
        UnsupportedFeature: a parameter was changed in place before it was read again; without checkpointing torch
            refuses that too.
    """

    __slots__ = ("_entries", "_layer")

    def __init__(self, layer: nn.Module) -> None:
        self._layer = type(layer).__name__
        modules = list(layer.modules())
        self._entries = [_Parameter(each._parameters, name) for each in modules for name in each._parameters]
        self._entries += [_Buffer(each._buffers, name) for each in modules for name in each._buffers]

    def settle(self) -> None:
        """Find out what the first run has written, and forget the values of the rest."""
        # All buffers of a module: batch norm counts a version for its number of batches, none for its statistics.
        written = {id(entry.slots) for entry in self._entries if entry.written}
        for entry in self._entries:
            entry.settle(written=id(entry.slots) in written)

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """The layer with the tensors of the first run, or copies of those that it wrote."""
        for entry in self._entries:
            if entry.overwritten:
                raise UnsupportedFeature(
                    f"the parameters of a checkpointed layer must stay as they are until backward, got {entry.name!r} "
                    f"of {self._layer} changed in place; change them (step the optimizer) after backward"
                )
        lent = [(entry, entry.slots[entry.name]) for entry in self._entries if entry.differs]
        try:
            for entry, _ in lent:
                entry.slots[entry.name] = entry.replayed()
            yield
        finally:
            for entry, present in lent:
                entry.slots[entry.name] = present


class _Parameter:
    __slots__ = ("name", "slots", "tensor", "version")

    def __init__(self, slots: Slots, name: str) -> None:
        self.slots = slots
        self.name = name
        self.tensor: Tensor | None = slots[name]
        self.version = _version(self.tensor)

    @property
    def written(self) -> bool:
        return False

    def settle(self, *, written: bool) -> None:
        """Nothing: parameters are not written in forward."""

    @property
    def overwritten(self) -> bool:
        return isinstance(self.tensor, nn.Parameter) and _version(self.tensor) != self.version

    @property
    def differs(self) -> bool:
        """Whether the layer holds another tensor now, with other memory.

        FSDP makes new views of one memory, and frees the memory of the old ones: then what the layer holds is right.
        """
        present, tensor = self.slots.get(self.name), self.tensor
        if present is tensor or tensor is None or present is None:
            return present is not tensor
        return tensor.data_ptr() != present.data_ptr() and tensor.untyped_storage().size() > 0

    def replayed(self) -> Tensor | None:
        return self.tensor


class _Buffer(_Parameter):
    __slots__ = ("value",)

    def __init__(self, slots: Slots, name: str) -> None:
        super().__init__(slots, name)
        self.value = None if self.tensor is None else self.tensor.detach().clone()

    @property
    def written(self) -> bool:
        return self.slots.get(self.name) is not self.tensor or _version(self.tensor) != self.version

    def settle(self, *, written: bool) -> None:
        if not written:
            self.value = None

    @property
    def differs(self) -> bool:
        return self.value is not None or super().differs

    def replayed(self) -> Tensor | None:
        return self.tensor if self.value is None else self.value.clone()  # backward may come twice


def _version(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.is_inference() else tensor._version  # inference tensors count no versions

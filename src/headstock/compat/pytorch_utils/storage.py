"""Tells which tensors share memory."""

import sys
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from headstock.errors import UnsupportedFeature

__all__ = ["id_tensor_storage"]


def id_tensor_storage(tensor: Shaped[Tensor, "..."]) -> tuple[torch.device, int, int]:
    """The device, an identifier and the bytes of the storage behind `tensor`: equal for tensors that share one.

    The identifier is the address of the memory. Where there is none, in empty, meta and fake tensors, it is the address
    of the storage object: their views are equal, and two of them made apart differ (transformers calls them all equal).
    A DTensor stands for its local shard. The identifier holds as long as the storage lives.

    Raises:
        UnsupportedFeature: the tensor has no storage, as sparse ones do not.

    Example:
        >>> whole = torch.zeros(4)
        >>> id_tensor_storage(whole) == id_tensor_storage(whole[1:]), id_tensor_storage(whole)[2]
        (True, 16)
    """
    device = tensor.device
    tensor = _local(tensor)
    if device.type == "xla":
        return device, _xla_id(tensor), tensor.nbytes
    try:
        storage = tensor.untyped_storage()
    except NotImplementedError as error:
        raise UnsupportedFeature(
            f"a tensor must have a storage to be identified by it, got the layout {tensor.layout}; identify its parts "
            "(indices and values) instead"
        ) from error
    return device, _address(storage) or storage._cdata, storage.nbytes()


def _local(tensor: Any) -> Tensor:
    # A DTensor can only exist where its module is loaded, and loading it takes as long as importing torch.
    module = sys.modules.get("torch.distributed.tensor")
    local: Tensor = tensor.to_local() if module is not None and isinstance(tensor, module.DTensor) else tensor
    return local


def _address(storage: torch.UntypedStorage) -> int:
    if storage.device.type == "meta":  # fake tensors too; asking those for the address is deprecated
        return 0
    try:
        return storage.data_ptr()
    except RuntimeError:  # a wrapper around other tensors
        return 0


def _xla_id(tensor: Tensor) -> int:
    number: int = import_module("torch_xla")._XLAC._xla_get_tensor_id(tensor)
    return number

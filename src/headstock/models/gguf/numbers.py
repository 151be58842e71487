"""The numbers of stored tensors as floats."""

from typing import Any

import torch
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.models.gguf.file import GGUFFile, StoredTensor
from headstock.models.gguf.package import gguf_package

__all__ = ["numbers"]

# Stored as they are; everything else is in blocks with scales of their own.
_PLAIN = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
_WHOLE_NUMBERS = {"I8", "I16", "I32", "I64"}


def numbers(file: GGUFFile, stored: StoredTensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor's numbers: what its blocks stand for in float32, then rounded to `dtype`.

    Raises:
        UnsupportedFeature: the package `gguf` does not decode this way of storing numbers.
    """
    kind = stored.kind.name
    content = bytearray(file.data[stored.start : stored.start + stored.size])  # a copy that may be written to
    if kind in _PLAIN:
        return torch.frombuffer(content, dtype=_PLAIN[kind]).reshape(stored.shape).to(dtype)
    if kind in _WHOLE_NUMBERS:
        raise UnsupportedFeature(f"{stored.name} must hold weights, got whole numbers ({kind}) ({file.path})")
    decoded = torch.from_numpy(_decoded(content, stored, file))
    return decoded.reshape(stored.shape).to(dtype)


def _decoded(content: bytearray, stored: StoredTensor, file: GGUFFile) -> Any:
    import numpy as np

    rows = np.frombuffer(content, dtype=np.uint8).reshape(*stored.shape[:-1], -1)
    try:
        return gguf_package().quants.dequantize(rows, stored.kind)
    except NotImplementedError:
        raise UnsupportedFeature(
            f"{stored.name} must be stored in a way that the package gguf decodes, got {stored.kind.name}; "
            f"quantise the model otherwise ({file.path})"
        ) from None

"""Masks that the user gave as tensors: prepared once in a forward, not in each of its layers."""

import threading
import weakref
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from headstock.attention.call import bound_mask
from headstock.masks import PreparedMask
from headstock.masks.tracing import is_readable

__all__ = ["prepared_once"]

_lock = threading.Lock()
_held = WeakTensorKeyDictionary()  # compares keys by identity


class _Prepared(NamedTuple):
    """What was made of one tensor, and for which layers."""

    state: tuple[object, ...]
    mask: PreparedMask
    layers: weakref.WeakSet[nn.Module]


def prepared_once(
    module: nn.Module,
    mask: Tensor,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
) -> Tensor | PreparedMask:
    """The tensor `mask` bound to the call, the same for all layers that one forward hands it to.

    Made anew where the tensor was written to, and where a layer asks a second time, which is another forward: what was
    written in between without a trace (`mask.data`) holds there. It is kept no longer than the tensor. One that carries
    gradients, or cannot be looked at, is returned as it came.

    Raises:
        InvalidShape: the mask does not fit the call.
    """
    if not is_readable(mask) or mask.requires_grad or mask.is_inference():
        return mask
    state = (mask._version, mask.device, query.device, *query.shape[:3], key.shape[2])
    with _lock:
        known: _Prepared | None = _held.get(mask)
        if known is not None and known.state == state and module not in known.layers:
            known.layers.add(module)
            return known.mask
    made = bound_mask(mask.detach(), query, key)  # another object: the entry must not keep its own key alive
    if made is None:
        return mask
    with _lock:
        _held[mask] = _Prepared(state, made, weakref.WeakSet([module]))
    return made

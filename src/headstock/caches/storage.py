"""What the stores do with keys and values alike: views of columns, joining, more room, other rows."""

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.caches.contract import Pair

__all__ = ["columns", "joined", "roomier", "selected", "writable", "write"]


def columns(pair: Pair, begin: int, end: int) -> Pair:
    """Views of the columns `begin..end`."""
    keys, values = pair
    return keys.narrow(2, begin, end - begin), values.narrow(2, begin, end - begin)


def joined(first: Pair, second: Pair) -> Pair:
    """The columns of both as new tensors."""
    return torch.cat((first[0], second[0]), 2), torch.cat((first[1], second[1]), 2)


def roomier(held: Pair | None, like: Pair, capacity: int) -> Pair:
    """Storage like `like`, of `capacity` columns, that begins with what is held."""
    keys, values = (each.new_empty((*each.shape[:2], capacity, each.shape[3])) for each in like)
    if held is not None:
        write(held, (keys, values), 0)
    return keys, values


def write(source: Pair, target: Pair, begin: int) -> None:
    """Copy the columns of `source` to those of `target` from `begin` on."""
    length = source[0].shape[2]
    for old, new in zip(target, source, strict=True):
        old.narrow(2, begin, length).copy_(new)


def writable(pair: Pair) -> bool:
    """Whether torch lets the present mode write: inference tensors are read-only outside of inference mode."""
    return torch.is_inference_mode_enabled() or not pair[0].is_inference()


def selected(pair: Pair, rows: Int[Tensor, " rows"]) -> Pair:
    """Rows as new tensors."""
    rows = rows.to(pair[0].device)
    return pair[0].index_select(0, rows), pair[1].index_select(0, rows)

"""The calls that `tune` times: lengths, heads, masks, dtypes and directions as they occur."""

import random
from dataclasses import dataclass
from itertools import product
from typing import Final

import torch
from torch import Tensor

from headstock.masks import Geometry, Mask, PreparedMask, causal, documents, prepare, sliding_window

__all__ = ["TimedCall", "calls_for"]


@dataclass(frozen=True)
class TimedCall:
    """One call; `mask` is a word of `_MASKS`, `kept` makes it beforehand."""

    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    head_dim: int
    mask: str = "none"
    kept: bool = False
    dtype: torch.dtype = torch.float32
    training: bool = False
    dropout: float = 0.0
    softcap: float | None = None

    def __str__(self) -> str:
        shape = f"{self.batch} x {self.heads}/{self.kv_heads} x {self.queries} x {self.keys} x {self.head_dim}"
        words = (self.mask, str(self.dtype).removeprefix("torch."), "training" if self.training else "forward")
        return f"{shape}, {', '.join(words)}"

    def operands(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """Normal numbers of these sizes: query, key and value."""
        sizes = [(self.heads, self.queries), *[(self.kv_heads, self.keys)] * 2]
        query, key, value = (
            torch.randn(self.batch, *each, self.head_dim, device=device, dtype=self.dtype).requires_grad_(self.training)
            for each in sizes
        )
        return query, key, value

    def mask_on(self, device: str) -> Mask | PreparedMask | None:
        """The mask of the call, made beforehand where it is kept."""
        if self.mask == "none":
            return None
        ids = torch.arange(self.keys, device=device) // max(1, self.keys // 8)
        mask = {
            "causal": causal(),
            "window": causal() & sliding_window(max(4, min(self.keys // 8, 512))),
            "documents": causal() & documents(ids.expand(self.batch, -1).contiguous()),
        }[self.mask]
        if not self.kept:
            return mask
        geometry = Geometry(self.batch, self.queries, self.keys, self.keys - self.queries, heads=self.heads)
        return prepare(mask, geometry, device=device)


_SHAPES: Final = {
    "cpu": [
        (1, 4, 4, 16, 16, 16),
        (8, 8, 8, 1, 128, 64),
        (1, 32, 8, 1, 4096, 64),
        (1, 8, 8, 128, 128, 64),
        (1, 8, 2, 512, 512, 64),
        (2, 4, 4, 256, 1024, 128),
        (1, 4, 4, 1024, 1024, 64),
        (1, 2, 2, 2048, 2048, 64),
    ],
    "cuda": [
        (1, 8, 8, 64, 64, 64),
        (8, 32, 8, 1, 8192, 128),
        (1, 16, 16, 1024, 1024, 64),
        (4, 32, 8, 2048, 2048, 128),
        (1, 32, 8, 8192, 8192, 128),
        (1, 8, 8, 16384, 16384, 128),
    ],
}
_MASKS: Final = (("none", False), ("causal", False), ("window", False), ("window", True), ("documents", True))
_SHARE: Final = 3
_QUICK: Final = 10


def calls_for(device: str, *, quick: bool = False) -> list[TimedCall]:
    """A third of the grid for a type of device, or a tenth of it."""
    on_cpu = device == "cpu"
    half = torch.bfloat16
    dtypes = [torch.float32, half] if on_cpu else [half]
    found = []
    for shape, (mask, kept), dtype, training in product(
        _SHAPES["cpu" if on_cpu else "cuda"], _MASKS, dtypes, (False, True)
    ):
        if training and shape[3] == 1:  # nobody trains through one query
            continue
        found.append(TimedCall(*shape, mask, kept, dtype, training))
        if dtype == dtypes[0]:
            found.append(TimedCall(*shape, mask, kept, dtype, training, dropout=0.1))
    # In an order of no period, so that every third or tenth has something of everything.
    random.Random(0).shuffle(found)  # noqa: S311 - an order, no secret
    return found[:: _QUICK if quick else _SHARE]

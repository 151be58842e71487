"""The pages that hold keys and values, and which of them are free."""

from collections.abc import Iterable
from typing import Any, Self, final

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape

__all__ = ["PagePool"]


@final
class PagePool:
    """Pages of keys and values, each free or with a number of owners.

    Attributes:
        key, value: the pages, in the layout that torch's `varlen_attn` and flash-attn's `flash_attn_with_kvcache` read.

    Args:
        key: the keys of each page.
        value: the values of each page.
        free: the pages that may be handed out, the rest have one owner; None: all of them.

    Raises:
        InvalidShape: keys and values differ in pages, page size, heads, dtype or device.
        InvalidConfig: `free` names a page twice, or one that is not there.

    Example:
        >>> pool = PagePool.empty(pages=8, page_size=16, kv_heads=2, head_dim=64)
        >>> first, second = pool.take(2)
        >>> pool.free
        6
    """

    key: Float[Tensor, "pages page_size kv_heads head_dim"]
    value: Float[Tensor, "pages page_size kv_heads value_dim"]

    def __init__(
        self,
        key: Float[Tensor, "pages page_size kv_heads head_dim"],
        value: Float[Tensor, "pages page_size kv_heads value_dim"],
        *,
        free: Iterable[int] | None = None,
    ) -> None:
        _check_storage(key, value)
        self.key, self.value = key, value
        free = list(range(len(key)) if free is None else free)
        if len(set(free)) < len(free) or not set(free) <= set(range(len(key))):
            raise InvalidConfig(
                f"the free pages of a pool must be different ones of 0..{len(key) - 1}, got {free}; name each once"
            )
        self._free = free[::-1]  # the lowest is handed out first
        self._owners = [1] * len(key)
        for page in free:
            self._owners[page] = 0

    @classmethod
    def empty(
        cls,
        pages: int,
        page_size: int,
        kv_heads: int,
        head_dim: int,
        *,
        value_dim: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """A pool of new pages; `value_dim` is `head_dim` where it is not given.

        Raises:
            InvalidConfig: a size is no positive integer.
        """
        value_dim = head_dim if value_dim is None else value_dim
        sizes = {"pages": pages, "page_size": page_size, "kv_heads": kv_heads}
        for name, size in {**sizes, "head_dim": head_dim, "value_dim": value_dim}.items():
            _check_size(name, size)
        # Not inference tensors, whatever mode they are made in: those cannot be written to in another mode.
        with torch.inference_mode(False):
            key, value = (
                torch.zeros(pages, page_size, kv_heads, size, dtype=dtype, device=device)
                for size in (head_dim, value_dim)
            )
        return cls(key, value)

    @property
    def pages(self) -> int:
        """How many pages there are."""
        return self.key.shape[0]

    @property
    def page_size(self) -> int:
        """The tokens of a page."""
        return self.key.shape[1]

    @property
    def free(self) -> int:
        """How many pages are free."""
        return len(self._free)

    def owners(self, page: int) -> int:
        """How many rows hold a page; 0: it is free.

        Raises:
            InvalidShape: there is no such page.
        """
        if not 0 <= page < self.pages:
            raise InvalidShape(f"a page must be one of 0..{self.pages - 1} in this pool, got {page}; see its size")
        return self._owners[page]

    def take(self, count: int) -> list[int]:
        """Free pages, which have one owner from now on.

        Raises:
            InvalidShape: so many are not free; none is taken.
        """
        if count > len(self._free):
            raise InvalidShape(
                f"a pool must have the pages that are asked of it, {count}, got {len(self._free)} free of "
                f"{self.pages}; free rows that are done, or make a larger pool"
            )
        taken = [self._free.pop() for _ in range(count)]
        for page in taken:
            self._owners[page] = 1
        return taken

    def share(self, pages: Iterable[int]) -> None:
        """Add an owner to each page.

        Raises:
            InvalidShape: a page is free, or not there.
        """
        pages = list(pages)
        for page in pages:
            self._check_held(page)
        for page in pages:
            self._owners[page] += 1

    def give_back(self, pages: Iterable[int]) -> None:
        """Take an owner from each page; one without an owner is free.

        Raises:
            InvalidShape: a page is free already, or not there.
        """
        for page in pages:
            self._check_held(page)
            self._owners[page] -= 1
            if not self._owners[page]:
                self._free.append(page)

    def copy_page(self, source: int, target: int) -> None:
        """Make the keys and values of one page those of another."""
        with torch.no_grad():
            for pages in (self.key, self.value):
                pages[target] = pages[source]

    def __repr__(self) -> str:
        kind = f"{self.key.dtype} on {self.key.device}"
        return f"PagePool({self.pages} pages of {self.page_size} tokens, {self.free} free, {kind})"

    def _check_held(self, page: int) -> None:
        if not self.owners(page):
            raise InvalidShape(f"a page must be taken from the pool before it is used, got {page}, which is free")


def _check_storage(key: Tensor, value: Tensor) -> None:
    fits = key.ndim == value.ndim == 4 and key.shape[:3] == value.shape[:3]
    if not fits or key.dtype != value.dtype or key.device != value.device or not key.shape[1]:
        told = " and ".join(f"{each.dtype} {list(each.shape)} on {each.device}" for each in (key, value))
        raise InvalidShape(
            "keys and values of a pool must be [pages, page_size, kv_heads, head_dim] of one dtype on one device, with "
            f"pages of at least one token, got {told}"
        )


def _check_size(name: str, size: Any) -> None:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidConfig(f"{name} of a pool must be an integer of at least 1, got {size!r}; a page holds something")

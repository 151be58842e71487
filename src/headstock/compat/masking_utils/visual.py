"""Masks as text, under the names of transformers 4."""

import math
from typing import Self

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional

from headstock.errors import InvalidShape

__all__ = ["AttentionMask", "tensor_to_mask_visual"]

_STYLES = {"majong": ("🀙", "🀆", "🀛")}
_BLOCKS = ("█", "░", "▒")


def tensor_to_mask_visual(
    original_tensor: Shaped[Tensor, "queries keys"], grid_size: tuple[int, int] = (20, 40), style: str | None = "majong"
) -> str:
    """A mask of two dimensions as lines of text: seen, hidden, and, where it had to be made smaller, in between.

    Args:
        original_tensor: booleans, numbers from 0 to 1, or a mask that is added to scores (0 = seen), told by
            what is negative in it.
        grid_size: most lines and columns.
        style: "majong", or anything else for blocks.

    Raises:
        InvalidShape: it has not two dimensions.

    >>> print(tensor_to_mask_visual(torch.ones(3, 3).tril(), style=None))
    █░░
    ██░
    ███
    """
    if original_tensor.ndim != 2:
        raise InvalidShape(
            f"a mask to draw must be [queries, keys], got {list(original_tensor.shape)}; pick a batch row and a head"
        )
    shares = _seen(original_tensor).to(torch.float32)
    lines, columns = (min(size, most) for size, most in zip(shares.shape, grid_size, strict=True))
    if not lines or not columns:
        return ""
    shares = functional.adaptive_avg_pool2d(shares[None], (lines, columns))[0]
    seen, hidden, between = _STYLES.get(style or "", _BLOCKS)
    return "\n".join(
        "".join(seen if share == 1 else hidden if share == 0 else between for share in line) for line in shares.tolist()
    )


class AttentionMask(torch.Tensor):
    """A mask tensor that prints as a drawing, batch rows one below the other.

    >>> print(AttentionMask(torch.ones(1, 1, 2, 2).tril(), style="blocks"))
    AttentionMask of [1, 1, 2, 2]
    batch row 0
    █░
    ██
    """

    style: str | None

    @staticmethod
    def __new__(cls: type[Self], data: Tensor, style: str | None = None) -> Self:
        """The same numbers, drawn in `style`."""
        made: Self = torch.Tensor._make_subclass(cls, data, require_grad=False)
        made.style = style
        return made

    @classmethod
    def from_tensor(cls, tensor: Tensor, style: str | None = None) -> Self:
        """As the class."""
        return cls(tensor, style)

    def to_string(self, grid_size: tuple[int, int] = (20, 40), limit: int = 4) -> str:
        """At most `limit` drawings: of the first head of each batch row.

        Raises:
            InvalidShape: it has fewer than two dimensions.
        """
        plain = self.as_subclass(torch.Tensor)
        if plain.ndim < 2:
            raise InvalidShape(f"a mask to draw must have at least two dimensions, got {list(plain.shape)}")
        pages = plain.reshape(-1, *plain.shape[-3:])[:, 0] if plain.ndim > 3 else plain.reshape(-1, *plain.shape[-2:])
        style = getattr(self, "style", None)
        drawn = [
            f"batch row {row}\n{tensor_to_mask_visual(page, grid_size, style)}"
            for row, page in enumerate(pages[:limit])
        ]
        left_out = [f"and {len(pages) - limit} more"] if len(pages) > limit else []
        return "\n".join([*drawn, *left_out])

    def __repr__(self, *, tensor_contents: object = None) -> str:  # type: ignore[override]
        return f"AttentionMask of {list(self.shape)}\n{self.to_string()}"

    __str__ = __repr__


def _seen(mask: Tensor) -> Tensor:
    if mask.is_floating_point() and mask.numel() and (float(mask.min()) < 0 or math.isinf(float(mask.min()))):
        return mask == 0
    return mask

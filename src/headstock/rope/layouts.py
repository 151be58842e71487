"""From one layout of rotary pairs to the other, on activations and on the projections that make them.

Half-split heads pair number `i` with number `i + rotary_dim / 2`, interleaved heads number `2 i` with `2 i + 1`.
Queries and keys that change their order together have the same scores, so projections of one layout serve the other
when their rows are permuted. Values are only moved: going there and back gives the same bits.
"""

from typing import Literal, TypeAlias, get_args

import torch
from jaxtyping import Shaped
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape

__all__ = ["Layout", "convert_projection", "half_split_to_interleaved", "interleaved_to_half_split"]

Layout: TypeAlias = Literal["half_split", "interleaved"]


def half_split_to_interleaved(x: Shaped[Tensor, "*axes rotary_dim"]) -> Shaped[Tensor, "*axes rotary_dim"]:
    """`(a1, a2, ..., b1, b2, ...)` along the last dimension as `(a1, b1, a2, b2, ...)`.

    Raises:
        InvalidShape: the last dimension is not even.

    Example:
        >>> half_split_to_interleaved(torch.tensor([1, 2, 10, 20]))
        tensor([ 1, 10,  2, 20])
    """
    return _permuted(x, -1, "interleaved")


def interleaved_to_half_split(x: Shaped[Tensor, "*axes rotary_dim"]) -> Shaped[Tensor, "*axes rotary_dim"]:
    """`(a1, b1, a2, b2, ...)` along the last dimension as `(a1, a2, ..., b1, b2, ...)`.

    Raises:
        InvalidShape: the last dimension is not even.

    Example:
        >>> interleaved_to_half_split(torch.tensor([1, 10, 2, 20]))
        tensor([ 1,  2, 10, 20])
    """
    return _permuted(x, -1, "half_split")


def convert_projection(
    projection: Shaped[Tensor, "rows *inputs"],
    *,
    heads: int | None = None,
    head_dim: int | None = None,
    to: Layout,
    rotary_dim: int | None = None,
    rotary: Literal["prefix", "suffix"] = "prefix",
) -> Shaped[Tensor, "rows *inputs"]:
    """The weight `[heads * head_dim, inputs]` or bias `[heads * head_dim]` of a projection, its rows in layout `to`.

    What the projection then makes is what the conversion of its activations gives, head by head. It suits `nn.Linear`;
    a weight stored transposed, as `Conv1D` does, is to be transposed before and after.

    Args:
        projection: the weight or bias of the queries' or the keys' projection, of any dtype.
        heads: how many heads it makes: of keys, the number of key heads.
        head_dim: the size of each; one of both numbers is enough.
        to: the wanted layout; the rows are in the other one.
        rotary_dim: how many rows of each head are rotated, all by default; the others stay where they are.
        rotary: where those lie.

    Raises:
        InvalidConfig: a word is unknown, or the numbers do not fit each other.
        InvalidShape: the rows are not whole heads.

    Example:
        >>> convert_projection(torch.tensor([1, 10, 2, 20, 0, 0]), heads=1, rotary_dim=4, to="half_split")
        tensor([ 1,  2, 10, 20,  0,  0])
    """
    for name, value, valid in (("to", to, get_args(Layout)), ("rotary", rotary, ("prefix", "suffix"))):
        if value not in valid:
            raise InvalidConfig(f"{name} must be {valid[0]!r} or {valid[1]!r}, got {value!r}")
    per_head = projection.unflatten(0, _heads(projection, heads, head_dim))
    width = per_head.shape[1]
    turning = width if rotary_dim is None else rotary_dim
    if not 2 <= turning <= width or turning % 2:
        raise InvalidConfig(f"rotary_dim must be even, at least 2 and at most head_dim {width}, got {turning}")
    rest = width - turning
    before, rows, after = per_head.split((rest, turning, 0) if rotary == "suffix" else (0, turning, rest), dim=1)
    return torch.cat((before, _permuted(rows, 1, to), after), dim=1).flatten(0, 1)


def _heads(projection: Tensor, heads: int | None, head_dim: int | None) -> tuple[int, int]:
    if heads is None and head_dim is None:
        raise InvalidConfig("heads or head_dim must be given, got neither; rows alone do not tell where heads begin")
    if any(each is not None and each < 1 for each in (heads, head_dim)):
        raise InvalidConfig(f"heads and head_dim must be at least 1, got {heads} and {head_dim}")
    rows = projection.shape[0] if projection.ndim else 0
    count = heads if heads is not None else rows // (head_dim or 1)
    width = head_dim if head_dim is not None else rows // (heads or 1)
    if count < 1 or count * width != rows:
        raise InvalidShape(
            f"the rows of a projection must be whole heads, got {tuple(projection.shape)} for heads={heads}, "
            f"head_dim={head_dim}; give the number of key heads for the keys' projection, and split a fused one first"
        )
    return count, width


def _permuted(x: Tensor, dim: int, to: Layout) -> Tensor:
    size = x.shape[dim] if x.ndim else 1
    if size % 2:
        raise InvalidShape(
            f"what changes its layout must be pairs, an even number, got {size} in {tuple(x.shape)}; convert the "
            "rotary part alone"
        )
    half = size // 2
    dim %= x.ndim
    paired: Tensor = x.unflatten(dim, (half, 2) if to == "half_split" else (2, half))
    return paired.transpose(dim, dim + 1).flatten(dim, dim + 1)

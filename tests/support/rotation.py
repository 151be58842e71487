"""Rotation by its definition: matrices that turn pairs, in float64."""

import torch
from hypothesis import strategies as st
from torch import Tensor

__all__ = ["SHAPES", "angles", "by_matrices", "in_layout"]

#: Rows, heads, tokens, half of the rotary width and numbers that are not rotated.
SHAPES = st.tuples(
    st.integers(0, 3), st.integers(1, 4), st.integers(0, 5), st.integers(1, 5), st.sampled_from([0, 1, 2, 3])
)


def angles(rows: int, tokens: int, half: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Cosines and sines of random angles, twice, half after half."""
    angle = (torch.rand(rows, tokens, half, dtype=torch.float64) * 20).repeat(1, 1, 2)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def by_matrices(x: Tensor, cos: Tensor, sin: Tensor, *, interleaved: bool = False, suffix: bool = False) -> Tensor:
    """`x` `[rows, heads, tokens, head_dim]`, each pair multiplied by its matrix (Su et al., 2021, eq. 15)."""
    x, cos, sin = (each.double() for each in (x, cos, sin))
    width = cos.shape[-1]
    half, start = width // 2, x.shape[-1] - width if suffix else 0
    rotated = x.clone()
    for pair in range(half):
        first, second = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + half)
        other = pair if interleaved else pair + half  # of the angles, which need not be the same twice
        c1, s1, c2, s2 = (each[..., None, :, place] for place in (pair, other) for each in (cos, sin))
        x1, x2 = x[..., start + first], x[..., start + second]
        rotated[..., start + first] = c1 * x1 - s1 * x2
        rotated[..., start + second] = s2 * x1 + c2 * x2
    return rotated


def in_layout(x: Tensor, layout: str) -> Tensor:
    """The same values `[rows, heads, tokens, head_dim]` in another place of memory."""
    if layout == "transposed":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "odd offset":
        padded = torch.cat((x.new_zeros(*x.shape[:-1], 1), x, x.new_zeros(*x.shape[:-1], 1)), -1)
        return padded[..., 1:-1]
    if layout == "strided":
        return x.repeat_interleave(2, -1)[..., ::2]
    return x.contiguous()

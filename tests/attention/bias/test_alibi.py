"""ALiBi: the paper's slopes, for every number of heads, as the models that were trained with it have them."""

import math

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from headstock.attention import alibi, alibi_slopes
from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Geometry

LENGTH = 9
HEADS = [*range(1, 34), 40, 64, 71, 112]  # BLOOM 1b7 has 16, Falcon 7B 71, BLOOM 112


def test_the_papers_slopes() -> None:
    # Section 3: for 8 heads 1/2, 1/4, ... 1/256; for 16 they begin at 1/sqrt(2), and that is their ratio.
    assert alibi_slopes(8).tolist() == [2.0**-k for k in range(1, 9)]
    torch.testing.assert_close(alibi_slopes(16), torch.tensor([2 ** (-k / 2) for k in range(1, 17)]), rtol=0, atol=0)
    assert alibi_slopes(1).tolist() == [2.0**-8]


@pytest.mark.parametrize("heads", [3, 5, 6, 7, 12, 20])
def test_slopes_between_two_powers_of_two_interleave_those_of_both(heads: int) -> None:
    lower = 2 ** math.floor(math.log2(heads))
    slopes = alibi_slopes(heads)
    assert torch.equal(slopes[:lower], alibi_slopes(lower))
    assert torch.equal(slopes[lower:], alibi_slopes(2 * lower)[::2][: heads - lower])
    assert slopes.unique().numel() == heads


@pytest.mark.parametrize("heads", HEADS)
def test_equals_bloom(heads: int) -> None:
    # Bloom adds slope * j, which differs by a number for each row: that of query 0.
    theirs = build_alibi_tensor(torch.ones(1, LENGTH, dtype=torch.int64), heads, torch.float32)
    ours = alibi(alibi_slopes(heads)).dense(Geometry(1, 1, LENGTH, heads=heads), dtype=torch.float32, device=None)
    # Their slopes are powers of a rounded base: up to 2 * lower roundings of float32, ours are rounded once.
    torch.testing.assert_close(ours[0, :, 0], theirs.reshape(heads, LENGTH), rtol=2 * heads * 2**-23, atol=0.0)


@pytest.mark.parametrize("heads", HEADS)
def test_equals_mpt(heads: int) -> None:
    # MPT adds what the last query has.
    theirs = build_mpt_alibi_tensor(heads, LENGTH)
    geometry = Geometry(1, 1, LENGTH, q_offset=LENGTH - 1, heads=heads)
    ours = alibi(alibi_slopes(heads)).dense(geometry, dtype=torch.float32, device=None)
    torch.testing.assert_close(ours[0], theirs, rtol=4 * 2**-23, atol=0.0)  # pow, inverse, product


def test_symmetric_is_a_penalty_on_both_sides() -> None:
    geometry = Geometry(1, 3, 3, heads=1)
    both = alibi(torch.tensor([0.5]), symmetric=True).dense(geometry, dtype=torch.float32, device=None)
    causal = alibi(torch.tensor([0.5])).dense(geometry, dtype=torch.float32, device=None)
    assert both[0, 0].tolist() == [[0.0, -0.5, -1.0], [-0.5, 0.0, -0.5], [-1.0, -0.5, 0.0]]
    assert causal[0, 0].tolist() == [[0.0, 0.5, 1.0], [-0.5, 0.0, 0.5], [-1.0, -0.5, 0.0]]


def test_slopes_lie_where_they_are_asked_for() -> None:
    assert alibi_slopes(3, device="meta").device.type == "meta"


@pytest.mark.parametrize("heads", [0, -1, 2.0, True, None])
def test_refuses_numbers_of_heads(heads: object) -> None:
    with pytest.raises(InvalidConfig, match=f"alibi_slopes's heads must be an integer of at least 1, got {heads}; it"):
        alibi_slopes(heads)  # type: ignore[arg-type]


def test_refuses_bad_arguments() -> None:
    with pytest.raises(InvalidShape, match=r"alibi's slopes must be \[heads\] with something in each .*, got \[2, 1\]"):
        alibi(torch.randn(2, 1))
    with pytest.raises(InvalidConfig, match="alibi's symmetric must be a boolean, got 1; True looks both ways"):
        alibi(torch.randn(2), symmetric=1)  # type: ignore[arg-type]

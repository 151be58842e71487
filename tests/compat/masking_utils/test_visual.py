"""Masks as text."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.compat import masking_utils as ours
from headstock.errors import InvalidShape


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_a_small_mask_is_drawn_entry_by_entry(queries: int, keys: int, seed: int) -> None:
    mask = torch.rand(queries, keys, generator=torch.Generator().manual_seed(seed)) < 0.5
    lines = ours.tensor_to_mask_visual(mask, style=None).split("\n")
    assert [[each == "█" for each in line] for line in lines] == mask.tolist()
    if mask.all():  # zeros alone may be either
        return
    added = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
    assert ours.tensor_to_mask_visual(added, style=None).split("\n") == lines
    assert ours.tensor_to_mask_visual(added.clamp(min=-torch.inf), style="").split("\n") == lines


def test_a_large_mask_is_drawn_in_shares() -> None:
    assert ours.tensor_to_mask_visual(torch.ones(64, 64).tril(), (2, 2), None) == "▒░\n█▒"


def test_the_style_of_tiles() -> None:
    assert ours.tensor_to_mask_visual(torch.tensor([[1, 0]])) == "🀙🀆"


def test_nothing_is_drawn_of_nothing() -> None:
    assert ours.tensor_to_mask_visual(torch.zeros(0, 3)) == ""


@pytest.mark.parametrize("shape", [(3,), (1, 1, 3, 3)])
def test_only_two_dimensions_are_drawn(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=r"a mask to draw must be \[queries, keys\], got .*; pick a batch row"):
        ours.tensor_to_mask_visual(torch.zeros(shape))


def test_a_mask_prints_its_batch_rows() -> None:
    mask = ours.AttentionMask(torch.ones(3, 2, 2, 2).tril(), style="blocks")
    assert str(mask) == repr(mask)
    assert mask.to_string(limit=1) == "batch row 0\n█░\n██\nand 2 more"
    assert repr(ours.AttentionMask.from_tensor(torch.ones(2, 2).tril())).endswith("batch row 0\n█░\n██")


def test_a_mask_is_still_a_tensor() -> None:
    numbers = torch.randn(2, 1, 3, 3)
    mask = ours.AttentionMask(numbers)
    assert torch.equal(mask.as_subclass(torch.Tensor), numbers)
    assert torch.equal(numbers + mask, numbers + numbers)


def test_a_row_is_no_mask() -> None:
    with pytest.raises(InvalidShape, match=r"a mask to draw must have at least two dimensions, got \[3\]"):
        ours.AttentionMask(torch.ones(3)).to_string()

"""A learned value for each clipped distance."""

import pytest
import torch

from headstock.attention import attend, relative_table
from headstock.attention.bias import RelativeTable
from headstock.errors import InvalidShape
from headstock.masks import causal


def test_what_is_far_counts_as_the_largest_distance() -> None:
    table = torch.tensor([[-2.0, -1.0, 0.5, 1.0, 2.0]])
    found = relative_table(table).by_distance(-4, 4, dtype=torch.float32, device=None)
    assert found.tolist() == [[-2.0, -2.0, -2.0, -1.0, 0.5, 1.0, 2.0, 2.0, 2.0]]
    form = relative_table(torch.randn(3, 9))
    assert isinstance(form, RelativeTable)
    assert (form.heads, form.max_distance) == (3, 4)


def test_one_column_is_a_number_for_each_head() -> None:
    found = relative_table(torch.tensor([[3.0], [4.0]])).by_distance(-1, 1, dtype=torch.float32, device=None)
    assert found.tolist() == [[3.0] * 3, [4.0] * 3]


def test_columns_that_no_pair_reads_have_no_gradient() -> None:
    table = torch.randn(2, 21, requires_grad=True)
    query = torch.randn(1, 2, 4, 8)
    output = attend(query, query, torch.randn(1, 2, 4, 8), mask=causal(), bias=relative_table(table))
    (gradient,) = torch.autograd.grad(output.square().sum(), table)
    read = (gradient != 0).any(0).nonzero()[:, 0] - 10
    assert read.tolist() == [-3, -2, -1, 0]


def test_refuses_an_even_number_of_columns() -> None:
    with pytest.raises(InvalidShape, match=r"must have an odd number of columns, 2 \* max_distance \+ 1, got 4; its"):
        relative_table(torch.randn(2, 4))
    with pytest.raises(InvalidShape, match=r"relative_table's table must be \[heads, 2 \* max_distance \+ 1\] with so"):
        relative_table(torch.randn(5))

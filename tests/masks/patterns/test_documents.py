"""`documents` and `blockwise`: tokens with the same id."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks import Geometry, Mask, blockwise, documents, to_dense
from headstock.masks.patterns.documents import Blockwise, Documents

IDS = torch.tensor([[0, 0, 1, -1], [3, -1, -1, 3]])


def test_tokens_of_one_id_see_each_other() -> None:
    geometry = Geometry(batch_size=2, q_length=2, kv_length=4, q_offset=torch.tensor([0, 2]))
    assert to_dense(documents(IDS), geometry).int().tolist() == [
        [[[1, 1, 0, 0], [1, 1, 0, 0]]],
        [[[0, 1, 1, 0], [1, 0, 0, 1]]],
    ]


def test_negative_ids_lie_outside_of_every_block() -> None:
    geometry = Geometry(batch_size=2, q_length=1, kv_length=4, q_offset=3)
    assert to_dense(blockwise(IDS), geometry).int().tolist() == [[[[0, 0, 0, 0]]], [[[1, 0, 0, 1]]]]


def test_the_two_differ_print_and_tell_their_tensor() -> None:
    assert documents(IDS) != blockwise(IDS)
    assert (repr(documents(IDS)), repr(blockwise(IDS))) == ("documents(ids=int64[2, 4])", "blockwise(ids=int64[2, 4])")
    assert Documents(IDS).tensors()[0] is Blockwise(IDS).tensors()[0] is IDS


@pytest.mark.parametrize("pattern", [documents, blockwise])
@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([[0]], r"'s? ids must be a tensor, got list; pass ids as an integer tensor \[batch, tokens\]"),
        (IDS.float(), "'s? ids must be integer, got torch.float32; pass ids"),
        (IDS > 0, "'s? ids must be integer, got torch.bool; pass ids"),
        (IDS[0], r"'s? ids must have two dimensions, got \[4\]; pass ids"),
    ],
)
def test_what_are_no_ids_is_refused(pattern: Callable[[Any], Mask], ids: Any, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        pattern(ids)


@pytest.mark.parametrize(
    ("geometry", "text"),
    [
        (Geometry(3, 1, 1), "ids must have one row for each of 3 batch rows, got 2; give it the batch of the queries"),
        (Geometry(2, 1, 5), "ids must cover the keys up to index 4, got 4 positions; give it one for each token"),
        (Geometry(2, 2, 4, q_offset=3), "ids must cover the queries up to index 4, got 4 positions; give it one"),
        (Geometry(2, 1, 1, torch.tensor([0, 4])), "ids must cover the queries up to index 4, got 4 positions; "),
    ],
)
def test_a_geometry_that_is_not_covered_is_refused(geometry: Geometry, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        to_dense(documents(IDS), geometry)


def test_no_queries_need_no_ids() -> None:
    offset: Tensor = torch.tensor([9, 9])
    assert to_dense(documents(IDS), Geometry(2, 0, 4, offset)).shape == (2, 1, 0, 4)

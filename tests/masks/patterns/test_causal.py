"""`causal`: the keys up to and with the query's own position."""

import torch

from headstock.masks import Geometry, causal, to_dense
from headstock.masks.patterns.causal import Causal
from headstock.masks.predicate import Band


def test_sees_what_is_not_after_it() -> None:
    assert to_dense(causal(), Geometry(batch_size=1, q_length=2, kv_length=4, q_offset=1)).int().tolist() == [
        [[[1, 1, 0, 0], [1, 1, 1, 0]]]
    ]


def test_each_row_counts_from_its_own_offset() -> None:
    geometry = Geometry(
        batch_size=2, q_length=1, kv_length=4, q_offset=torch.tensor([0, 2]), kv_offset=torch.tensor([0, 1])
    )
    assert to_dense(causal(), geometry).int().tolist() == [[[[1, 0, 0, 0]]], [[[1, 1, 0, 0]]]]


def test_is_a_half_band_without_arguments() -> None:
    assert Causal().band() == Band(None, 0)
    assert Causal().arguments() == {}
    assert repr(causal()) == "causal()"

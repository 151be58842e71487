"""`prefix_lm`: the prefix, and keys up to the query."""

import pytest
import torch

from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Geometry, causal, prefix_lm, to_dense
from headstock.masks.patterns.prefix_lm import PrefixLM


def test_the_prefix_is_seen_by_all_and_the_rest_is_causal() -> None:
    found = to_dense(prefix_lm(torch.tensor([2, 0])), Geometry(batch_size=2, q_length=3, kv_length=3))
    assert found[0, 0].int().tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert torch.equal(found[1], to_dense(causal(), Geometry(1, 3, 3))[0])


def test_prints_its_length_and_tells_its_tensor() -> None:
    length = torch.tensor([1])
    assert (repr(prefix_lm(3)), repr(prefix_lm(length))) == ("prefix_lm(length=3)", "prefix_lm(length=int64[1])")
    assert (PrefixLM(3).tensors(), PrefixLM(length).tensors()[0] is length) == ((), True)


def test_what_is_no_length_is_refused() -> None:
    with pytest.raises(
        InvalidConfig, match=r"prefix_lm's length must be an integer of at least 0, got -1; .* \[batch\]"
    ):
        prefix_lm(-1)
    with pytest.raises(InvalidConfig, match=r"prefix_lm's length must hold integers of at least 0, got \[-4\]; length"):
        prefix_lm(torch.tensor([-4]))


def test_another_batch_is_refused() -> None:
    with pytest.raises(InvalidShape, match="prefix_lm's length must have one row for each of 1 batch rows, got 2; "):
        to_dense(prefix_lm(torch.tensor([0, 1])), Geometry(1, 2, 2))

"""`global_tokens`: some tokens see, and are seen by, all."""

from typing import Any

import pytest
import torch

from headstock.errors import InvalidConfig
from headstock.masks import Geometry, global_tokens, to_dense


def test_they_see_and_are_seen() -> None:
    assert to_dense(global_tokens([1]), Geometry(1, 3, 3))[0, 0].int().tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def test_order_and_repetition_say_nothing_and_a_tensor_is_taken() -> None:
    assert global_tokens([4, 1, 4]) == global_tokens((1, 4)) == global_tokens(torch.tensor([4, 1]))
    assert repr(global_tokens({4, 1})) == "global_tokens(indices=(1, 4))"
    assert not to_dense(global_tokens([]), Geometry(1, 2, 2)).any()


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        (3, "indices must be a collection of integers of at least 0, got 3; list the absolute indices of the tokens"),
        ([0, -1], "indices must be a collection of integers of at least 0, got -1 among them; list"),
        ([True], "indices must be a collection of integers of at least 0, got True among them; list"),
        (torch.tensor([0.5]), r"of at least 0, got tensor\(0.5000\) among them; list"),
    ],
)
def test_what_are_no_indices_is_refused(indices: Any, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        global_tokens(indices)

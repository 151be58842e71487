"""`first_tokens`: the first keys, for every query."""

import pytest

from headstock.errors import InvalidConfig
from headstock.masks import Geometry, causal, first_tokens, sliding_window, to_dense


def test_every_query_sees_them_wherever_it_is() -> None:
    found = to_dense(first_tokens(2), Geometry(batch_size=1, q_length=2, kv_length=3, q_offset=7, kv_offset=1))
    assert found.int().tolist() == [[[[1, 0, 0], [1, 0, 0]]]]


def test_with_a_window_they_need_causal_around_both() -> None:
    mask = causal() & (sliding_window(2) | first_tokens(1))
    assert repr(mask) == "causal() & (sliding_window(size=2) | first_tokens(count=1))"
    assert to_dense(mask, Geometry(1, 4, 4))[0, 0].int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
        [1, 0, 1, 1],
    ]


@pytest.mark.parametrize("count", [-1, 2.0, True, None])
def test_what_is_no_count_is_refused(count: int) -> None:
    with pytest.raises(
        InvalidConfig, match=r"first_tokens' count must be an integer of at least 0, got .*; count says"
    ):
        first_tokens(count)

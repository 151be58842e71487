"""The functions that make tensors, called by themselves."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import masking_utils as their_module

from headstock.compat import masking_utils as ours
from headstock.errors import InvalidComponent, InvalidConfig, InvalidShape, UnsupportedFeature
from tests.support.transformers_masks import equal, meaning, padding_masks

theirs: Any = their_module
SIZES = ("batch_size", "q_length", "kv_length", "q_offset")


@given(st.data())
def test_they_equal_theirs_where_no_skip_is_allowed(data: st.DataObject) -> None:
    batch_size, queries, keys = (data.draw(st.integers(1, most)) for most in (3, 5, 6))
    shared: dict[str, Any] = {
        "batch_size": batch_size,
        "q_length": queries,
        "kv_length": keys,
        "q_offset": data.draw(st.one_of(st.integers(0, 5), st.integers(0, 5).map(torch.tensor))),
        "kv_offset": data.draw(st.integers(0, 3)),
        "attention_mask": _booleans(data.draw(padding_masks(batch_size, data.draw(st.integers(1, 9))))),
    }
    functions = [masks.sliding_window_causal_mask_function(3) for masks in (ours, theirs)]
    found, wanted = (
        masks.sdpa_mask(**shared, mask_function=function, allow_is_causal_skip=False)
        for masks, function in zip((ours, theirs), functions, strict=True)
    )
    assert equal(found, wanted)
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
    found, wanted = (
        masks.eager_mask(**shared, mask_function=function, dtype=dtype)
        for masks, function in zip((ours, theirs), functions, strict=True)
    )
    assert equal(found, wanted)


def _booleans(mask: torch.Tensor | None) -> torch.Tensor | None:
    return None if mask is None else mask.bool()


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 3), st.integers(0, 3), st.data())
def test_none_stands_for_what_the_mask_says(
    queries: int, keys: int, q_offset: int, kv_offset: int, data: st.DataObject
) -> None:
    sizes = (1, queries, keys, q_offset, kv_offset)
    function: Any = data.draw(
        st.sampled_from(
            [
                ours.causal_mask_function,
                ours.bidirectional_mask_function,
                ours.sliding_window_causal_mask_function(3),
                ours.sliding_window_bidirectional_mask_function(2),
                lambda b, h, i, j: j <= i,
            ]
        )
    )
    keep = data.draw(padding_masks(1, keys + kv_offset))
    wanted = ours.sdpa_mask(*sizes, function, keep, allow_is_causal_skip=False)
    causal = ours.sdpa_mask(*sizes, function, keep)
    full = ours.sdpa_mask(*sizes, function, keep, allow_is_causal_skip=False, allow_is_bidirectional_skip=True)
    numbers = ours.eager_mask(*sizes, function, keep, allow_is_bidirectional_skip=True)
    assert torch.equal(meaning(causal, queries, keys, causal=True), meaning(wanted, queries, keys, causal=True))
    assert torch.equal(meaning(full, queries, keys, causal=False), meaning(wanted, queries, keys, causal=False))
    assert torch.equal(meaning(numbers, queries, keys, causal=False), meaning(wanted, queries, keys, causal=False))


class TestWhatTheirsDrops:
    """Calls for which transformers says None although the mask function says something else."""

    @pytest.mark.parametrize(
        ("sizes", "function", "hidden"),
        [
            ((1, 4, 4), lambda masks: masks.sliding_window_causal_mask_function(2), (3, 0)),
            ((1, 4, 4), lambda masks: masks.chunked_causal_mask_function(2, torch.zeros(1, dtype=torch.int64)), (3, 1)),
            ((1, 1, 6, 2), lambda masks: masks.causal_mask_function, (0, 3)),
            ((1, 3, 3), lambda _: lambda b, h, i, j: j < i, (2, 2)),
        ],
        ids=["window", "chunks", "one query in a cache that is not full", "a function"],
    )
    def test_a_hidden_pair(self, sizes: Any, function: Any, hidden: tuple[int, int]) -> None:
        assert theirs.sdpa_mask(*sizes, mask_function=function(theirs)) is None
        found = ours.sdpa_mask(**dict(zip(SIZES, sizes, strict=False)), mask_function=function(ours))
        assert found is not None
        assert not found[0, 0][hidden]

    def test_a_shown_pair(self) -> None:
        assert theirs.sdpa_mask(1, 3, 3, mask_function=theirs.bidirectional_mask_function) is None
        found = ours.sdpa_mask(1, 3, 3, mask_function=ours.bidirectional_mask_function)
        assert found is not None
        assert found[0, 0, 0, 2]

    def test_a_window_of_a_bidirectional_mask(self) -> None:
        allowed: dict[str, Any] = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": True}
        wrong = theirs.sdpa_mask(1, 4, 4, mask_function=theirs.sliding_window_bidirectional_overlay(1), **allowed)
        found = ours.sdpa_mask(1, 4, 4, mask_function=ours.sliding_window_bidirectional_overlay(1), **allowed)
        assert wrong is None
        assert found is not None
        assert not found[0, 0, 0, 2]

    def test_padding_of_integers_stays_a_mask_of_booleans(self) -> None:
        keep = torch.tensor([[0, 1, 1]])
        wrong = theirs.sdpa_mask(1, 3, 3, attention_mask=keep)
        found = ours.sdpa_mask(1, 3, 3, attention_mask=keep)
        assert wrong is not None
        assert found is not None
        assert (wrong.dtype, found.dtype) == (torch.int64, torch.bool)

    def test_a_function_has_its_scalar_meaning_however_it_is_called(self) -> None:
        def counted(b: Any, h: Any, i: Any, j: Any) -> Any:
            return (j >= 0).cumsum(-1) == 1

        wrong = theirs.sdpa_mask(1, 4, 4, mask_function=counted, allow_is_causal_skip=False)
        right = theirs.sdpa_mask(1, 4, 4, mask_function=counted, allow_is_causal_skip=False, use_vmap=True)
        found = ours.sdpa_mask(1, 4, 4, mask_function=counted, allow_is_causal_skip=False)
        assert not equal(found, wrong)
        assert equal(found, right)

    def test_a_keyword(self) -> None:
        assert theirs.sdpa_mask(1, 3, 3, sliding_window=2) is None
        with pytest.raises(UnsupportedFeature, match=r"sdpa_mask must not be given 'sliding_window', got 2; it would"):
            ours.sdpa_mask(1, 3, 3, sliding_window=2)
        with pytest.raises(UnsupportedFeature, match=r"eager_mask must not be given 'sliding_window', got 2; it would"):
            ours.eager_mask(1, 3, 3, sliding_window=2)


def test_a_window_that_a_mask_must_be_made_for_is_told_by_its_size() -> None:
    function = ours.sliding_window_causal_mask_function(4)
    assert ours.sdpa_mask(1, 4, 4, mask_function=function) is None
    assert ours.sdpa_mask(1, 4, 4, mask_function=function, local_size=5) is None
    assert ours.sdpa_mask(1, 4, 4, mask_function=function, local_size=4) is not None


def test_queries_of_each_row_may_begin_elsewhere() -> None:
    found = ours.sdpa_mask(2, 1, 4, torch.tensor([1, 3]))
    assert found is not None
    assert found[:, 0, 0].tolist() == [[True, True, False, False], [True, True, True, True]]


def test_keys_of_each_row_may_begin_elsewhere() -> None:
    keep = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0]])
    found = ours.sdpa_mask(2, 1, 3, 3, torch.tensor([0, 1]), attention_mask=keep)  # type: ignore[arg-type]
    assert found is not None
    assert found[:, 0, 0].tolist() == [[True, False, True], [True, True, False]]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidShape, match=r"q_offset must make no absolute index negative, got -1"):
        ours.sdpa_mask(1, 3, 3, -1)
    with pytest.raises(InvalidShape, match=r"q_length must be at least 0, got -3"):
        ours.eager_mask(1, -3, 3)
    with pytest.raises(InvalidComponent, match=r"a mask function must be a function"):
        ours.sdpa_mask(1, 3, 3, mask_function=None)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match=r"an additive mask must have a floating dtype, got torch.int64"):
        ours.eager_mask(1, 3, 3, dtype=torch.int64)


class TestOlder:
    """Calls in the form of transformers 4."""

    @given(st.integers(0, 4), st.integers(1, 4), st.integers(1, 9))
    def test_positions_of_queries_are_their_offset(self, seen: int, queries: int, keys: int) -> None:
        positions = torch.arange(seen, seen + queries)
        for function in (ours.sdpa_mask_recent_torch, ours.sdpa_mask_older_torch):
            found = function(2, positions, keys, allow_is_causal_skip=False)
            assert equal(found, ours.sdpa_mask(2, queries, keys, seen, allow_is_causal_skip=False))

    @pytest.mark.parametrize("positions", [[0, 2], [1, 0], [], [[0, 1]]])
    def test_positions_that_do_not_go_on_by_one_are_refused(self, positions: list[Any]) -> None:
        with pytest.raises(InvalidShape, match=r"cache_position must hold the indices of the queries, each one more"):
            ours.sdpa_mask_recent_torch(1, torch.tensor(positions, dtype=torch.int64), 4)

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from headstock.attention import AttentionInterface, attend
from headstock.attention.settings import ATTENTION_SETTINGS, LayerSettings, settings_for
from headstock.errors import UnsupportedFeature
from headstock.masks import (
    Geometry,
    Mask,
    PreparedMask,
    blockwise,
    causal,
    chunked,
    documents,
    padding,
    prepare,
    sliding_window,
)

KEEP = torch.tensor([[False, True, True, True, True], [True, True, True, True, False]])
IDS = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]])
GEOMETRY = Geometry(2, 5, 5, heads=2)


def drawn(queries: int = 5, keys: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(2, 2, queries, 4), torch.randn(2, 2, keys, 4)


def dense(mask: Any) -> Tensor:
    assert isinstance(mask, PreparedMask)
    return mask.dense().expand(GEOMETRY.shape)


def test_fields_that_say_nothing_leave_it_to_what_lies_below() -> None:
    table = AttentionInterface()
    below = LayerSettings(
        implementation="eager", interface=table, mask=causal(), replaces_mask=True, origin={"mask": "a"}
    )
    named = LayerSettings(implementation="sdpa", origin={"implementation": "b"}).over(below)
    assert (named.implementation, named.interface, named.mask, named.replaces_mask) == ("sdpa", None, causal(), True)
    assert named.origin == {"mask": "a", "implementation": "b"}
    masked = LayerSettings(mask=chunked(2), origin={"mask": "c"}).over(below)
    assert (masked.implementation, masked.interface) == ("eager", table)
    assert (masked.mask, masked.replaces_mask, masked.origin) == (chunked(2), False, {"mask": "c"})


def test_without_a_mask_of_its_own_the_models_mask_is_returned() -> None:
    prepared = prepare(causal(), GEOMETRY)
    assert LayerSettings(implementation="sdpa").masked(prepared, *drawn()) is prepared
    assert LayerSettings().masked(None, *drawn()) is None


MODELS: list[Callable[[], Any]] = [
    causal,
    lambda: causal() & padding(KEEP),
    lambda: documents(IDS) & padding(KEEP) & causal(),
    lambda: Mask(lambda b, h, q, k: (q + k + h) % 2 == 0),
    lambda: torch.rand(2, 1, 5, 5) > 0.4,
    lambda: "sliding_window(3)",
]


@given(st.sampled_from(MODELS), st.sampled_from([sliding_window(2), chunked(2), ~causal()]))
def test_a_joined_mask_shows_what_both_show(model: Callable[[], Any], own: Mask) -> None:
    query, key = drawn()
    given_mask = model()
    joined = LayerSettings(mask=own).masked(given_mask, query, key)
    expected = prepare(given_mask, GEOMETRY).dense() & prepare(own, GEOMETRY).dense()
    assert torch.equal(dense(joined), expected.expand(GEOMETRY.shape))


def test_a_mask_joined_to_numbers_keeps_them_where_it_shows() -> None:
    query, key = drawn()
    numbers = torch.randn(2, 1, 5, 5)
    joined = LayerSettings(mask=causal()).masked(numbers, query, key)
    assert isinstance(joined, PreparedMask)
    shown = torch.ones(5, 5, dtype=torch.bool).tril()
    assert torch.equal(joined.additive(torch.float32)[..., shown], numbers[..., shown])
    expected = attend(query, key, key, mask=numbers.masked_fill(~shown, -torch.inf), implementation="eager")
    torch.testing.assert_close(attend(query, key, key, mask=joined, implementation="eager"), expected)


def test_a_replacing_mask_leaves_padding_and_packed_documents() -> None:
    own = LayerSettings(mask=chunked(2), replaces_mask=True)
    for model, kept in (
        (causal() & padding(KEEP), padding(KEEP)),
        (documents(IDS) & causal(), documents(IDS)),
        (padding(KEEP), padding(KEEP)),
        (blockwise(IDS) & causal(), None),  # image blocks are what a model shows, and no packing
    ):
        expected = chunked(2) if kept is None else chunked(2) & kept
        replaced = own.masked(prepare(model, GEOMETRY), *drawn())
        assert torch.equal(dense(replaced), prepare(expected, GEOMETRY).dense().expand(GEOMETRY.shape))


def test_without_a_mask_of_the_model_queries_are_aligned_with_the_last_keys() -> None:
    query, key = drawn(queries=2)
    masked = LayerSettings(mask=sliding_window(2)).masked(None, query, key)
    got = attend(query, key, key, mask=masked)
    torch.testing.assert_close(got, attend(query, key, key, mask=sliding_window(2), q_offset=3))


def test_layers_of_one_setting_share_what_is_made_of_a_mask() -> None:
    prepared, query_key = prepare(causal(), GEOMETRY), drawn()
    one = LayerSettings(mask=sliding_window(2)).masked(prepared, *query_key)
    assert LayerSettings(mask=sliding_window(2)).masked(prepared, *query_key) is one
    assert LayerSettings(mask=sliding_window(3)).masked(prepared, *query_key) is not one
    assert LayerSettings(mask=sliding_window(2), replaces_mask=True).masked(prepared, *query_key) is not one


def test_a_tensor_cannot_be_replaced_by_a_pattern() -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"must be a pattern to be replaced by causal\(\), got a tensor \[1, 1, 5"
    ):
        LayerSettings(mask=causal(), replaces_mask=True).masked(torch.ones(5, 5, dtype=torch.bool), *drawn())


@pytest.mark.parametrize("offset", [3, torch.tensor(3), torch.tensor([3, 1])])
def test_a_replacing_mask_may_not_show_keys_that_a_cache_has_dropped(offset: Any) -> None:
    query, key = drawn(queries=1)
    prepared = prepare(sliding_window(5), Geometry(2, 1, 5, q_offset=7, kv_offset=offset))
    with pytest.raises(UnsupportedFeature, match=r"must show no key that the cache has dropped, got causal\(\), which"):
        LayerSettings(mask=causal(), replaces_mask=True).masked(prepared, query, key)
    narrow = LayerSettings(mask=sliding_window(4), replaces_mask=True).masked(prepared, query, key)
    assert isinstance(narrow, PreparedMask)
    assert narrow.geometry is prepared.geometry


def test_a_first_key_that_cannot_be_read_is_taken_for_a_dropped_one() -> None:
    query, key = drawn(queries=1)
    prepared = prepare(causal(), Geometry(2, 1, 5, q_offset=7, kv_offset=torch.tensor(3, device="meta")))
    with pytest.raises(
        UnsupportedFeature, match="over a cache whose first key cannot be read here; use a cache that keeps"
    ):
        LayerSettings(mask=causal(), replaces_mask=True).masked(prepared, query, key)


class Attending(nn.Module):
    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        settings = settings_for(self)
        geometry = Geometry(2, query.shape[2], key.shape[2], q_offset=7, kv_offset=3)
        mask: Any = prepare(sliding_window(5), geometry)
        if settings is not None:
            mask = settings.masked(mask, query, key)
        return attend(query, key, key, mask=mask, implementation="eager")


def test_in_a_graph_masks_are_joined_and_replaced_only_where_no_key_was_dropped() -> None:
    module, (query, key) = Attending(), drawn(queries=1)
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    ATTENTION_SETTINGS.lay(module, "a", LayerSettings(mask=sliding_window(2)))
    torch.testing.assert_close(compiled(query, key), module(query, key))
    ATTENTION_SETTINGS.lay(module, "b", LayerSettings(mask=sliding_window(2), replaces_mask=True))
    module(query, key)
    with pytest.raises(Exception, match="in compiled code, after keys were dropped"):
        compiled(query, key)


def test_a_guard_is_asked_where_a_setting_is_read() -> None:
    module = nn.Identity()

    def refuse() -> None:
        raise UnsupportedFeature("not here")

    assert settings_for(module) is None
    scope = ATTENTION_SETTINGS.scope({module: LayerSettings(implementation="sdpa", guard=refuse)})
    with scope, pytest.raises(UnsupportedFeature, match="not here"):
        settings_for(module)
    assert settings_for(module) is None

"""`to_dense` against its meaning, and against transformers' `sdpa_mask`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import masking_utils

from headstock.errors import InvalidShape
from headstock.masks import Geometry, Mask, bidirectional, causal, padding, prepare, sliding_window, to_dense
from tests.support.devices import moved, on_each_device
from tests.support.masks import Case, cases, geometries, loop


@on_each_device
@given(cases())
def test_equals_the_meaning_at_every_quadruple(device: str, case: Case) -> None:
    there = moved(case, device)
    found = to_dense(there.mask, there.geometry, device=device)
    assert found.device.type == device
    batch_size, heads, queries, keys = case.geometry.shape
    assert found.shape[0] in (1, batch_size)
    assert found.shape[1] in (1, heads)
    assert found.shape[2:] == (queries, keys)
    assert found.dtype == torch.bool
    assert torch.equal(found.cpu().expand(case.geometry.shape), loop(case.meaning, case.geometry))


PAIRS: list[Callable[[int], tuple[Mask, Any]]] = [
    lambda size: (causal(), masking_utils.causal_mask_function),
    lambda size: (bidirectional(), masking_utils.bidirectional_mask_function),
    lambda size: (causal() & sliding_window(size), masking_utils.sliding_window_causal_mask_function(size)),
    # transformers' window for both sides counts the keys on either side, ours up to and with the query's own.
    lambda size: (
        sliding_window(size + 1, right=size),
        masking_utils.sliding_window_bidirectional_mask_function(size),
    ),
]


@st.composite
def both(draw: st.DrawFn) -> tuple[Mask, Geometry, dict[str, Any]]:
    """A mask and its geometry, and the same as arguments of transformers' functions."""
    geometry = draw(geometries(least=1, longest=12, tensor_offsets=False, heads=1))
    mask, function = draw(st.sampled_from(PAIRS))(draw(st.integers(1, 6)))
    q_offset, kv_offset = int(geometry.q_offset), int(geometry.kv_offset)
    keep = draw(st.none() | st.just(torch.rand(geometry.batch_size, kv_offset + geometry.kv_length) > 0.3))
    arguments = {
        "batch_size": geometry.batch_size,
        "q_length": geometry.q_length,
        "kv_length": geometry.kv_length,
        "q_offset": q_offset,
        "kv_offset": kv_offset,
        "mask_function": function,
        "attention_mask": keep,
        "allow_is_causal_skip": False,
    }
    return (mask if keep is None else mask & padding(keep)), geometry, arguments


@given(both())
def test_equals_transformers_sdpa_mask(drawn: tuple[Mask, Geometry, dict[str, Any]]) -> None:
    mask, geometry, arguments = drawn
    expected = masking_utils.sdpa_mask(**arguments)
    assert expected is not None
    assert torch.equal(to_dense(mask, geometry).expand(geometry.shape), expected.expand(geometry.shape))


def test_a_prepared_mask_gives_what_it_keeps() -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3)
    prepared = prepare(causal(), geometry)
    assert to_dense(prepared, geometry) is prepared.dense()
    with pytest.raises(InvalidShape, match="must be used in the geometry it was made for"):
        to_dense(prepared, Geometry(batch_size=1, q_length=2, kv_length=4))


def test_lies_on_the_masks_device_else_the_callers() -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3)
    assert to_dense(causal(), geometry, device="meta").device.type == "meta"
    assert to_dense(padding(torch.ones(1, 3).bool()), geometry, device="meta").device.type == "cpu"


class Dense(torch.nn.Module):
    def forward(self, keep: Tensor, queries: Tensor, start: Tensor) -> Tensor:
        geometry = Geometry(
            batch_size=keep.shape[0], q_length=queries.shape[0], kv_length=keep.shape[1], q_offset=start
        )
        return to_dense(causal() & padding(keep) | sliding_window(2).complement(), geometry)


def arguments_of(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.rand(2, keys) > 0.3, torch.zeros(queries), torch.tensor([0, 2])


def test_compiled_in_one_graph() -> None:
    compiled = torch.compile(Dense(), fullgraph=True, backend="eager")
    for queries, keys in ((3, 5), (4, 7), (6, 6)):
        arguments = arguments_of(queries, keys)
        assert torch.equal(compiled(*arguments), Dense()(*arguments))


@pytest.mark.parametrize("strict", [False, True])
def test_exported_for_every_length(strict: bool) -> None:
    queries, keys = torch.export.Dim("queries", min=2, max=64), torch.export.Dim("keys", min=2, max=64)
    shapes = {"keep": {1: keys}, "queries": {0: queries}, "start": {}}
    module = torch.export.export(Dense(), arguments_of(3, 5), dynamic_shapes=shapes, strict=strict).module()
    for lengths in ((3, 5), (9, 4), (2, 30)):
        arguments = arguments_of(*lengths)
        assert torch.equal(module(*arguments), Dense()(*arguments))

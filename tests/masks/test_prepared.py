"""A mask prepared once for all layers: what it takes, what it keeps, and which table it looks in."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.errors import InvalidComponent, UnknownName
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    AttentionMaskInterface,
    CausalOrDense,
    Geometry,
    Mask,
    PreparedMask,
    causal,
    padding,
    prepare,
    sliding_window,
    to_dense,
)
from tests.support.masks import reads_heads

GEOMETRY = Geometry(batch_size=2, q_length=3, kv_length=4, heads=5)
KEEP = torch.tensor([[True, True, False, True], [False, False, False, False]])


def test_thirty_layers_evaluate_once() -> None:
    calls = []

    def counted(b: Any, h: Any, i: Any, j: Any) -> Any:
        calls.append(1)
        return j <= i

    prepared = prepare(counted, GEOMETRY)
    assert not calls
    prepared.lower("sdpa", dtype=torch.float32)
    evaluated = len(calls)
    for _ in range(30):
        prepared.lower("dense", dtype=torch.float32)
        prepared.lower("eager", dtype=torch.bfloat16)
        prepared.lower("eager", dtype=torch.float32)
        prepared.lower("dense_or_additive", dtype=torch.float32)
        prepared.empty_rows()
    assert len(calls) == evaluated


@pytest.mark.parametrize(
    "ask",
    [
        lambda prepared: prepared.dense(),
        lambda prepared: prepared.additive(torch.float16),
        lambda prepared: prepared.causal_or_dense().attention_mask,
        lambda prepared: prepared.empty_rows(),
        lambda prepared: prepared.lower("additive", dtype=torch.float16),
    ],
)
def test_a_representation_is_made_once(ask: Callable[[PreparedMask], Tensor]) -> None:
    prepared = prepare(causal() & padding(KEEP), GEOMETRY)
    assert ask(prepared) is ask(prepared)


def test_a_local_representation_is_used_and_kept_apart() -> None:
    calls = []

    def mine(mask: PreparedMask, geometry: Geometry, *, dtype: torch.dtype, device: Any) -> Any:
        calls.append((mask.mask, geometry, dtype, device))
        return to_dense(mask, geometry)

    local = AttentionMaskInterface()
    local["sdpa"] = mine  # type: ignore[assignment]  # asks for a prepared mask, which is what it gets
    prepared = prepare(causal(), GEOMETRY, device="cpu")
    for _ in range(2):
        assert prepared.lower("sdpa", dtype=torch.float32, interface=local) is prepared.dense()
    assert prepared.lower("sdpa", dtype=torch.float32) == CausalOrDense(None, True)
    assert calls == [(causal(), GEOMETRY, torch.float32, torch.device("cpu"))]


def test_an_unknown_representation_is_refused_by_name() -> None:
    with pytest.raises(UnknownName, match=r"'causal_or_dence'.*causal_or_dense"):
        prepare(causal(), GEOMETRY).lower("causal_or_dence", dtype=torch.float32)


def test_a_registered_representation_is_seen() -> None:
    def count(mask: Any, geometry: Geometry, *, dtype: torch.dtype, device: Any) -> int:
        return int(to_dense(mask, geometry).sum())

    with ALL_MASK_ATTENTION_FUNCTIONS.override(dense=count):
        assert prepare(causal(), GEOMETRY).lower("dense", dtype=torch.float32) == 6


def test_a_plain_function_is_a_mask() -> None:
    prepared = prepare(reads_heads, GEOMETRY)
    assert prepared.mask == Mask(reads_heads)
    assert torch.equal(prepared.dense(), to_dense(Mask(reads_heads), GEOMETRY))
    assert prepared.given is None


def test_a_prepared_mask_is_a_mask() -> None:
    prepared = prepare(causal(), GEOMETRY)
    assert prepare(prepared, GEOMETRY) is prepared
    assert prepare(prepared, Geometry(batch_size=2, q_length=3, kv_length=4, heads=5)) is prepared
    assert prepared(0, 0, 1, 1) is True
    assert prepared(0, 0, 1, 2) is False


@pytest.mark.parametrize("mask", [None, 3, (causal(),)])
def test_what_is_no_mask_is_refused(mask: Any) -> None:
    with pytest.raises(InvalidComponent, match="a mask's predicate must be a function"):
        prepare(mask, GEOMETRY)


def test_a_text_is_a_mask() -> None:
    assert prepare("causal & sliding_window(2)", GEOMETRY).mask == causal() & sliding_window(2)
    with pytest.raises(UnknownName, match=r"'casual'.*causal"):
        prepare("casual", GEOMETRY)


def test_repr_says_mask_and_geometry() -> None:
    assert repr(prepare(causal(), Geometry(1, 2, 3))) == (
        "PreparedMask(causal(), Geometry(batch_size=1, q_length=2, kv_length=3, q_offset=0, kv_offset=0, heads=1))"
    )


def layers(keep: Tensor, queries: Tensor) -> tuple[Tensor | None, ...]:
    geometry = Geometry(
        batch_size=keep.shape[0],
        q_length=queries.shape[0],
        kv_length=keep.shape[1],
        q_offset=keep.shape[1] - queries.shape[0],
    )
    prepared = prepare(causal() & padding(keep), geometry)
    lowered = [prepared.lower("sdpa", dtype=torch.float32).attention_mask for _ in range(3)]
    return (*lowered, prepared.lower("eager", dtype=torch.bfloat16), prepared.empty_rows())


def test_prepared_inside_a_compiled_function() -> None:
    compiled = torch.compile(layers, fullgraph=True, backend="eager")
    for queries, keys in ((3, 5), (4, 7)):
        arguments = torch.rand(2, keys) > 0.3, torch.zeros(queries)
        for found, expected in zip(compiled(*arguments), layers(*arguments), strict=True):
            assert found is not None
            assert expected is not None
            assert torch.equal(found, expected)


def test_prepared_outside_and_used_in_a_compiled_function() -> None:
    def layer(mask: PreparedMask, scores: Tensor) -> Tensor:
        additive: Tensor = mask.lower("eager", dtype=scores.dtype)
        return scores + additive

    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    scores = torch.randn(2, 5, 3, 4)
    for _ in range(2):
        prepared = prepare(causal() & padding(KEEP), GEOMETRY)
        expected = scores + prepare(causal() & padding(KEEP), GEOMETRY).additive(torch.float32)
        for _ in range(3):
            assert torch.equal(compiled(prepared, scores), expected)

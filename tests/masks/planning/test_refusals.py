"""What cannot be planned is refused by name: predicates that are none, values that cannot be read, compiled code."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from headstock.errors import InvalidComponent, InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.masks import (
    BlockPlan,
    Geometry,
    Mask,
    PreparedMask,
    causal,
    chunked,
    documents,
    padding,
    plan,
    prefix_lm,
    prepare,
    sliding_window,
    to_block_mask,
    to_dense,
)

GEOMETRY = Geometry(2, 30, 30, heads=2)
ELSEWHERE = torch.ones(2, 30, dtype=torch.bool, device="meta")
SHORT = torch.ones(2, 20, dtype=torch.bool)


def raises(b: Any, h: Any, i: Any, j: Any) -> Any:
    raise ValueError("no such pair")


@pytest.mark.parametrize("represent", [plan, to_block_mask, to_dense])
@pytest.mark.parametrize("rest", [None, causal(), ~causal()], ids=str)
@pytest.mark.parametrize(
    ("predicate", "error", "text"),
    [
        (lambda b, h, i, j: i - j, InvalidComponent, "must return a boolean, got torch.int64; compare, or convert"),
        (lambda b, h, i, j: (i > j).to(torch.int8), InvalidComponent, "must return a boolean, got torch.int8; "),
        (lambda b, h, i, j: (i > j) * 1.0, InvalidComponent, "must return a boolean, got torch.float32; "),
        (lambda b, h, i, j: 1, InvalidComponent, "must return a boolean, got 1; "),
        (lambda b, h, i, j: None, InvalidComponent, "must return a boolean, got None; "),
        (raises, InvalidComponent, r"Mask\(raises\) must answer for .*, got ValueError: no such pair; write it with"),
        (
            lambda b, h, i, j: j <= (i if i > 3 else j),
            InvalidComponent,
            "must answer for .* data-dependent control flow",
        ),
        (lambda b, h, i, j: torch.stack([i > j, i < 3]), InvalidShape, r"one boolean for four .* shape \[2\]; reduce"),
        (
            lambda b, h, i, j: ELSEWHERE[b, j],
            InvalidComponent,
            "must answer on the device of its indices, cpu, got meta; move what it reads, or name the device",
        ),
    ],
)
def test_a_function_that_is_no_predicate(
    predicate: Any, error: type[Exception], text: str, rest: Mask | None, represent: Any
) -> None:
    mask = Mask(predicate) if rest is None else rest & Mask(predicate)
    with pytest.raises(error, match=text):
        represent(mask, GEOMETRY)


@pytest.mark.parametrize("represent", [plan, to_block_mask, to_dense])
def test_a_function_that_reads_past_its_table(represent: Any) -> None:
    with pytest.raises(InvalidComponent, match=r"got IndexError: index 2\d is out of bounds .* size 20; write it"):
        represent(Mask(lambda b, h, i, j: SHORT[b, j]), GEOMETRY)


META: dict[str, Any] = {"device": "meta", "dtype": torch.int64}


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (
            padding(ELSEWHERE),
            r"got bool\[2, 30\] on meta in .*padding\(keep=bool\[2, 30\]\) or its geometry; ",
        ),
        (documents(torch.zeros(2, 30, **META)), r"got int64\[2, 30\] on meta in "),
        (chunked(3, torch.zeros(2, **META)), r"got int64\[2\] on meta in "),
        (prefix_lm(torch.zeros(2, **META)), r"got int64\[2\] on meta in "),
    ],
    ids=str,
)
def test_tensors_without_values(mask: Mask, text: str) -> None:
    for each in (mask, causal() & mask, causal() | ~mask):
        with pytest.raises(UnsupportedFeature, match="a plan must be made where values can be read, " + text):
            plan(each, GEOMETRY)


def test_offsets_without_values() -> None:
    geometry = Geometry(2, 30, 30, q_offset=torch.zeros(2, **META))
    with pytest.raises(UnsupportedFeature, match=r"got int64\[2\] on meta in causal\(\) or its geometry; plan with"):
        plan(causal(), geometry)
    with FakeTensorMode():
        offset = torch.zeros((), dtype=torch.int64)
    with pytest.raises(UnsupportedFeature, match=r"got int64\[\] on cpu in causal\(\) or its geometry; plan with"):
        plan(causal(), Geometry(2, 30, 30, kv_offset=offset))


@pytest.mark.parametrize("block_size", [2**62, (1, 2**70)])
def test_blocks_longer_than_any_index(block_size: Any) -> None:
    with pytest.raises(InvalidConfig, match="block_size must be a positive integer or two of them"):
        plan(causal(), GEOMETRY, block_size)


def test_blocks_far_longer_than_the_whole_are_evaluated_as_far_as_it_goes() -> None:
    mask = Mask(lambda b, h, i, j: torch.stack([j <= i, i >= 0]).all())
    found = plan(mask, GEOMETRY, 2**40)
    assert not found.full.any()
    assert found.partial.all()


def blocks(scores: Tensor) -> Tensor:
    return scores + plan(causal() & sliding_window(200), Geometry(1, 300, 300), 64).full.sum()


def test_a_plan_asked_for_in_a_compiled_graph_is_refused() -> None:
    compiled = torch.compile(blocks, fullgraph=True, backend="eager")
    with pytest.raises(Exception, match="a plan must be made outside of compiled code, got a call inside; prepare the"):
        compiled(torch.zeros(2))


def test_where_graphs_may_break_the_plan_is_made_between_them() -> None:
    compiled = torch.compile(blocks, backend="eager")
    wanted = blocks(torch.zeros(2))
    assert wanted[0] > 0
    for _ in range(2):
        assert torch.equal(compiled(torch.zeros(2)), wanted)


def with_plan(found: BlockPlan, scores: Tensor) -> Tensor:
    return scores + found.partial.sum() + found.starts.sum()


def with_prepared(prepared: PreparedMask, scores: Tensor) -> Tensor:
    return with_plan(prepared.plan(64), scores)


def whole(function: Any) -> Any:
    return torch.compile(function, fullgraph=True, backend="eager")


def test_a_plan_made_before_is_used_in_a_compiled_graph() -> None:
    for size in (50, 100):
        prepared = prepare(causal() & sliding_window(size), Geometry(1, 300, 300))
        wanted = with_plan(prepared.plan(64), torch.zeros(2))
        assert torch.equal(whole(with_plan)(prepared.plan(64), torch.zeros(2)), wanted)
        assert torch.equal(whole(with_prepared)(prepared, torch.zeros(2)), wanted)


def test_a_prepared_mask_without_a_plan_is_refused_in_a_compiled_graph() -> None:
    prepared = prepare(causal(), Geometry(1, 300, 300))
    with pytest.raises(Exception, match=r"plan there with `prepare\(mask, geometry\).plan\(\)`, and pass what is prep"):
        whole(with_prepared)(prepared, torch.zeros(2))

"""Plain functions: what vmap says is what they mean, and what cannot be a predicate is refused by name."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from headstock.errors import InvalidComponent, InvalidShape, UnsupportedFeature
from headstock.masks import Geometry
from headstock.masks.contract import Predicate
from headstock.masks.functions import by_broadcasting, by_vmap, evaluate_function
from headstock.masks.indices import indices_of
from tests.support.masks import function_leaves, geometries, loop, reads_heads, stacks

WIDE = Geometry(batch_size=2, q_length=9, kv_length=11, q_offset=torch.tensor([2, 0]), heads=2)


@given(st.data())
def test_equals_the_meaning_at_every_quadruple(data: st.DataObject) -> None:
    geometry = data.draw(geometries(least=1, longest=12))
    mask, meaning = data.draw(function_leaves(geometry))
    found = evaluate_function(mask.predicate, geometry, None)
    assert torch.equal(found.expand(geometry.shape), loop(meaning, geometry))


@given(st.data())
def test_vmap_alone_gives_the_same(data: st.DataObject) -> None:
    geometry = data.draw(geometries(least=1, longest=12))
    mask, meaning = data.draw(function_leaves(geometry))
    found = by_vmap(mask.predicate, indices_of(geometry, None))
    assert torch.equal(found.expand(geometry.shape), loop(meaning, geometry))


def counted(calls: list[int]) -> Predicate:
    def predicate(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        calls.append(i.ndim)
        return j <= i

    return predicate


def test_a_function_that_broadcasts_is_called_once_on_the_whole() -> None:
    calls: list[int] = []
    evaluate_function(counted(calls), WIDE, None)
    # vmap on the tile (0-dim), broadcasting on the tile, broadcasting on the whole.
    assert calls == [0, 4, 4]


def test_a_function_that_does_not_broadcast_is_mapped() -> None:
    assert by_broadcasting(stacks, indices_of(WIDE, None)) is None
    expected = loop(lambda b, h, i, j: j <= i and i - j < 3, WIDE)
    assert torch.equal(evaluate_function(stacks, WIDE, None).expand(WIDE.shape), expected)


def test_what_differs_outside_the_tile_in_shape_alone_is_mapped() -> None:
    def shrinks(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        # Right on up to five keys, one column on more; and what it writes must not reach the next attempt.
        seen = j <= i.sub_(1) + 1
        return seen[..., :1] if j.ndim and j.shape[-1] > 5 else seen

    found = evaluate_function(shrinks, WIDE, None)
    assert torch.equal(found.expand(WIDE.shape), loop(lambda b, h, i, j: j <= i, WIDE))


def test_values_that_cannot_be_read_are_mapped() -> None:
    calls: list[int] = []
    with FakeTensorMode():
        found = evaluate_function(counted(calls), Geometry(batch_size=2, q_length=9, kv_length=11), None)
    assert found.shape[-2:] == (9, 11)
    assert calls == [0]


def test_under_an_outer_vmap_the_function_is_mapped() -> None:
    tables = torch.randint(0, 2, (3, 2, 11)).bool()

    def kept(table: Tensor) -> Tensor:
        return evaluate_function(lambda b, h, i, j: table[b, j], Geometry(2, 9, 11), None).expand(2, 1, 9, 11)

    assert torch.equal(torch.vmap(kept)(tables), tables[:, :, None, None].expand(3, 2, 1, 9, 11))


def returns_numbers(b: Any, h: Any, i: Any, j: Any) -> Any:
    return i - j


def returns_text(b: Any, h: Any, i: Any, j: Any) -> Any:
    return "yes"


def returns_two(b: Any, h: Any, i: Any, j: Any) -> Any:
    return torch.stack([i >= j, i == j])


def branches(b: Any, h: Any, i: Any, j: Any) -> Any:
    return j <= i if i > 3 else j == i


def refuses(b: Any, h: Any, i: Any, j: Any) -> Any:
    raise UnsupportedFeature("of its own")


def runs_out(b: Any, h: Any, i: Any, j: Any) -> Any:
    raise torch.OutOfMemoryError("no room")


@pytest.mark.parametrize(
    ("predicate", "error", "text"),
    [
        (returns_numbers, InvalidComponent, r"Mask\(returns_numbers\) must return a boolean, got torch.int64; compare"),
        (returns_text, InvalidComponent, r"Mask\(returns_text\) must return a boolean, got 'yes'; compare"),
        (returns_two, InvalidShape, r"Mask\(returns_two\) must return one boolean for four indices, got shape \[2\]; "),
        (branches, InvalidComponent, r"Mask\(branches\) must answer for 0-dim index tensors under torch.vmap, got "),
        (refuses, UnsupportedFeature, "^of its own$"),
        (runs_out, torch.OutOfMemoryError, "^no room$"),
    ],
)
def test_what_is_no_predicate_is_refused_by_name(predicate: Predicate, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        evaluate_function(predicate, WIDE, None)


def test_what_a_function_raised_is_the_cause() -> None:
    table = torch.ones(2, 5, dtype=torch.bool)
    with pytest.raises(InvalidComponent, match="got IndexError: index 5 is out of bounds") as caught:
        evaluate_function(lambda b, h, i, j: table[b, j], WIDE, None)
    assert isinstance(caught.value.__cause__, IndexError)


def test_compiled_in_one_graph() -> None:
    def mask(query: Tensor, key: Tensor) -> Tensor:
        geometry = Geometry(batch_size=query.shape[0], q_length=query.shape[1], kv_length=key.shape[1], heads=2)
        return evaluate_function(stacks, geometry, None) & evaluate_function(reads_heads, geometry, None)

    compiled = torch.compile(mask, fullgraph=True, backend="eager")
    for queries, keys in ((4, 6), (5, 7)):
        query, key = torch.randn(2, queries), torch.randn(2, keys)
        assert torch.equal(compiled(query, key), mask(query, key).expand(2, 2, queries, keys))

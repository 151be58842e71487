from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.layers.checkpointing.packing import by_name, leaves_of, take_apart
from tests.support.checkpointing import CacheRecorder


class Pair(NamedTuple):
    first: Any
    second: Any


SHARED = [torch.zeros(2), torch.ones(3), torch.arange(4)]
LEAVES = st.one_of(st.sampled_from(SHARED), st.none(), st.integers(), st.text(max_size=3))
NESTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.dictionaries(st.text(max_size=2), inner, max_size=3).map(OrderedDict),
        st.tuples(inner, inner).map(lambda pair: Pair(*pair)),
    ),
    max_leaves=8,
)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return one is other
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict):
        return (
            type(one) is type(other) and list(one) == list(other) and all(_equal(one[key], other[key]) for key in one)
        )
    return bool(one == other)


@given(NESTS)
def test_a_nest_taken_apart_comes_together_again(nest: Any) -> None:
    packed, tensors = take_apart(nest)
    again = packed.together(tensors)
    assert _equal(nest, again)
    assert packed.holds(again, tensors)
    assert len({id(tensor) for tensor in tensors}) == len(tensors)
    assert packed.is_tensor == isinstance(nest, Tensor)


@given(NESTS)
def test_other_tensors_take_the_places_of_the_first(nest: Any) -> None:
    packed, tensors = take_apart(nest)
    others = [tensor.clone() for tensor in tensors]
    places = [next(place for place, each in enumerate(tensors) if each is leaf) for leaf in _tensors(nest)]
    assert all(leaf is others[place] for leaf, place in zip(_tensors(packed.together(others)), places, strict=True))


def _tensors(nest: Any) -> list[Tensor]:
    return [leaf for leaf in leaves_of(nest) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize(
    "change",
    [
        lambda nest: nest["a"].append(2),
        lambda nest: nest["a"].pop(),
        lambda nest: nest.update(a=3),
        lambda nest: nest.update(a=(1,)),
        lambda nest: nest.update(b=None),
        lambda nest: nest.pop("b"),
        lambda nest: nest["a"].__setitem__(0, torch.zeros(2)),
        lambda nest: nest["b"].update(c=2),
        lambda nest: nest["b"].clear(),
    ],
)
def test_a_nest_that_changed_is_told_from_one_that_did_not(change: Callable[[Any], object]) -> None:
    packed, tensors = take_apart({"a": [torch.zeros(2), 1], "b": OrderedDict(c=1)})
    nest = packed.together(tensors)
    assert packed.holds(nest, tensors)
    change(nest)
    assert not packed.holds(nest, tensors)


def test_caches_stay_whole() -> None:
    cache = CacheRecorder()
    packed, tensors = take_apart([cache])
    assert packed.together(tensors)[0] is cache


def test_arguments_get_the_names_of_the_signature() -> None:
    arguments = (1, 2, 3), {"last": 4}
    assert by_name(arguments, ("first", "second")) == {"first": 1, "second": 2, "positional argument 2": 3, "last": 4}
    assert by_name(((), {"first": 1}), ("first", "second")) == {"first": 1}

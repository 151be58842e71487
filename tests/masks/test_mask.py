"""The algebra of masks: its meaning, its equality, its text."""

import copy
import pickle
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from operator import and_, or_
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from headstock.errors import InvalidComponent
from headstock.masks import (
    ALL_MASK_PATTERNS,
    Geometry,
    Mask,
    bidirectional,
    causal,
    padding,
    sliding_window,
    to_dense,
)
from headstock.masks.contract import Predicate
from headstock.masks.predicate import patterns_of
from tests.support.masks import cases, expressions, geometries, reads_heads

KEEP = torch.tensor([[True, True, False], [True, False, False]])


@given(st.data())
def test_one_quadruple_is_what_the_meaning_says(data: st.DataObject) -> None:
    geometry = data.draw(geometries(least=1, tensor_offsets=False))
    mask, meaning = data.draw(expressions(geometry, functions=False))
    b, h = data.draw(st.integers(0, geometry.batch_size - 1)), data.draw(st.integers(0, geometry.heads - 1))
    i = data.draw(st.integers(0, geometry.q_length - 1)) + int(geometry.q_offset)
    j = data.draw(st.integers(0, geometry.kv_length - 1)) + int(geometry.kv_offset)
    assert bool(mask(b, h, i, j)) is meaning(b, h, i, j)


@given(st.data())
def test_a_structure_built_twice_is_equal_and_hashes_alike(data: st.DataObject) -> None:
    mask = data.draw(expressions(Geometry(2, 3, 3)))[0]
    again = Mask(rebuilt(mask.predicate))
    assert again == mask
    assert hash(again) == hash(mask)
    assert repr(again) == repr(mask)


def rebuilt(predicate: Any) -> Any:
    if hasattr(predicate, "operands"):
        return type(predicate)(tuple(map(rebuilt, predicate.operands)))
    if hasattr(predicate, "operand"):
        return type(predicate)(rebuilt(predicate.operand))
    if hasattr(predicate, "parts"):
        return type(predicate)(*(each.clone() if isinstance(each, Tensor) else each for each in predicate.parts()))
    return predicate


@given(st.data())
def test_equal_masks_say_the_same(data: st.DataObject) -> None:
    geometry = Geometry(2, 3, 3)
    left, right = data.draw(expressions(geometry, depth=1))[0], data.draw(expressions(geometry, depth=1))[0]
    if left == right:
        assert torch.equal(to_dense(left, geometry), to_dense(right, geometry))
        assert hash(left) == hash(right)


@given(cases(functions=False, depth=1))
def test_connectives_are_associative_in_structure(case: Any) -> None:
    mask, window = case.mask, sliding_window(3)
    for join in (and_, or_):
        assert join(join(mask, window), causal()) == join(mask, join(window, causal()))


def test_what_differs_is_unequal() -> None:
    masks = [
        causal(),
        ~causal(),
        bidirectional(),
        sliding_window(2),
        sliding_window(2, right=1),
        padding(KEEP),
        padding(~KEEP),
        causal() & padding(KEEP),
        padding(KEEP) & causal(),
        causal() | padding(KEEP),
        Mask(reads_heads),
        Mask(lambda b, h, i, j: j <= i),
    ]
    assert len(set(masks)) == len(masks)
    assert all((left == right) is (left is right) for left in masks for right in masks)
    assert causal() != "causal()"


def test_equal_masks_are_one_key() -> None:
    assert {causal() & padding(KEEP): 1}[causal() & padding(KEEP.clone())] == 1


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (causal() & padding(KEEP), "causal() & padding(keep=bool[2, 3])"),
        (Mask(reads_heads), "Mask(reads_heads)"),
        (causal() & (sliding_window(4) | Mask(reads_heads)), "causal() & (sliding_window(size=4) | Mask(reads_heads))"),
        (causal() & sliding_window(4) | bidirectional(), "causal() & sliding_window(size=4) | bidirectional()"),
        (~(causal() & sliding_window(4, right=2)), "~(causal() & sliding_window(size=4, right=2))"),
    ],
)
def test_repr_and_name_read_as_written(mask: Mask, text: str) -> None:
    assert repr(mask) == mask.__name__ == text


class Next:
    """Stands for a tensor's dtype in a `repr`: `int64[2, 3]` is the next tensor."""

    def __init__(self, tensors: Iterator[Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, shape: object) -> Tensor:
        return next(self.tensors)


@given(st.data())
def test_repr_evaluates_to_the_mask(data: st.DataObject) -> None:
    mask = data.draw(expressions(Geometry(2, 3, 3), functions=False))[0]
    tensors = Next(tensor for pattern in patterns_of(mask.predicate) for tensor in pattern.tensors())
    assert eval(repr(mask), {**ALL_MASK_PATTERNS, "bool": tensors, "int64": tensors}) == mask


def test_a_mask_of_a_mask_is_that_mask() -> None:
    assert Mask(causal()) == causal()
    assert not isinstance(Mask(causal()).predicate, Mask)


def test_twice_negated_is_the_mask_itself() -> None:
    mask = causal() & padding(KEEP)
    assert ~~mask == mask
    assert mask.complement() == ~mask


def test_a_mask_does_not_change() -> None:
    mask = causal()
    with pytest.raises(FrozenInstanceError):
        mask.predicate = reads_heads  # type: ignore[misc]  # what is refused


@pytest.mark.parametrize("mask", [causal() & ~padding(KEEP), Mask(reads_heads) | sliding_window(3)])
def test_copies_and_pickles_are_equal(mask: Mask) -> None:
    for made in (copy.copy(mask), copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert made == mask
        assert hash(made) == hash(mask)


def test_a_deep_copy_has_tensors_of_its_own() -> None:
    mask = padding(KEEP.clone())
    made: Any = copy.deepcopy(mask)
    made.predicate.keep[0, 0] = False
    assert made != mask
    assert mask == padding(KEEP)


@pytest.mark.parametrize("join", [and_, or_])
def test_only_masks_join(join: Any) -> None:
    with pytest.raises(TypeError, match="unsupported operand type"):
        join(causal(), reads_heads)


def takes_three(b: Any, h: Any, i: Any) -> Any:
    return i


@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (
            KEEP,
            r"\(batch_idx, head_idx, q_idx, kv_idx\) -> bool, got tensor\(\[\[.*; pass a tensor to `prepare` as it is",
        ),
        (3, "a mask's predicate must be a function .* got 3; "),
        (takes_three, r"got takes_three\(b: Any, h: Any, i: Any\) -> Any; take the four indices"),
    ],
)
def test_what_is_no_function_of_four_indices_is_refused(predicate: Any, text: str) -> None:
    with pytest.raises(InvalidComponent, match=f"(?s){text}"):
        Mask(predicate)


def test_a_function_without_a_signature_is_taken_at_its_word() -> None:
    assert Mask(max)(0, 1, 2, 3) == 3


class Module(torch.nn.Module):
    def forward(self, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return j <= i


@pytest.mark.parametrize("predicate", [Module(), Module().forward])
def test_modules_and_methods_are_functions_too(predicate: Predicate) -> None:
    geometry = Geometry(1, 3, 3)
    assert torch.equal(to_dense(Mask(predicate), geometry), to_dense(causal(), geometry))


def test_a_mask_is_a_mask_mod_of_flex_attention() -> None:
    mask = causal() & padding(KEEP) | ~sliding_window(2, right=1)
    expected = to_dense(mask, Geometry(batch_size=2, q_length=3, kv_length=3))
    assert torch.equal(create_mask(mask, 2, 1, 3, 3, device="cpu"), expected)


def test_put_together_inside_a_compiled_function() -> None:
    def mask(keep: Tensor) -> Tensor:
        whole = causal() & padding(keep) | sliding_window(3).complement() & Mask(reads_heads)
        return to_dense(
            whole, Geometry(batch_size=keep.shape[0], q_length=keep.shape[1], kv_length=keep.shape[1], heads=2)
        )

    compiled = torch.compile(mask, fullgraph=True, backend="eager")
    for keys in (4, 6):
        keep = torch.rand(2, keys) > 0.3
        assert torch.equal(compiled(keep), mask(keep))

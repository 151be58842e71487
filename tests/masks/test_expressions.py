"""Random masks over every pattern and function: all that is made of one says what its predicate says, pair by pair."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from headstock.masks import (
    Geometry,
    Mask,
    plan,
    to_additive,
    to_block_mask,
    to_causal_or_dense,
    to_dense,
    to_dense_or_additive,
)
from headstock.masks.predicate import patterns_of
from tests.support.mask_blocks import blocks_of
from tests.support.mask_formulas import block_sizes, deep_cases
from tests.support.masks import Case, loop, offset_of

SMALL: dict[str, Any] = {"least": 1, "longest": 7}  # every pair in a Python loop
WIDE: dict[str, Any] = {"least": 1, "longest": 12}


def scalars(mask: Mask, geometry: Geometry) -> Tensor:
    """The predicate itself, called once for each quadruple with 0-dim tensors."""
    found = torch.zeros(geometry.shape, dtype=torch.bool)
    for b, h, i, j in torch.ones(geometry.shape).nonzero().tolist():
        q_idx, kv_idx = i + offset_of(geometry.q_offset, b), j + offset_of(geometry.kv_offset, b)
        found[b, h, i, j] = torch.as_tensor(mask(*map(torch.tensor, (b, h, q_idx, kv_idx))))
    return found


def check_sound(mask: Mask, geometry: Geometry, block_size: Any, dense: Tensor) -> None:
    found = plan(mask, geometry, block_size)
    some, every = blocks_of(dense, block_size)
    full, partial = (each.expand(some.shape) for each in (found.full, found.partial))
    assert not (full & partial).any(), "a block is full or partial"
    assert not (full & ~every).any(), "a hidden pair in a full block"
    assert not (some & ~(full | partial)).any(), "a visible pair in an empty block"


def check_representations(case: Case) -> None:
    mask, meaning, geometry = case
    wanted = loop(meaning, geometry)
    assert torch.equal(scalars(mask, geometry), wanted)
    assert torch.equal(to_dense(mask, geometry).expand(geometry.shape), wanted)
    assert torch.equal(to_dense_or_additive(mask, geometry).expand(geometry.shape), wanted)
    added = to_additive(mask, geometry, torch.float16).expand(geometry.shape)
    assert torch.equal(added, torch.where(wanted, 0.0, torch.finfo(torch.float16).min).half())
    given_mask, is_causal = to_causal_or_dense(mask, geometry)
    said = torch.ones(geometry.shape, dtype=torch.bool) if given_mask is None else given_mask.expand(geometry.shape)
    assert torch.equal(said.tril() if is_causal else said, wanted)


def check_block_mask(case: Case, block_size: Any) -> None:
    """Against torch's own: only among its partial blocks may be empty and full ones, and the entries are equal."""
    mask, _, geometry = case
    dense = to_dense(mask, geometry).expand(geometry.shape)
    found = to_block_mask(mask, geometry, block_size=block_size)
    expected = create_block_mask(
        lambda b, h, i, j: dense[b, h, i, j], *geometry.shape, device="cpu", BLOCK_SIZE=block_size
    )
    assert (found.BLOCK_SIZE, found.seq_lengths) == (expected.BLOCK_SIZE, expected.seq_lengths)
    (partial, full), (wanted_partial, wanted_full) = listed(found), listed(expected)
    assert not (partial & full).any()
    assert not (full & ~wanted_full).any()
    assert not ((wanted_partial | wanted_full) & ~(partial | full)).any()
    indices = [torch.arange(size) for size in geometry.shape]

    def function(*at: Tensor) -> Tensor:  # torch.vmap takes no bool, which a plain function may return
        return torch.as_tensor(found.mask_mod(*at))

    for dim in (3, 2, 1, 0):
        function = torch.vmap(function, in_dims=tuple(0 if each == dim else None for each in range(4)))
    assert torch.equal(function(*indices), dense)


def listed(found: BlockMask) -> tuple[Tensor, Tensor]:
    """The blocks that it lists as partial, and as full."""
    partial = entries(found.kv_num_blocks, found.kv_indices)
    return partial, entries(found.full_kv_num_blocks, found.full_kv_indices)


def entries(counts: Any, indices: Any) -> Tensor:
    inside = torch.arange(indices.shape[-1]) < counts[..., None]
    return torch.zeros(indices.shape, dtype=torch.bool).scatter(-1, indices.long(), inside)


def check_round_trips(case: Case, block_size: Any) -> None:
    """Text and data give an equal mask with an equal plan."""
    mask, _, geometry = case
    text, values = repr(mask), dict[str, object]()
    for pattern in patterns_of(mask.predicate):
        for tensor in pattern.tensors():
            name = f"value{len(values)}"
            text = text.replace(f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}", name, 1)
            values[name] = tensor
    wanted = plan(mask, geometry, block_size)
    for read in (Mask.parse(text, values), Mask.from_dict(mask.to_dict())):
        assert read == mask
        assert hash(read) == hash(mask)
        found = plan(read, geometry, block_size)
        assert found.grid == wanted.grid
        for part in ("first_run", "starts", "ends", "is_full"):
            assert torch.equal(getattr(found, part), getattr(wanted, part))


FEW, MANY = settings(max_examples=30), settings(max_examples=400)
small, wide = deep_cases(**SMALL), deep_cases(**WIDE)
named = deep_cases(functions=False, **WIDE)


@given(small)
@FEW
def test_every_representation_says_what_the_predicate_says(case: Case) -> None:
    check_representations(case)


@given(wide, block_sizes())
@FEW
def test_no_visible_pair_is_called_empty_and_no_hidden_one_full(case: Case, block_size: Any) -> None:
    check_sound(case.mask, case.geometry, block_size, to_dense(case.mask, case.geometry).expand(case.geometry.shape))


@given(small, block_sizes((1, 2, 4, 8)))
@settings(max_examples=15)
def test_block_masks_say_what_the_predicate_says(case: Case, block_size: Any) -> None:
    check_block_mask(case, block_size)


@given(named, block_sizes())
@settings(max_examples=15)
def test_text_and_data_give_equal_masks_with_equal_plans(case: Case, block_size: Any) -> None:
    check_round_trips(case, block_size)


@pytest.mark.slow
@given(small, block_sizes((1, 2, 4, 8)))
@MANY
def test_many_small_masks(case: Case, block_size: Any) -> None:
    check_representations(case)
    check_block_mask(case, block_size)


@pytest.mark.slow
@given(st.data(), block_sizes())
@MANY
def test_many_wide_masks(data: st.DataObject, block_size: Any) -> None:
    case = data.draw(wide)
    check_sound(case.mask, case.geometry, block_size, to_dense(case.mask, case.geometry).expand(case.geometry.shape))
    check_round_trips(data.draw(named), block_size)

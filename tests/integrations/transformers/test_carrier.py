"""The object in which a mask travels: passed on by those who ask for little, refused to those who compute."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers.carrier import MaskCarrier, OpaqueMaskError
from headstock.masks import Geometry, Mask, causal, documents, padding, prepare, sliding_window
from headstock.masks.patterns.checks import MOST

KEEP = torch.tensor([[1] * 6, [0] * 2 + [1] * 4]).bool()
ONE = torch.zeros(2, 6).long()
HEADS = torch.ones(2, 1, 4, 8)
CPU = torch.device("cpu")


def carrier(mask: Mask | None = None, keep: Tensor | None = KEEP, **said: Any) -> MaskCarrier:
    return MaskCarrier(mask or causal(), keep, Geometry(2, 4, 6, 2), CPU, model="tinymodel", **said)


def test_it_has_what_caches_and_generation_read() -> None:
    mask = carrier()
    assert (mask.ndim, mask.shape, mask.dtype, mask.device) == (4, torch.Size([2, 1, 4, 6]), torch.bool, CPU)
    assert mask.contiguous() is mask
    assert mask.to("cpu") is mask.to(CPU, non_blocking=True) is mask.to(dtype=torch.float16) is mask


def test_the_tensor_that_it_stands_for_is_the_mask_with_its_padding() -> None:
    expected = prepare(causal() & padding(KEEP), Geometry(2, 4, 6, 2)).dense()
    assert torch.equal(carrier().tensor("dense"), expected)
    added = carrier().tensor("additive", torch.float64)
    assert torch.equal(added == 0, expected)
    assert float(added.min()) == torch.finfo(torch.float64).min


@pytest.mark.parametrize("mask", [causal(), sliding_window(9), sliding_window(3), causal() & documents(ONE)])
@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("keep", [KEEP, torch.cat([KEEP, KEEP], 1), None])
def test_a_step_of_decoding_has_the_mask_that_its_patterns_say(mask: Mask, first: int, keep: Tensor | None) -> None:
    geometry = Geometry(2, 1, 6 - first, 5, first)
    made = MaskCarrier(mask, keep, geometry, CPU).prepared(4)
    expected = prepare(mask if keep is None else mask & padding(keep), geometry)
    assert torch.equal(made.dense().expand(geometry.shape), expected.dense().expand(geometry.shape))
    for name in ("causal_or_dense", "additive", "dense_or_additive"):
        found, wanted = (each.lower(name, dtype=torch.float32) for each in (made, expected))
        assert_same(found, wanted, geometry.shape)


def assert_same(found: Any, wanted: Any, shape: tuple[int, ...]) -> None:
    if isinstance(wanted, tuple):
        assert found[1:] == wanted[1:]
        found, wanted = found[0], wanted[0]
    assert (found is None) is (wanted is None)
    if found is not None:
        assert torch.equal(found.expand(shape), wanted.expand(shape))


COMPUTATIONS: dict[str, Callable[[Any], Any]] = {
    "indexing": lambda mask: mask[:, :, -1:],
    "assignment": lambda mask: mask.__setitem__(0, 1),
    "sum": lambda mask: mask + 1,
    "sum from the left": lambda mask: 1 + mask,
    "product with a tensor": lambda mask: torch.ones(2, 1, 4, 6) * mask,
    "difference": lambda mask: 1.0 - mask,
    "negation": lambda mask: ~mask,
    "conjunction": lambda mask: torch.ones(2, 1, 4, 6).bool() & mask,
    "comparison": lambda mask: mask > 0,
    "equality with a number": lambda mask: mask == 0,
    "inequality with a number": lambda mask: mask != 0,
    "truth": bool,
    "length": len,
    "iteration": list,
    "a method of tensors": lambda mask: mask.expand(2, 8, 4, 6),
    "a property of tensors": lambda mask: mask.T,
    "a function of torch": lambda mask: torch.where(mask, 0.0, -1.0),
    "concatenation": lambda mask: torch.cat([torch.ones(2, 1, 4, 1), mask], -1),
    "another attention": lambda mask: functional.scaled_dot_product_attention(HEADS, HEADS, HEADS, mask),
}


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_computing_with_it_is_refused_with_the_models_name(name: str) -> None:
    with pytest.raises(UnsupportedFeature, match=r"the mask of tinymodel must be passed on .*'eager' or 'sdpa'"):
        COMPUTATIONS[name](carrier())


def test_having_no_method_of_tensors_is_said_to_those_who_ask() -> None:
    assert not hasattr(carrier(), "expand")
    assert issubclass(OpaqueMaskError, AttributeError)
    with pytest.raises(AttributeError, match="'MaskCarrier' object has no attribute 'nothing_that_tensors_have'"):
        _ = carrier().nothing_that_tensors_have


def test_it_is_equal_to_itself_alone() -> None:
    mask = carrier()
    assert mask == mask
    assert mask != carrier()
    assert mask != "text"
    assert len({mask, mask}) == 1
    assert mask is not None


def test_a_model_whose_indexer_scores_every_pair_may_look_inside() -> None:
    assert torch.equal(carrier(may_be_sliced=True)[:, 0, :, :], carrier().tensor("dense")[:, 0])


def test_all_layers_are_given_one_prepared_mask() -> None:
    mask = carrier()
    assert mask.prepared(4) is mask.prepared(8) is mask.prepared(4, as_pattern=True)


def test_a_plain_function_may_say_something_else_of_each_head() -> None:
    mask = carrier(Mask(lambda b, h, q, kv: kv <= q + h), None)
    assert mask.prepared(2) is mask.prepared(2)
    seen = mask.prepared(2).dense()
    assert torch.equal(seen[:, 0], causal_of(0)) and torch.equal(seen[:, 1], causal_of(1))  # noqa: PT018


def causal_of(shift: int) -> Tensor:
    return (torch.arange(6) <= torch.arange(2, 6)[:, None] + shift)[None]


def test_a_tensor_made_in_advance_is_used_but_where_a_pattern_is_asked_for() -> None:
    mask = carrier().made_dense(4)
    given = mask.prepared(4).given
    assert given is not None
    assert torch.equal(given.expand(2, 1, 4, 6), carrier().tensor("dense"))
    assert mask.prepared(4, as_pattern=True).given is None


@pytest.mark.parametrize(
    ("mask", "packed"), [(causal(), False), (causal() & documents(torch.zeros(2, 6).long()), True)]
)
def test_packed_sequences_are_known(mask: Mask, packed: bool) -> None:
    assert carrier(mask).is_packed is packed


def test_it_prints_as_its_mask() -> None:
    assert re.match(r"MaskCarrier\(causal\(\) & padding\(keep=bool\[2, 6\]\), Geometry\(.*\)\)$", repr(carrier()))


def test_on_another_device_it_says_the_same() -> None:
    parts = causal() & ~(sliding_window(3) | documents(torch.arange(6)[None].expand(2, -1) // 3))
    mask = MaskCarrier(parts, KEEP, Geometry(2, 4, 6, torch.tensor(2)), CPU, model="m")
    moved = mask.to("meta")
    assert moved.device.type == moved.keep.device.type == moved.geometry.q_offset.device.type == "meta"  # type: ignore[union-attr]
    assert repr(moved.mask) == repr(mask.mask)
    assert moved.to(torch.empty(0, device="meta")) is moved


def test_a_plain_function_cannot_be_moved() -> None:
    with pytest.raises(UnsupportedFeature, match="a mask must be built of patterns to be sent to meta, got Mask"):
        carrier(Mask(lambda b, h, q, kv: kv <= q), None).to("meta")


def test_a_bound_that_is_none_stays_none() -> None:
    from headstock.integrations.transformers.reading.patterns import Distance

    assert Distance(-MOST, 3).band() == (None, 3)

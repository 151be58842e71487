"""Several blocks of 128, as they are used, under masks of long contexts: values and gradients of eager."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import AttentionOutput, alibi, attend, relative_buckets, relative_table
from headstock.masks import Geometry, PreparedMask, causal, prepare, sliding_window
from tests.support.blocked import some
from tests.support.devices import moved, on_each_device
from tests.support.long_masks import long_compositions, long_geometries, long_patterns


class Call(NamedTuple):
    """A mask, the number of key heads, and the features with the function that makes a bias of its numbers."""

    mask: PreparedMask
    kv_heads: int
    softcap: float | None
    sinks: Tensor | None
    bias: Tensor | None
    form: Callable[[Tensor], Any]


@st.composite
def _calls(draw: st.DrawFn) -> Call:
    extent = draw(long_geometries(least=100, most=420))
    groups, kv_heads = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]))
    batch, queries, keys, heads = extent.batch_size, extent.q_length, extent.kv_length, groups * kv_heads
    geometry = Geometry(batch, queries, keys, extent.q_offset, extent.kv_offset, heads)
    mask = draw(st.one_of(long_patterns(geometry), long_compositions(geometry)))
    kinds: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Any]]] = {
        "by key": ((keys,), _itself),
        "by query": ((queries, 1), _itself),
        "dense": ((heads, queries, keys), _itself),
        "alibi": ((heads,), alibi),
        "table": ((1, 41), relative_table),
        "buckets": ((16, heads), relative_buckets),
    }
    shape, form = kinds[draw(st.sampled_from(sorted(kinds)))]
    return Call(
        prepare(mask, geometry),
        kv_heads,
        softcap=draw(st.sampled_from([None, 5.0])),
        sinks=torch.randn(heads, dtype=torch.float64) if draw(st.booleans()) else None,
        bias=torch.randn(shape, dtype=torch.float64) if draw(st.booleans()) else None,
        form=form,
    )


def _itself(bias: Tensor) -> Tensor:
    return bias


def _run(name: str, call: Call, tensors: list[Tensor]) -> list[Tensor]:
    """The results of a call and every gradient."""
    leaves = [each.detach().requires_grad_() for each in tensors]
    sinks, bias = (None if each is None else each.detach().requires_grad_() for each in (call.sinks, call.bias))
    found: AttentionOutput = attend(
        *leaves,
        mask=call.mask,
        softcap=call.softcap,
        sinks=sinks,
        bias=None if bias is None else call.form(bias),
        implementation=name,
        return_lse=True,
    )
    assert found.log_sum_exp is not None
    upstream = torch.randn(found.output.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    upstream = upstream.to(found.output.device)
    finite = found.log_sum_exp[found.log_sum_exp.isfinite()]
    learned = leaves + [each for each in (sinks, bias) if each is not None]
    gradients = torch.autograd.grad((found.output * upstream).sum() + finite.sin().sum(), learned)
    return [found.output, found.log_sum_exp, *gradients]


@on_each_device
@given(call=_calls())
@settings(max_examples=some(3))
def test_masks_of_long_contexts(device: str, call: Call) -> None:
    batch, heads, queries, keys = call.mask.geometry.shape
    shapes = ((batch, heads, queries, 4), (batch, call.kv_heads, keys, 4), (batch, call.kv_heads, keys, 3))
    tensors = moved([torch.randn(shape, dtype=torch.float64) for shape in shapes], device)
    call = moved(call, device)
    for expected, found in zip(*(_run(name, call, tensors) for name in ("eager", "blocked")), strict=True):
        # A sum of that many terms, none of which is larger than the largest sum by more than their number.
        largest = expected[expected.isfinite()].abs().sum().item() + 1.0
        limit = batch * heads * max(queries, keys) * torch.finfo(torch.float64).eps * largest
        torch.testing.assert_close(found, expected, rtol=0.0, atol=limit)


@on_each_device
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_the_exact_result_as_eager(dtype: torch.dtype, device: str) -> None:
    tensors = moved([torch.randn(2, heads, 300, 32).to(dtype) for heads in (4, 2, 2)], device)
    mask = prepare(causal() & sliding_window(140), Geometry(2, 300, 300, heads=4))
    call = moved(Call(mask, 2, softcap=20.0, sinks=torch.randn(4).to(dtype), bias=None, form=_itself), device)
    exact = _run("eager", call._replace(sinks=call.sinks.double()), [each.double() for each in tensors])  # type: ignore[union-attr]
    for one, other in zip(exact, _run("blocked", call, tensors), strict=True):
        # Rounded once: half a unit of each number; a gradient reads the output, whose rounding is half a unit too,
        # in as many products as it has terms; sums of them are as large as the largest gradient.
        unit = torch.finfo(dtype).eps / 2
        assert other.isfinite().all()
        assert (other.double() - one).abs().max() <= 4 * unit * one.abs().max()


def test_gradients_are_those_of_differences() -> None:
    mask = causal() & sliding_window(3)
    leaves = [torch.randn(1, heads, 6, 3, dtype=torch.float64).requires_grad_() for heads in (2, 1, 1)]
    sinks, slopes = torch.randn(2, 2, dtype=torch.float64).requires_grad_().unbind()

    def function(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        found: AttentionOutput = attend(
            query,
            key,
            value,
            mask=mask,
            sinks=sinks,
            bias=alibi(slopes),
            softcap=2.0,
            implementation="blocked",
            return_lse=True,
        )
        assert found.log_sum_exp is not None
        return found.output, found.log_sum_exp

    given_tensors = (*leaves, sinks.detach().requires_grad_(), slopes.detach().requires_grad_())
    assert torch.autograd.gradcheck(function, given_tensors, fast_mode=True)

"""torch's fused kernels give what the products do, and serve a call only where they compute all of it."""

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from headstock.attention import attend
from headstock.attention.blocked import backward, forward, fused
from headstock.masks import causal, documents, first_tokens, padding, sliding_window
from tests.support.attention_cases import Case, attention_cases
from tests.support.blocked import Steps, leaves_of, run_in_steps, small, some, steps

MASKS = {
    "window": causal() & sliding_window(60),
    "joined rows": documents(torch.arange(300)[None].expand(2, -1) // 130),
    "two spans": causal() & (sliding_window(40) | first_tokens(4)),
    "empty rows": ~causal() & sliding_window(9, right=20) & ~first_tokens(280),
}


def _output_and_gradients(case: Case, chosen: Steps) -> dict[str, Tensor]:
    """By the gradient of the output alone: with one of the log-sum-exp the kernel does not serve."""
    leaves = leaves_of(case, torch.float64)
    with small(chosen):
        output = run_in_steps(case, leaves, chosen).output
        generator = torch.Generator().manual_seed(0)
        upstream = torch.randn(output.shape, generator=generator, dtype=output.dtype)
        found = torch.autograd.grad(output, list(leaves.values()), upstream)
    return {"output": output.detach(), **dict(zip(leaves, found, strict=True))}


LONG_MASKS = {
    "a triangle": causal() & padding((torch.arange(1300) >= 256).expand(2, -1)),
    "a triangle beside a block that is hidden in part": causal() & padding((torch.arange(1300) >= 100).expand(2, -1)),
    "triangles in rows of their own": causal()
    & documents(torch.stack([torch.arange(1300) // 1100, torch.arange(1300) // 1280])),
    "a band in half steps": causal() & sliding_window(256),
    "a band that sees ahead": sliding_window(100, right=100),
}


@pytest.mark.parametrize("name", LONG_MASKS)
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_long_causal_and_banded_masks(name: str, kv_heads: int) -> None:
    """What the kernel computes by its own causal mask, and in strips of half a block."""
    query, key, value = (torch.randn(2, heads, 1300, 8, dtype=torch.float64) for heads in (4, kv_heads, kv_heads))
    leaves = [each.requires_grad_() for each in (query, key, value)]
    upstream = torch.randn_like(query)
    results = {}
    for implementation in ("eager", "blocked"):
        output = attend(*leaves, implementation=implementation, mask=LONG_MASKS[name])
        results[implementation] = [output, *torch.autograd.grad(output, leaves, upstream)]
    torch.testing.assert_close(results["blocked"], results["eager"])


@given(case=attention_cases(longest=12, features=("sinks", "bias")), chosen=steps())
@settings(max_examples=some(1))
def test_the_kernels_and_the_products_agree(case: Case, chosen: Steps) -> None:
    found = _output_and_gradients(case, chosen)
    with mock.patch.multiple(fused, _KERNEL=None, _BACKWARD=None):
        expected = _output_and_gradients(case, chosen)
    for name, each in expected.items():
        torch.testing.assert_close({name: found[name]}, {name: each})


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("with_sinks", [False, True], ids=["", "sinks"])
def test_output_and_gradients_are_those_of_eager(name: str, with_sinks: bool) -> None:
    tensors = [torch.randn(2, heads, 300, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    leaves = [each.requires_grad_() for each in (*tensors, torch.randn(4, dtype=torch.float64))]
    upstream = torch.randn(2, 4, 300, 8, dtype=torch.float64)
    options: dict[str, Any] = {"mask": MASKS[name], "sinks": leaves[3] if with_sinks else None}
    wanted = leaves if with_sinks else leaves[:3]
    results = {}
    for implementation in ("eager", "blocked"):
        output = attend(leaves[0], leaves[1], leaves[2], implementation=implementation, **options)
        results[implementation] = [output, *torch.autograd.grad(output, wanted, upstream)]
    torch.testing.assert_close(results["blocked"], results["eager"])


@pytest.mark.parametrize(
    ("options", "there", "back"),
    [
        ({}, True, True),
        ({"sinks": torch.zeros(2)}, True, True),
        ({"bias": torch.zeros(200, 200)}, True, True),
        ({"bias": torch.zeros(200, 200, requires_grad=True)}, True, False),
        ({"bias": lambda _b, _h, q_idx, kv_idx: (q_idx - kv_idx) / 100}, True, True),
        ({"softcap": 3.0}, False, False),
        ({"dropout": 0.5}, False, False),
        ({"return_lse": True}, True, False),
        ({"value_dim": 5}, False, False),
    ],
    ids=["plain", "sinks", "bias", "learned bias", "function", "softcap", "dropout", "log-sum-exp", "value size"],
)
def test_the_kernels_serve_what_they_compute(options: dict[str, Any], there: bool, back: bool) -> None:
    query, key, value = torch.randn(3, 1, 2, 200, 8).requires_grad_()
    options = dict(options)
    value = value[..., : options.pop("value_dim", 8)]
    with (
        mock.patch.object(forward, "fused", wraps=fused.fused) as fused_forward,
        mock.patch.object(backward, "fused_backward", wraps=fused.fused_backward) as fused_backward,
    ):
        mask = causal() & sliding_window(50)
        found: Any = attend(query, key, value, mask=mask, implementation="blocked", **options)
        loss = found.sum() if isinstance(found, Tensor) else found.output.sum() + found.log_sum_exp.sum()
        loss.backward()
    assert (fused_forward.called, fused_backward.called) == (there, back)


def test_half_precision_is_computed_in_float32() -> None:
    query, key, value = torch.randn(3, 1, 2, 200, 8).bfloat16()
    with mock.patch.object(fused, "_KERNEL", wraps=fused._KERNEL) as kernel:
        attend(query, key, value, mask=causal() & sliding_window(50), implementation="blocked")
    assert kernel.called
    assert {tensor.dtype for call in kernel.call_args_list for tensor in call.args[:3]} == {torch.float32}

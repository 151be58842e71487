"""Sinks on top of a log-sum-exp."""

import math

import torch

from headstock.attention import AttentionOutput
from headstock.attention.eager import eager_attention
from headstock.attention.flash.sinks import with_sinks


def test_they_are_what_they_are_inside_of_the_softmax() -> None:
    query, key, value = torch.randn(3, 2, 3, 5, 8, dtype=torch.float64)
    sinks = torch.randn(3, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(5, 5, dtype=torch.bool).tril(-1)[None, None]
    found = with_sinks(eager_attention(query, key, value, mask, scaling=0.3), sinks)
    expected = eager_attention(query, key, value, mask, scaling=0.3, sinks=sinks)
    # Each result is computed from a few roundings of float64 in either way.
    torch.testing.assert_close(found.output, expected.output, rtol=0.0, atol=1e-14)
    torch.testing.assert_close(found.log_sum_exp, expected.log_sum_exp, rtol=0.0, atol=1e-14)
    gradients = [torch.autograd.grad(each.output.sum(), sinks)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0.0, atol=1e-13)


def test_a_row_that_sees_the_sink_alone() -> None:
    sinks = torch.tensor([0.5], requires_grad=True)
    empty = AttentionOutput(torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), -math.inf))
    found = with_sinks(empty, sinks)
    assert found.log_sum_exp is not None
    assert (found.output.tolist(), found.log_sum_exp.tolist()) == ([[[[0.0, 0.0]]]], [[[0.5]]])
    found.log_sum_exp.sum().backward()
    assert sinks.grad is not None
    assert sinks.grad.tolist() == [1.0]


def test_half_precision_is_rounded_once() -> None:
    output = torch.randn(1, 2, 3, 8).bfloat16()
    found = with_sinks(AttentionOutput(output, torch.randn(1, 2, 3)), torch.randn(2).bfloat16())
    assert found.output.dtype == torch.bfloat16


def test_without_a_log_sum_exp_there_is_nothing_to_do() -> None:
    result = AttentionOutput(torch.randn(1, 2, 3, 8))
    assert with_sinks(result, torch.randn(2)) is result

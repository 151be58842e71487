"""The dtypes that attention is computed in, and autocast as torch's own function takes it."""

import pytest
import torch
from torch import Tensor, nn

from headstock.attention import AttentionInterface, attend, call_attention
from headstock.attention.precision import accumulated, autocast_like_sdpa, autocasts, without_autocast
from headstock.masks import causal, padding
from tests.support.attention_functions import by_representation

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
CAST = [torch.bfloat16, torch.float16]
QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
KEEP = torch.tensor([[True, True, True, False, True], [False] * 5])


@pytest.mark.parametrize(
    ("dtype", "expected"), list(zip(DTYPES, [torch.float64, torch.float32, torch.float32, torch.float32], strict=True))
)
def test_sums_are_taken_in_float32_or_better(dtype: torch.dtype, expected: torch.dtype) -> None:
    assert accumulated(dtype) == expected


def test_autocast_is_seen_where_it_is_on() -> None:
    cpu, meta = torch.device("cpu"), torch.device("meta")
    assert not autocasts(cpu)
    with torch.autocast("cpu", torch.bfloat16):
        assert autocasts(cpu)
        assert not autocasts(meta)
        with without_autocast(cpu):
            assert not autocasts(cpu)
        with without_autocast(meta):
            assert autocasts(cpu)


@pytest.mark.parametrize("cast", CAST, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_rule_is_that_of_torch(dtype: torch.dtype, cast: torch.dtype) -> None:
    query, key, value = (tensor.to(dtype) for tensor in (QUERY, QUERY, QUERY))
    with torch.autocast("cpu", cast):
        expected = nn.functional.scaled_dot_product_attention(query, key, value).dtype
        assert {each.dtype for each in autocast_like_sdpa(query, key, value)} == {expected}
        for name in ("auto", "sdpa", "eager"):
            assert attend(query, key, value, implementation=name).dtype == expected
            output, _ = call_attention(AttentionInterface(), name, None, query, key, value, causal())
            assert output.dtype == expected
        weighted = attend(query, key, value, return_weights=True, return_lse=True)
        assert weighted.weights is not None
        assert weighted.log_sum_exp is not None
        assert (weighted.weights.dtype, weighted.log_sum_exp.dtype) == (expected, accumulated(expected))


@pytest.mark.parametrize("cast", CAST, ids=str)
@pytest.mark.parametrize("name", ["eager", "sdpa"])
@pytest.mark.parametrize("bias", [None, torch.randn(5, 5)])
def test_it_is_the_result_of_tensors_cast_before(name: str, cast: torch.dtype, bias: Tensor | None) -> None:
    mask = causal() & padding(KEEP)
    with torch.autocast("cpu", cast):
        found = attend(QUERY, KEY, VALUE, mask=mask, implementation=name, bias=bias)
    expected = attend(QUERY.to(cast), KEY.to(cast), VALUE.to(cast), mask=mask, implementation=name, bias=bias)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("cast", CAST, ids=str)
@pytest.mark.parametrize("name", ["eager", "sdpa", *by_representation])
@pytest.mark.parametrize("given", ["padding", "float"])
def test_empty_rows_stay_empty_and_their_gradients_zero(name: str, cast: torch.dtype, given: str) -> None:
    interface = AttentionInterface()
    interface.update(by_representation)
    mask = (
        padding(KEEP) if given == "padding" else torch.zeros(2, 1, 1, 5).masked_fill(~KEEP[:, None, None], -torch.inf)
    )
    leaves = [tensor.clone().requires_grad_() for tensor in (QUERY, KEY, VALUE)]
    with torch.autocast("cpu", cast):
        output = attend(*leaves, mask=mask, implementation=name, interface=interface)
    assert torch.equal(output[1], torch.zeros_like(output[1]))
    output.float().square().sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None
        assert torch.equal(leaf.grad[1], torch.zeros_like(leaf[1]))
        assert leaf.grad[0].abs().amax() > 0


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_dtypes_may_be_mixed(name: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = attend(QUERY, KEY.bfloat16(), VALUE.half(), implementation=name)
        expected = attend(QUERY.bfloat16(), KEY.bfloat16(), VALUE.half().bfloat16(), implementation=name)
    assert torch.equal(output, expected)

"""A plain function as a bias: what it means, and that no gradient is lost in silence."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.attention import FunctionBias, attend
from headstock.errors import InvalidComponent, UnsupportedFeature
from headstock.masks import Geometry, causal

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 3)
OFFSET = torch.tensor([2, 0])


def decays(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (j - i) * 0.5 ** (h + 1) + b


class Hiding:
    """Reads its parameter in a way that no code shows."""

    def __init__(self) -> None:
        self.slope = nn.Parameter(torch.randn(()))

    def __call__(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return getattr(self, "".join(["slo", "pe"])) * (j - i)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_equals_the_tensor_that_it_says(implementation: str) -> None:
    i = torch.arange(5)[:, None] + OFFSET[:, None, None, None]
    tensor = (torch.arange(7) - i) * 0.5 ** torch.arange(1, 5)[:, None, None] + torch.arange(2)[:, None, None, None]
    found, expected = (
        attend(QUERY, KEY, VALUE, mask=causal(), bias=bias, q_offset=OFFSET, implementation=implementation)
        for bias in (decays, tensor)
    )
    assert torch.equal(found, expected)


def test_dense_in_the_dtype_that_is_asked_for() -> None:
    geometry = Geometry(2, 3, 3, heads=2)
    bias = FunctionBias(lambda b, h, i, j: i - j)
    found = bias.dense(geometry, dtype=torch.bfloat16, device=None)
    assert found.dtype == torch.bfloat16
    assert found[0, 0].tolist() == [[0.0, -1.0, -2.0], [1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]
    assert FunctionBias(lambda b, h, i, j: j).dense(geometry, dtype=torch.float64, device=None).shape == (1, 1, 3, 3)


def test_equal_where_the_function_is_the_same() -> None:
    assert FunctionBias(decays) == FunctionBias(decays)
    assert hash(FunctionBias(decays)) == hash(FunctionBias(decays))
    assert FunctionBias(decays) != FunctionBias(lambda b, h, i, j: 0.0)
    assert repr(FunctionBias(decays)) == "FunctionBias(decays)"


def test_refuses_a_captured_parameter_before_it_is_called() -> None:
    slopes = torch.randn(4, requires_grad=True)

    def learned(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        raise AssertionError("called")

    def reads(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return learned(b, h, i, j) * slopes[h]

    with pytest.raises(UnsupportedFeature, match=r"FunctionBias\(reads\) must read no .* got 'slopes', which requires"):
        attend(QUERY, KEY, VALUE, bias=reads)
    with torch.no_grad(), pytest.raises(UnsupportedFeature, match=r"or detach\(\) what is not to be learned"):
        attend(QUERY, KEY, VALUE, bias=reads)


@pytest.mark.parametrize("recording", [True, False])
def test_refuses_a_result_that_requires_a_gradient(recording: bool) -> None:
    with (
        torch.set_grad_enabled(recording),
        pytest.raises(UnsupportedFeature, match=r"must read no tensor .* got a result that requires one; pass the"),
    ):
        attend(QUERY, KEY, VALUE, bias=Hiding())


def test_detached_parameters_serve() -> None:
    slopes = torch.randn(4, requires_grad=True)
    detached = slopes.detach()
    found = attend(QUERY, KEY, VALUE, bias=lambda b, h, i, j: detached[h] * j)
    assert torch.equal(found, attend(QUERY, KEY, VALUE, bias=detached[:, None, None] * torch.arange(7)))


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda b, h, i: i, r"must be \(batch_idx, head_idx, q_idx, kv_idx\) -> number, got <lambda>\(b, h, i\); take"),
        (3.0, r"a bias function must be .*, got 3.0; pass a tensor as it is"),
    ],
)
def test_refuses_what_takes_no_four_indices(function: Any, text: str) -> None:
    with pytest.raises(InvalidComponent, match=text):
        FunctionBias(function)


def test_a_built_in_without_a_signature_is_called() -> None:
    with pytest.raises(InvalidComponent, match="the bias function max must answer for 0-dim index tensors"):
        FunctionBias(max).dense(Geometry(1, 2, 2), dtype=torch.float32, device=None)


def test_refused_in_compiled_code() -> None:
    def forward(query: Tensor) -> Tensor:
        return attend(query, KEY, VALUE, bias=decays)

    text = "a bias in compiled code must be a tensor or a parametric form .* got a plain function"
    with pytest.raises(torch._dynamo.exc.Unsupported, match=text):
        torch.compile(forward, fullgraph=True, backend="eager")(QUERY)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=text):
        torch.compile(FunctionBias(decays).at, fullgraph=True, backend="eager")(*torch.ones(4, 1, 1, 1, 1).long())

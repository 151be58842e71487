"""Every form of a bias at once with every mask: what eager adds, and its gradients."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import FunctionBias, attend
from headstock.attention.blocked.distances import _diagonal_sums
from headstock.errors import UnsupportedFeature
from headstock.masks import causal, sliding_window
from tests.support.attention_cases import Case, attention_cases
from tests.support.blocked import Steps, geometry_of, leaves_of, run_in_steps, small, some, steps


def _by_all(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (i - 2 * j) / 7 + h * 0.3 - b


def _by_key(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (j % 3) * 0.5


def _scalar(b: Any, h: Any, i: Any, j: Any) -> Any:
    return 0.25 if not isinstance(j, Tensor) else torch.where(j > 3, 1.0, h * 0.5).double()


def _by_query_and_head(b: Any, h: Any, i: Any, j: Any) -> Any:
    return torch.sin(i.double()) * (h + 1)


FUNCTIONS = st.sampled_from([_by_all, _by_key, _scalar, _by_query_and_head])


@given(
    case=attention_cases(longest=9, dtypes=(torch.float64,), features=("sinks", "softcap")),
    function=FUNCTIONS,
    chosen=steps(),
)
@settings(max_examples=some(5))
def test_a_plain_function_is_the_tensor_of_what_it_says(case: Case, function: Any, chosen: Steps) -> None:
    form, geometry = FunctionBias(function), geometry_of(case)
    (batch, heads, queries, keys), found = geometry.shape, []
    dense = form.dense(geometry, dtype=torch.float64, device=None).expand(batch, heads, queries, keys)
    for given_form in (form, None):
        leaves = leaves_of(case)
        learned = list(leaves.values())
        if given_form is None:
            leaves["bias"] = dense
        with small(chosen):
            result = run_in_steps(case, leaves, chosen, form=given_form)
            assert result.log_sum_exp is not None
            finite = result.log_sum_exp.isfinite()
            total = result.output.square().sum() + result.log_sum_exp[finite].sum()
            found.append((result.output, result.log_sum_exp, *torch.autograd.grad(total, learned)))
    torch.testing.assert_close(found[0], found[1])


@given(
    case=attention_cases(longest=9, dtypes=(torch.float64,), masks=("float",)),
    chosen=steps(),
)
@settings(max_examples=some(5))
def test_a_float_mask_has_the_gradient_that_eager_gives_it(case: Case, chosen: Steps) -> None:
    assert isinstance(case.mask, Tensor)
    found = []
    for name in ("eager", "blocked"):
        hidden = case.mask <= torch.finfo(case.mask.dtype).min
        leaves, mask = leaves_of(case), case.mask.double().masked_fill(hidden, -torch.inf).requires_grad_()
        learned = Case(case.inputs, mask, case.q_offset)
        with small(chosen):
            if name == "blocked":
                output = run_in_steps(learned, leaves, chosen).output
            else:
                given: dict[str, Any] = {each: leaves[each] for each in ("sinks", "bias") if each in leaves}
                operands = (leaves["query"], leaves["key"], leaves["value"])
                output = attend(*operands, implementation="eager", **(learned.keywords() | given))
            found.append(torch.autograd.grad(output.square().sum(), [mask, *leaves.values()]))
    torch.testing.assert_close(found[1], found[0])


SHAPES = [(300,), (1, 300), (300, 1), (1, 1), (4, 300, 300), (4, 1, 300), (1, 300, 1), (2, 1, 1, 300), (1, 4, 300, 1)]
SHAPES += [(2, 4, 300, 300), (2, 1, 300, 300), (1, 1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_bias_of_each_shape_in_several_blocks(shape: tuple[int, ...]) -> None:
    tensors = [torch.randn(2, heads, 300, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    found = []
    for name in ("eager", "blocked"):
        leaves = [each.clone().requires_grad_() for each in tensors]
        torch.manual_seed(1)
        bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        output = attend(*leaves, mask=causal() & sliding_window(100), bias=bias, softcap=3.0, implementation=name)
        found.append((output, *torch.autograd.grad(output.square().sum(), [*leaves, bias])))
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("rows", [1, 5, 127, 128, 129, 400])
@pytest.mark.parametrize("keys", [1, 3, 128, 200])
def test_the_sums_of_diagonals(rows: int, keys: int) -> None:
    values = torch.randn(2, 3, rows, keys, dtype=torch.float64)
    expected = [values.diagonal(offset, 2, 3).sum(-1) for offset in range(1 - rows, keys)]
    torch.testing.assert_close(_diagonal_sums(values), torch.stack(expected, -1))


def test_a_function_that_reads_what_is_learned_is_refused() -> None:
    slope = torch.ones((), requires_grad=True)
    query = torch.randn(1, 1, 5, 4)
    with pytest.raises(UnsupportedFeature, match="must read no tensor that requires a gradient"):
        attend(query, query, query, bias=lambda b, h, i, j: slope * (j - i), implementation="blocked")

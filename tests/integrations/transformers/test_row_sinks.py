"""Sinks of each query: one more logit in the softmax of a row, without a value."""

import re
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from benchmarks.breadth import cases, check
from headstock.attention.contract import AttentionOutput
from headstock.errors import InvalidShape
from headstock.integrations.transformers.attending import attention_function
from headstock.integrations.transformers.carrier import MaskCarrier
from headstock.integrations.transformers.masking import mask_function
from headstock.integrations.transformers.row_sinks import checked_row_sinks, with_row_sinks
from tests.support.transformers_attention import difference, with_headstock

BATCH, HEADS, QUERIES, KEYS = 2, 4, 3, 7
KEEP = torch.tensor([[1] * KEYS, [0] * KEYS])  # the second row sees nothing


@pytest.fixture(autouse=True, scope="module")
def _installed() -> Iterator[None]:
    with with_headstock():
        yield


def operands(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Query, key, value and sinks, which want gradients."""
    sizes = (HEADS, QUERIES, 8), (HEADS, KEYS, 8), (HEADS, KEYS, 8), (HEADS, QUERIES, 1)
    return [torch.randn(BATCH, *size, dtype=dtype, requires_grad=True) for size in sizes]


def masked() -> MaskCarrier:
    """Causal, and a row of padding alone."""
    mask = mask_function(BATCH, QUERIES, KEYS, KEYS - QUERIES, attention_mask=KEEP)
    assert isinstance(mask, MaskCarrier)
    return mask


def by_definition(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    scores = (query @ key.mT).masked_fill(~seen, -torch.inf)
    weights = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
    return (weights @ value).transpose(1, 2), weights


@pytest.mark.parametrize("name", ["eager", "blocked", "auto"])
def test_output_and_gradients_are_those_of_the_definition(name: str) -> None:
    tensors = operands()
    mask = masked()
    query, key, value, sinks = tensors
    found, _ = attention_function(name, name)(torch.nn.Module(), query, key, value, mask, scaling=1.0, sinks=sinks)
    wanted, _ = by_definition(query, key, value, sinks, mask.tensor("dense"))
    weight = torch.randn_like(wanted)
    for one, other in zip(
        [found, *torch.autograd.grad((found * weight).sum(), tensors)],
        [wanted, *torch.autograd.grad((wanted * weight).sum(), tensors)],
        strict=True,
    ):
        assert difference(one.detach(), other.detach()) < 1e-12  # some ten roundings of 1e-16 in each of seven terms


def test_weights_shrink_too() -> None:
    query, key, value, sinks = operands()
    mask = masked()
    asked = {"scaling": 1.0, "s_aux": sinks, "output_attentions": True}
    found = attention_function("eager", "eager")(torch.nn.Module(), query, key, value, mask, **asked)
    wanted = by_definition(query, key, value, sinks, mask.tensor("dense"))
    for one, other in zip(found, wanted, strict=True):
        assert one is not None
        assert difference(one.detach(), other.detach()) < 1e-12


@pytest.mark.filterwarnings("ignore")  # of configurations with sizes that nobody uses
def test_the_architecture_that_has_them_says_what_it_says_with_eager() -> None:
    found = cases(["causal"], ["inkling2_text"])
    if not found:
        pytest.skip("this transformers has no inkling2_text")
    (case,) = found
    verdict = check(case, "headstock")
    assert (verdict.outcome, verdict.layers) == ("equal", 2), verdict.reason


def test_other_dimensions_and_a_missing_log_sum_exp_are_refused() -> None:
    query, _, _, sinks = operands()
    with pytest.raises(
        InvalidShape, match=re.escape("must be [batch, heads, queries, 1] [2, 4, 3, 1], got [2, 4, 2, 1]")
    ):
        checked_row_sinks(sinks[:, :, :2], query)
    with pytest.raises(InvalidShape, match="must come with its log-sum-exp, got none"):
        with_row_sinks(AttentionOutput(query), sinks)

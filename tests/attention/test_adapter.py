"""The table's form of headstock's own functions, called as transformers' models call theirs."""

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from headstock.attention import ALL_ATTENTION_FUNCTIONS, attend, contract_of, eager_attention, sdpa_attention
from headstock.masks import Geometry, causal, padding, prepare
from headstock.registry import declaration_of

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 3)
KEEP = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)


class _Layer(nn.Module):
    is_causal = True
    num_key_value_groups = 2


@pytest.mark.parametrize("name", ["eager", "sdpa"])
@pytest.mark.parametrize(
    "mask",
    [
        None,
        causal(),
        padding(KEEP),
        prepare(causal(), Geometry(2, 5, 5, heads=4)),
        KEEP[:, None, None],
        torch.randn(5, 5),
    ],
    ids=["none", "causal", "padding", "prepared", "boolean", "float"],
)
def test_it_is_attend_in_the_layout_of_the_table(name: str, mask: Any) -> None:
    output, weights = ALL_ATTENTION_FUNCTIONS[name](_Layer(), QUERY, KEY, VALUE, mask, scaling=0.3, position_ids=KEEP)
    expected = attend(QUERY, KEY, VALUE, mask=mask, implementation=name, scaling=0.3)
    assert torch.equal(output, expected.transpose(1, 2))
    assert output.is_contiguous()
    assert weights is None


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_causality_is_not_read_off_the_module(name: str) -> None:
    function = ALL_ATTENTION_FUNCTIONS[name]
    full, _ = function(_Layer(), QUERY, KEY, VALUE, None)
    assert torch.equal(full, function(nn.Module(), QUERY, KEY, VALUE, None)[0])
    causal_output, _ = function(_Layer(), QUERY, KEY, VALUE, None, is_causal=True)
    assert torch.equal(causal_output, function(_Layer(), QUERY, KEY, VALUE, causal())[0])
    assert not torch.equal(causal_output, full)


def test_names_arguments_as_transformers_does() -> None:
    arguments = {"module": _Layer(), "query": QUERY, "key": KEY, "value": VALUE, "attention_mask": None}
    output, weights = ALL_ATTENTION_FUNCTIONS["eager"](**arguments, output_attentions=True, s_aux=torch.randn(4))
    assert output.shape == (2, 5, 4, 3)
    assert weights is not None
    assert weights.shape == (2, 4, 5, 5)


@pytest.mark.parametrize(("name", "core"), [("eager", eager_attention), ("sdpa", sdpa_attention)])
def test_it_knows_its_core_and_looks_like_a_function_of_the_table(name: str, core: Any) -> None:
    function: Any = ALL_ATTENTION_FUNCTIONS[name]
    assert contract_of(function).core is core
    assert function.__name__ == name
    assert function.__doc__ == core.__doc__
    assert list(inspect.signature(function).parameters)[:5] == ["module", "query", "key", "value", "attention_mask"]
    assert declaration_of(function) is not None

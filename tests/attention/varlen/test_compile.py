"""varlen and flash attention in graphs: one program for all lengths, over the operators that kernels are."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from headstock import attend
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, Mask, PreparedMask, causal, documents, padding, prepare, sliding_window
from tests.support.flash_cases import entry_on_cpu, interface_of
from tests.support.packed_operator import packed, varlen_of_operator
from tests.support.varlen_entry import entry

WINDOW = causal() & sliding_window(4)
TABLES = {"varlen": interface_of("mine", entry()), "flash": interface_of("mine", entry_on_cpu(2))}


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    softmax_scale: Any = None,
    causal: bool = False,
    window_size: Any = (-1, -1),
) -> Tensor:
    """As of flash-attn 2, over an operator."""
    left, right = window_size
    result: Tensor = packed(q, k, v, cu_seqlens_q, cu_seqlens_k, softmax_scale, left, 0 if causal else right)
    return result


@pytest.fixture(autouse=True)
def _operators(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("flash_attn")
    vars(module).update(__version__="2.8.3", flash_attn_varlen_func=flash_attn_varlen_func)
    monkeypatch.setitem(sys.modules, "flash_attn", module)
    # Where it is that its operators are looked for.
    monkeypatch.setattr(sys.modules[__name__], "_flash_attn_forward", packed, raising=False)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_of_operator)


def call(query: Tensor, key: Tensor, mask: Mask | PreparedMask | None, name: str) -> Any:
    return attend(query, key, key, mask=mask, implementation="mine", interface=TABLES[name])


@pytest.mark.parametrize("name", sorted(TABLES))
@pytest.mark.parametrize(
    "mask", [pytest.param(None, marks=pytest.mark.slow), pytest.param(causal(), marks=pytest.mark.slow), WINDOW]
)
def test_one_graph_serves_every_length(name: str, mask: Mask | None) -> None:
    counter = CompileCounter()
    compiled = torch.compile(call, fullgraph=True, backend=counter)
    for length in (16, 17, 31):
        query, key = torch.randn(2, 4, length, 8), torch.randn(2, 2, length, 8)
        expected = call(query, key, mask, name)
        # The same operator over the same numbers.
        torch.testing.assert_close(compiled(query, key, mask, name), expected, rtol=0.0, atol=0.0)
    assert counter.frame_count <= 2


@pytest.mark.parametrize("name", [pytest.param("flash", marks=pytest.mark.slow), "varlen"])
def test_lengths_that_are_data_are_prepared_outside(name: str) -> None:
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    query, key = torch.randn(2, 4, 20, 8), torch.randn(2, 2, 20, 8)
    ids = (torch.arange(20) // 6)[None].expand(2, -1)
    keep = torch.arange(20) < torch.tensor([12, 20])[:, None]
    for mask in (causal() & documents(ids), causal() & padding(keep)):
        prepared = prepare(mask, Geometry(2, 20, 20))
        prepared.varlen_parts()
        expected = call(query, key, prepared, name)
        torch.testing.assert_close(compiled(query, key, prepared, name), expected, rtol=0.0, atol=0.0)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"be read before compiling"):
        compiled(query, key, causal() & documents(ids), name)


def test_a_version_without_operators_is_refused_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "_flash_attn_forward", None)
    # Its module is another one to who has read it before.
    monkeypatch.setitem(sys.modules, "flash_attn", sys.modules["flash_attn"].__class__("flash_attn"))
    vars(sys.modules["flash_attn"]).update(flash_attn_varlen_func=flash_attn_varlen_func)
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    query = torch.randn(1, 2, 8, 8)
    with pytest.raises(
        (UnsupportedFeature, torch._dynamo.exc.Unsupported), match=r"does not work inside of compiled code \(flash_attn"
    ):
        compiled(query, query, None, "flash")

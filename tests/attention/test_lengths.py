"""Attention compiled once for every length, and exported."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend

from headstock.attention import AttentionInterface, attend
from headstock.masks import Mask, causal, padding
from tests.support.attention_functions import by_representation

INTERFACE = AttentionInterface()
INTERFACE.update(by_representation)
MASKS: dict[str, Mask | None] = {
    "none": None,
    "causal": causal(),
    "padding": causal() & padding(torch.rand(2, 64) < 0.7),
}


def _forward(name: str, mask: Mask | None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return lambda query, key, value: attend(query, key, value, mask=mask, implementation=name, interface=INTERFACE)


def _tensors(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    key, value = torch.randn(2, 2, 2, keys, 8)
    return torch.randn(2, 4, queries, 8), key, value


@pytest.mark.parametrize("name", ["sdpa", "eager", "additive"])
@pytest.mark.parametrize("mask", list(MASKS))
def test_one_graph_serves_every_length(name: str, mask: str) -> None:
    forward, counter = _forward(name, MASKS[mask]), CompileCounterWithBackend("eager")
    compiled = torch.compile(forward, fullgraph=True, backend=counter, dynamic=True)
    for queries, keys in ((5, 7), (6, 9), (3, 50), (17, 17), (2, 31)):
        tensors = _tensors(queries, keys)
        torch.testing.assert_close(compiled(*tensors), forward(*tensors))
    # A square and a rectangle may differ: the fused kernels make a causal mask of their own in one of them.
    assert counter.frame_count <= (2 if mask == "causal" else 1)


@pytest.mark.parametrize("name", ["sdpa", "eager"])
@pytest.mark.parametrize("mask", list(MASKS))
def test_lengths_that_are_marked_dynamic_stay_so(name: str, mask: str) -> None:
    forward, tensors = _forward(name, MASKS[mask]), _tensors(5, 9)
    for tensor in tensors:
        torch._dynamo.mark_dynamic(tensor, 2)  # raises where the length becomes a constant of the graph
    compiled = torch.compile(forward, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*tensors), forward(*tensors))


@pytest.mark.parametrize("name", ["sdpa", "eager", "additive"])
def test_decoding_compiles_twice_at_most(name: str) -> None:
    forward, counter = _forward(name, causal()), CompileCounterWithBackend("eager")
    compiled = torch.compile(forward, fullgraph=True, backend=counter)
    for keys in range(4, 16):
        tensors = _tensors(1, keys)
        torch.testing.assert_close(compiled(*tensors), forward(*tensors))
    assert counter.frame_count <= 2


@pytest.mark.parametrize("name", ["sdpa", "eager", "additive"])
def test_an_exported_program_serves_every_length(name: str) -> None:
    class Module(nn.Module):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, keep: Tensor) -> Tensor:
            return _forward(name, causal() & padding(keep))(query, key, value)

    length = torch.export.Dim("length", min=2, max=64)
    shapes = ({2: length}, {2: length}, {2: length}, {1: length})
    example = (*_tensors(5, 5), torch.ones(2, 5, dtype=torch.bool))
    exported = torch.export.export(Module(), example, dynamic_shapes=shapes).module()
    for queries in (2, 9, 64):
        inputs = (*_tensors(queries, queries), torch.rand(2, queries) < 0.7)
        torch.testing.assert_close(exported(*inputs), Module()(*inputs))

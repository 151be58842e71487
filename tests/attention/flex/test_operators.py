"""In a graph, flex_attention on the CPU is one operator: under torch.compile and in an exported program."""

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported

from headstock import attend
from headstock.attention import alibi, alibi_slopes
from headstock.masks import Geometry, Mask, causal, sliding_window
from tests.support.flex import assert_is_attention, graphs, traced_only

HEADS = 4
MASK = causal() & sliding_window(50)
BIAS = alibi(alibi_slopes(HEADS))
Operands = tuple[Tensor, Tensor, Tensor]


class _Model(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, sinks: Tensor) -> Tensor:
        return attend(
            query, key, value, mask=MASK, softcap=4.0, bias=BIAS, sinks=sinks, implementation="flex_attention"
        )


def _operands(queries: int, keys: int) -> Operands:
    return torch.randn(2, HEADS, queries, 8), torch.randn(2, 2, keys, 8), torch.randn(2, 2, keys, 8)


def _assert_right(found: Tensor, operands: Operands, sinks: Tensor) -> None:
    queries, keys = operands[0].shape[2], operands[1].shape[2]
    bias = BIAS.dense(Geometry(2, queries, keys, keys - queries, heads=HEADS), dtype=torch.float32, device=None)
    assert_is_attention(found, *operands, mask=MASK, softcap=4.0, bias=bias, sinks=sinks)


def test_a_compiled_model_is_recompiled_twice_at_most_over_twenty_lengths() -> None:
    sinks = torch.randn(HEADS)
    with traced_only():
        _Model()(*_operands(30, 40), sinks)  # the program of the operator, which is counted by itself
        before = graphs()
        compiled = torch.compile(_Model(), fullgraph=True, backend="eager")
        for length in range(20, 160, 7):
            operands = _operands(length, length)
            _assert_right(compiled(*operands, sinks), operands, sinks)
        # Two for the model, for one length and for any; inside of an operator its program is compiled once more.
        assert graphs() - before == 3


def test_an_exported_model_serves_every_length() -> None:
    sinks, length = torch.randn(HEADS), torch.export.Dim("length", min=2, max=4096)
    shapes = {name: {2: length} for name in ("query", "key", "value")}
    with traced_only():
        program = torch.export.export(_Model(), (*_operands(30, 30), sinks), dynamic_shapes={**shapes, "sinks": None})
        for served in (2, 30, 129, 300):
            operands = _operands(served, served)
            _assert_right(program.module()(*operands, sinks), operands, sinks)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_model_compiled_by_inductor() -> None:
    sinks, compiled = torch.randn(HEADS), torch.compile(_Model(), fullgraph=True)
    for queries, keys in ((30, 30), (40, 50), (1, 300)):
        operands = _operands(queries, keys)
        _assert_right(compiled(*operands, sinks), operands, sinks)


def test_a_sequence_without_keys_gives_zeros_in_a_graph_too() -> None:
    compiled = torch.compile(_Model(), fullgraph=True, backend="eager")
    assert torch.equal(compiled(*_operands(3, 0), torch.randn(HEADS)), torch.zeros(2, HEADS, 3, 8))


def test_a_plain_function_is_refused_in_a_graph() -> None:
    mask = Mask(lambda b, h, i, j: (i - j) % 3 != 1)

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(query, key, value, mask=mask, implementation="flex_attention")

    with pytest.raises(Unsupported, match="must be built of patterns to be planned in compiled code"):
        torch.compile(attention, backend="eager", fullgraph=True)(*_operands(3, 3))

"""One operator forward and one backward in a graph, whatever the mask and the options."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.aot_autograd import aot_module_simplified
from torch._subclasses import FakeTensorMode

from headstock.attention import ScoreBias, alibi, attend, relative_table
from headstock.masks import Geometry, Mask, PreparedMask, causal, documents, first_tokens, prepare, sliding_window
from tests.support.devices import moved, on_each_device

LENGTH, HEADS, KV_HEADS = 150, 4, 2
IDS = torch.randint(0, 3, (2, LENGTH)).sort(-1).values
MASKS: dict[str, Mask] = {
    "window": causal() & sliding_window(40),
    "documents": causal() & documents(IDS),
    "by head": Mask(lambda b, h, i, j: (i + h) % 3 != j % 3),
}
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "dense bias": lambda: {"bias": torch.randn(HEADS, 1, LENGTH, requires_grad=True), "softcap": 4.0},
    "alibi": lambda: {"bias": alibi(torch.randn(HEADS, requires_grad=True)), "sinks": torch.randn(HEADS)},
    "table": lambda: {"bias": relative_table(torch.randn(1, 21, requires_grad=True))},
}


def _prepared(mask: Mask, length: int = LENGTH) -> PreparedMask:
    prepared = prepare(mask, Geometry(2, length, length, heads=HEADS))
    prepared.tiled_plan()
    return prepared


def _operands(length: int = LENGTH) -> list[Tensor]:
    return [torch.randn(2, heads, length, 8).requires_grad_() for heads in (HEADS, KV_HEADS, KV_HEADS)]


def _compiled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    compiled: Callable[..., Tensor] = torch.compile(function, fullgraph=True, backend="aot_eager")
    return compiled


def _learned(given: dict[str, Any]) -> list[Tensor]:
    bias = given.get("bias")
    if isinstance(bias, ScoreBias):
        return list(bias.tensors())
    return [] if bias is None else [bias]


class _Counting:
    """A backend that counts the operators of this package in each graph, forward and backward, and runs them."""

    def __init__(self) -> None:
        self.forward: list[Counter[str]] = []
        self.backward: list[Counter[str]] = []

    def __call__(self, module: Any, examples: Any) -> Any:
        return aot_module_simplified(
            module, examples, fw_compiler=self._noting(self.forward), bw_compiler=self._noting(self.backward)
        )

    @staticmethod
    def _noting(seen: list[Counter[str]]) -> Any:
        def compiler(graph: Any, _examples: Any) -> Any:
            names = (str(node.target) for node in graph.graph.nodes if node.op == "call_function")
            seen.append(Counter(name for name in names if name.startswith("headstock.")))
            return make_boxed_func(graph.forward)

        return compiler


@on_each_device
@pytest.mark.parametrize(
    ("mask", "options"),
    [(mask, "plain") for mask in MASKS] + [("window", options) for options in OPTIONS if options != "plain"],
)
def test_a_graph_holds_one_operator_forward_and_one_backward(mask: str, options: str, device: str) -> None:
    prepared, given, operands = moved((_prepared(MASKS[mask]), OPTIONS[options](), _operands()), device)
    prepared.tiled_plan()

    def layer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found: Tensor = attend(query, key, value, mask=prepared, implementation="blocked", **given)
        return found.square()

    counting = _Counting()
    found, expected = torch.compile(layer, fullgraph=True, backend=counting)(*operands), layer(*operands)
    torch.testing.assert_close(found, expected)
    learned = [
        *operands,
        *([each] if isinstance(each := given.get("bias"), Tensor) else each.tensors() if each else []),
    ]
    gradients = [torch.autograd.grad(each.sum(), learned) for each in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])
    assert counting.forward == [Counter({"headstock.blocked_attention.default": 1})]
    assert counting.backward == [Counter({"headstock.blocked_attention_backward.default": 1})]


def test_a_seed_is_drawn_at_each_call_of_a_graph() -> None:
    prepared, operands = _prepared(MASKS["window"]), _operands()
    layer = _compiled(lambda *each: attend(*each, mask=prepared, implementation="blocked", dropout=0.5))
    once, again = layer(*operands), layer(*operands)
    assert not torch.equal(once, again)
    # The output is linear in the value: the backward pass drops what the forward pass dropped.
    (of_value,) = torch.autograd.grad(again.sum(), operands[2])
    torch.testing.assert_close((of_value * operands[2]).sum(), again.sum(), rtol=1e-4, atol=1e-2)


def test_a_graph_of_another_length_is_made_anew() -> None:
    layer = _compiled(lambda query, key, value, mask: attend(query, key, value, mask=mask, implementation="blocked"))
    for length in (150, 271, 60):
        prepared, operands = _prepared(causal() & (sliding_window(40) | first_tokens(2)), length), _operands(length)
        expected = attend(*operands, mask=prepared, implementation="eager")
        torch.testing.assert_close(layer(*operands, prepared), expected)


def test_other_blocks_in_the_same_graph() -> None:
    """The plan is data: another one of the same extent is not taken from the first call."""
    layer = _compiled(lambda query, key, value, mask: attend(query, key, value, mask=mask, implementation="blocked"))
    operands = _operands()
    for mask in (MASKS["window"], MASKS["documents"], causal() & documents(IDS.flip(0))):
        expected = attend(*operands, mask=mask, implementation="eager")
        torch.testing.assert_close(layer(*operands, _prepared(mask)), expected)


def test_autocast_gives_the_same_dtype_eager_and_compiled() -> None:
    prepared, operands = _prepared(MASKS["window"]), _operands()

    def layer(*each: Tensor) -> Tensor:
        return attend(*each, mask=prepared, implementation="blocked", softcap=5.0)

    with torch.autocast("cpu", torch.bfloat16):
        expected = layer(*operands)
        found = torch.compile(layer, fullgraph=True, backend="aot_eager")(*operands)
        sdpa = attend(*operands, mask=prepared, implementation="sdpa")
    assert found.dtype == expected.dtype == sdpa.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    for gradient, operand in zip(torch.autograd.grad(found.sum(), operands), operands, strict=True):
        assert gradient.dtype == operand.dtype


def test_fake_tensors_have_the_shapes_of_real_ones() -> None:
    prepared, operands = _prepared(MASKS["window"]), _operands()
    expected = attend(*operands, mask=prepared, implementation="blocked", return_lse=True, softcap=2.0)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(each) for each in operands]
        found = attend(*fakes, mask=prepared, implementation="blocked", return_lse=True, softcap=2.0)
    assert (found.output.shape, found.output.dtype) == (expected.output.shape, expected.output.dtype)
    assert found.log_sum_exp is not None
    assert expected.log_sum_exp is not None
    assert found.log_sum_exp.shape == expected.log_sum_exp.shape


class _Layer(nn.Module):
    def __init__(self, mask: PreparedMask) -> None:
        super().__init__()
        self.mask = mask
        self.scale = nn.Parameter(torch.randn(8))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found: Tensor = attend(query * self.scale, key, value, mask=self.mask, implementation="blocked")
        return found


@pytest.mark.parametrize("strict", [False, True])
def test_a_module_with_a_prepared_mask_is_exported(strict: bool) -> None:
    layer, operands = _Layer(_prepared(MASKS["window"])), [each.detach() for each in _operands()]
    expected = layer(*operands)  # the mask keeps what it was lowered to, which a graph must not do
    exported = torch.export.export(layer, tuple(operands), strict=strict)
    names = [str(node.target) for node in exported.graph.nodes if "headstock" in str(node.target)]
    assert names == ["headstock.blocked_attention.default"]
    torch.testing.assert_close(exported.module()(*operands), expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own call
@pytest.mark.parametrize("options", OPTIONS)
def test_inductor(options: str) -> None:
    prepared, given, operands = _prepared(MASKS["window"]), OPTIONS[options](), _operands()

    def layer(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found: Tensor = attend(query.sin(), key, value, mask=prepared, implementation="blocked", **given)
        return found.square()

    found, expected = torch.compile(layer, fullgraph=True)(*operands), layer(*operands)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.sum(), operands) for each in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_form_in_a_graph_whose_offset_is_a_tensor_becomes_dense() -> None:
    query, key, value = torch.randn(3, 2, 2, 40, 8)
    slopes = torch.rand(2)

    def decoding(offset: Tensor) -> Tensor:
        mask = causal() & sliding_window(9)
        return attend(
            query[:, :, :5], key, value, mask=mask, q_offset=offset, bias=alibi(slopes), implementation="blocked"
        )

    offset = torch.tensor([35, 20])
    found = torch.compile(decoding, fullgraph=True, backend="aot_eager")(offset)
    torch.testing.assert_close(found, decoding(offset))

"""Checkpointed layers inside `torch.compile(fullgraph=True)`."""

import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func

from headstock.layers.checkpointing import set_gradient_checkpointing
from headstock.registry import Overlay, Registry
from tests.support.checkpointing import CacheRecorder, Cell, Encoder, run, same

# Dynamo's warning about in-place operations comes with every selective policy.
SETTINGS = [("full", False), ("full", True), ("every_k", False), ("selective", False)]


def _keywords(model: Encoder) -> dict[str, Tensor]:
    return {
        "hidden_states": torch.randn(2, 8, requires_grad=True),
        "scale": torch.randn(len(model.layers), 8, requires_grad=True),
    }


@pytest.mark.parametrize(("policy", "use_reentrant"), SETTINGS)
def test_gradients_equal_the_plain_ones(policy: str, use_reentrant: bool) -> None:
    model = Encoder()
    tensors = _keywords(model)
    plain = run(model, **tensors)
    set_gradient_checkpointing(model, policy, use_reentrant=use_reentrant)
    # aot_eager runs the same operations as eager, in the order of the joint graph.
    assert same(plain, run(model, torch.compile(model, backend="aot_eager", fullgraph=True), **tensors))


def test_recomputation_is_in_the_backward_graph() -> None:
    graphs: dict[str, list[torch.fx.GraphModule]] = {"forward": [], "backward": []}

    def keep(name: str) -> object:
        def compiler(graph: torch.fx.GraphModule, _: object) -> object:
            graphs[name].append(graph)
            return make_boxed_func(graph.forward)

        return compiler

    backend = aot_autograd(fw_compiler=keep("forward"), bw_compiler=keep("backward"))
    model = Encoder()
    counts = []
    for policy in (None, "full"):
        torch._dynamo.reset()
        set_gradient_checkpointing(model, policy)
        run(model, torch.compile(model, backend=backend, fullgraph=True), **_keywords(model))
        counts.append(sum("gelu.default" in str(node.target) for node in graphs["backward"][-1].graph.nodes))
    assert counts == [0, 3]


def test_a_scope_around_a_compiled_call_is_honoured() -> None:
    table = Overlay(Registry("function", builtins={"act": torch.tanh}))
    cell = Cell(lambda weight, hidden: table["act"](hidden * weight))
    hidden = torch.randn(4, requires_grad=True)
    set_gradient_checkpointing(cell)
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)

    def scoped(hidden: Tensor) -> Tensor:
        with table.override(act=torch.sin):
            output: Tensor = compiled(hidden)
        return output

    outside = run(cell, compiled, hidden=hidden)
    inside = run(cell, scoped, hidden=hidden)
    set_gradient_checkpointing(cell, None)
    assert same(outside, run(cell, cell, hidden=hidden))
    with table.override(act=torch.sin):
        assert same(inside, run(cell, cell, hidden=hidden))


def test_switching_is_seen_by_a_compiled_model() -> None:
    model = Encoder(dropout=0.1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    tensors = _keywords(model)
    plain = run(model, compiled, **tensors)
    set_gradient_checkpointing(model)
    assert same(plain, run(model, compiled, **tensors))


def test_a_cache_is_refused_in_a_compiled_frame() -> None:
    cell = Cell(lambda weight, hidden, past_key_values: hidden * weight)
    set_gradient_checkpointing(cell)
    with pytest.raises(Exception, match="must get no cache, got past_key_values=CacheRecorder"):
        torch.compile(cell, backend="eager", fullgraph=True)(torch.randn(4), past_key_values=CacheRecorder())


def test_a_compiled_function_inside_a_checkpointed_layer_is_exact() -> None:
    inner = torch.compile(lambda hidden, weight: (hidden * weight).tanh(), backend="aot_eager", fullgraph=True)
    cell = Cell(lambda weight, hidden: inner(hidden, weight))
    hidden = torch.randn(4, requires_grad=True)
    plain = run(cell, cell, hidden=hidden)
    set_gradient_checkpointing(cell)
    assert same(plain, run(cell, cell, hidden=hidden))

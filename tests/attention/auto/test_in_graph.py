"""`auto` in compiled and exported code: the eager answer, few graphs for many lengths, changes of the table seen."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from headstock import attend
from headstock.attention import AttentionInterface, Cost, Limits
from headstock.attention.auto.in_graph import choose_in_graph
from headstock.attention.call import bound_mask
from headstock.attention.request import Request
from headstock.errors import UnsupportedFeature
from headstock.masks import Mask, bidirectional, causal, padding, sliding_window
from headstock.registry import declare
from tests.support.attention_functions import additive, unmasked
from tests.support.auto import function_like, operands
from tests.support.devices import moved, on_each_device

LENGTHS = [*range(17, 90, 4), 700]
MOST = 3  # the first graph and at most two more


def counted(function: Callable[..., Tensor]) -> tuple[Callable[..., Tensor], CompileCounter]:
    counter = CompileCounter()
    return torch.compile(function, backend=counter, fullgraph=True), counter


SLOW = pytest.mark.slow
NAMED = [
    pytest.param(name, mask, marks=() if (name, mask) in (("auto", "none"), ("auto", "window")) else SLOW)
    for name in ("auto", "sdpa", "eager", "blocked")
    for mask in ("none", "causal", "window", "padding")
]


@on_each_device
@pytest.mark.parametrize(("name", "mask"), NAMED)
def test_twenty_lengths_take_at_most_two_recompilations(name: str, mask: str, device: str) -> None:
    def call(query: Tensor, key: Tensor, value: Tensor, keep: Tensor) -> Tensor:
        masks = {"causal": causal(), "window": causal() & sliding_window(24), "padding": causal() & padding(keep)}
        return attend(query, key, value, mask=masks.get(mask), implementation=name)

    compiled, counter = counted(call)
    for length in LENGTHS:
        tensors = moved((*operands((2, 2, length, 8)), torch.arange(length).expand(2, -1) > 2), device)
        torch.testing.assert_close(compiled(*tensors), call(*tensors), rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= MOST


@pytest.mark.parametrize(
    ("mask", "name"),
    [
        (None, "sdpa"),
        (causal(), "sdpa"),
        (causal() & sliding_window(24), "blocked"),
        (sliding_window(24, 24), "blocked"),
        (causal() & padding(torch.ones(1, 1024).bool()), "sdpa"),
        (causal() & Mask(lambda b, h, i, j: i - j < 24), "sdpa"),
        (torch.ones(1024, 1024).tril().bool(), "sdpa"),
    ],
    ids=["none", "causal", "window", "both sides", "padding", "function", "tensor"],
)
def test_the_structure_of_the_mask_decides(mask: Any, name: str) -> None:
    tensors = operands((1, 2, 1024, 8))
    prepared = bound_mask(mask, tensors[0], tensors[1])
    assert choose_in_graph(AttentionInterface(), Request(0.5), tensors, prepared, {}).name == name


def test_a_length_that_is_known_to_be_short_needs_no_blocks() -> None:
    tensors = operands((1, 2, 64, 8))
    prepared = bound_mask(causal() & sliding_window(24), tensors[0], tensors[1])
    assert choose_in_graph(AttentionInterface(), Request(0.5), tensors, prepared, {}).name == "sdpa"


def test_features_go_to_the_first_that_has_them_then_to_others() -> None:
    tensors, interface = operands(), AttentionInterface()
    assert choose_in_graph(interface, Request(0.5, softcap=1.0), tensors, None, {}).name == "eager"
    table = {"a": unmasked, "b": function_like(additive)}
    prepared = bound_mask(bidirectional(), tensors[0], tensors[1])
    assert choose_in_graph(table, Request(0.5), tensors, prepared, {}).name == "b"
    with pytest.raises(
        UnsupportedFeature, match=r"'auto' must find one .*, got 'a', which takes no mask and does not know x;"
    ):
        choose_in_graph({"a": unmasked}, Request(0.5), tensors, prepared, {"x": 1})


def test_a_change_of_the_table_is_seen() -> None:
    interface = AttentionInterface()

    def call(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(query, key, value, interface=interface)

    def halved(*arguments: Any, **keywords: Any) -> Any:
        output, weights = additive(*arguments, **keywords)
        return output / 2, weights

    compiled, _ = counted(call)
    tensors = operands()
    whole = call(*tensors)
    torch.testing.assert_close(compiled(*tensors), whole)
    interface["sdpa"] = halved
    torch.testing.assert_close(compiled(*tensors), whole / 2)
    del interface["sdpa"]
    torch.testing.assert_close(compiled(*tensors), whole)
    with interface.override(sdpa=halved):
        torch.testing.assert_close(compiled(*tensors), whole / 2)
    torch.testing.assert_close(compiled(*tensors), whole)


def test_a_name_of_a_scope_is_among_the_names() -> None:
    interface = AttentionInterface()

    def call(query: Tensor) -> Tensor:
        return query * len([name for name in interface.names() if name == "scoped"])

    compiled, _ = counted(call)
    query = torch.ones(3)
    assert compiled(query).sum() == 0
    with interface.override(scoped=additive):
        assert compiled(query).sum() == 3
        assert "scoped" in interface.names()
    with AttentionInterface().override(scoped=additive):
        assert compiled(query).sum() == 0
    assert compiled(query).sum() == 0


class _Module(torch.nn.Module):
    def __init__(self, mask: Mask | None) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend(query, key, value, mask=self.mask)


@pytest.mark.parametrize("mask", [None, causal(), causal() & sliding_window(24)], ids=["none", "causal", "window"])
def test_an_exported_program_serves_every_length(mask: Mask | None) -> None:
    module = _Module(mask)
    length = torch.export.Dim("length", min=32, max=2048)
    program = torch.export.export(module, operands((1, 2, 64, 8)), dynamic_shapes=({2: length},) * 3)
    for tokens in (40, 600):
        tensors = operands((1, 2, tokens, 8))
        torch.testing.assert_close(program.module()(*tensors), module(*tensors), rtol=1e-4, atol=1e-5)


def _threes(**declared: Any) -> AttentionInterface:
    """A table with an entry that gives nothing but threes."""

    def threes(
        module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, *, scaling: float
    ) -> tuple[Tensor, None]:
        return query.new_full((query.shape[0], query.shape[2], query.shape[1], value.shape[3]), 3.0), None

    interface = AttentionInterface()
    interface["mine"] = declare(threes, mask="dense", **declared)
    return interface


@pytest.mark.parametrize(
    ("cost", "limits", "taken"),
    [
        (Cost(launch=1.0), Limits(), True),
        (Cost(launch=1e9), Limits(), False),
        (None, Limits(), False),
        (Cost(launch=1.0), Limits(compile=False), False),
        (Cost(launch=1.0), Limits(dtypes=frozenset({"float16"})), False),
    ],
    ids=["cheap", "dear", "unknown", "not in graphs", "not of this dtype"],
)
def test_an_entry_that_declares_a_lower_cost_comes_first(cost: Cost | None, limits: Limits, taken: bool) -> None:
    interface = _threes(limits=limits, cost=cost)
    compiled, counter = counted(lambda *tensors: attend(*tensors, interface=interface))
    for length in (64, 700):
        tensors = operands((2, 2, length, 8))
        expected = torch.full_like(tensors[0], 3.0) if taken else attend(*tensors, implementation="eager")
        torch.testing.assert_close(compiled(*tensors), expected, rtol=1e-4, atol=1e-5)
    assert counter.frame_count <= MOST


@pytest.mark.parametrize(
    ("mask", "launch", "name"),
    [
        (causal(), 100.0, "mine"),
        (causal(), 1e9, "sdpa"),
        (causal() & sliding_window(24), 100.0, "mine"),
        (causal() & sliding_window(24), 1e9, "blocked"),
        (Mask(lambda b, h, i, j: i != j), 100.0, "mine"),
    ],
    ids=str,
)
def test_it_is_compared_with_what_structure_chose(mask: Mask, launch: float, name: str) -> None:
    tensors = operands((1, 2, 1024, 8))
    prepared, interface = bound_mask(mask, tensors[0], tensors[1]), _threes(cost=Cost(launch=launch))
    assert choose_in_graph(interface, Request(0.5), tensors, prepared, {}).name == name


def test_lengths_that_a_graph_keeps_open_count_as_two_thousand() -> None:
    """Dearer than torch's kernel over 64 tokens and cheaper over 2,048: the graph of one length takes the one."""
    interface = _threes(cost=Cost(launch=2000.0))
    tensors = operands((1, 2, 64, 8))
    static, _ = counted(lambda *tensors: attend(*tensors, interface=interface))
    torch.testing.assert_close(static(*tensors), attend(*tensors), rtol=1e-4, atol=1e-5)
    by_symbols = torch.compile(lambda *each: attend(*each, interface=interface), backend="eager", fullgraph=True)
    for each in tensors:
        torch._dynamo.mark_dynamic(each, 2)
    assert by_symbols(*tensors).eq(3.0).all()


def test_what_stands_under_the_name_of_another_takes_its_place_whatever_it_costs() -> None:
    interface = AttentionInterface()
    interface["eager"] = _threes(cost=Cost(launch=1.0))["mine"]
    compiled, _ = counted(lambda *tensors: attend(*tensors, interface=interface))
    tensors = operands()
    torch.testing.assert_close(compiled(*tensors), attend(*tensors))

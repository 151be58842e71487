"""A function that reads pages itself gets the tables, all pages, and the mask that hides what no row has."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import AttentionFunction, AttentionInterface
from headstock.attention.limits import Limits
from headstock.attention.paged import attend_paged, gathered
from headstock.errors import InvalidShape, UnsupportedFeature, WrongResult
from headstock.masks import causal, sliding_window
from headstock.registry import declare
from tests.support.attention_functions import additive, dense
from tests.support.paged import filled

SEES: dict[str, Any] = {}


def _reading(of: Callable[..., Any]) -> Callable[..., Any]:
    """A function over pages that puts them side by side and calls another."""

    def function(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        *,
        scaling: float,
        block_table: Tensor | None = None,
        lengths: Tensor | None = None,
        softcap: float | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        assert block_table is not None
        assert lengths is not None
        SEES.update(mask=attention_mask, key=key, table=block_table, softcap=softcap)
        keep = torch.arange(int(lengths.max())) < lengths[:, None]
        key, value = (gathered(each, block_table, keep) for each in (key, value))
        shown = keep[:, None, None]
        if attention_mask is None:
            mask = shown if of is dense else torch.where(shown, 0.0, -torch.inf)
        else:
            mask = attention_mask
        output, weights = of(module, query, key, value, mask, scaling=scaling)
        return output, weights

    return function


def _interface(function: AttentionFunction) -> AttentionInterface:
    interface = AttentionInterface()
    interface["mine"] = function
    return interface


@pytest.mark.parametrize("kind", [additive, dense], ids=["additive", "dense"])
@pytest.mark.parametrize("mask", [None, causal(), causal() & sliding_window(3), "tensor"], ids=str)
def test_it_is_what_eager_gives(kind: Any, mask: Any) -> None:
    lengths = [7, 0, 3]
    given, query = filled(lengths, 2), torch.randn(3, 4, 2, 3, dtype=torch.float64)
    if mask == "tensor":  # one that shows what is not there
        mask = torch.rand(3, 4, 2, 7) < 0.7
        mask &= torch.arange(7) < torch.tensor(lengths)[:, None, None, None]
    declared = "dense" if kind is dense else "additive"
    function = declare(_reading(kind), mask=declared, limits=Limits(paged=True))
    found = attend_paged(query, given.paged, mask=mask, implementation="mine", interface=_interface(function))
    torch.testing.assert_close(found, attend_paged(query, given.paged, mask=mask, implementation="eager"))
    assert not found[1].any()
    assert SEES["key"] is given.paged.key_pages
    assert SEES["table"] is given.paged.block_table
    assert (SEES["mask"] is None) == (mask is None)


def test_it_is_checked_like_any() -> None:
    given, query = filled([7, 3], 2), torch.randn(2, 4, 1, 3, dtype=torch.float64)

    def wrong(*args: Any, **keywords: Any) -> tuple[Tensor, None]:
        return torch.ones(2, 1, 4, 5, dtype=torch.float64), None

    def function(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        *,
        block_table: Any = None,
        lengths: Any = None,
    ) -> tuple[Tensor, None]:
        return wrong()

    interface = _interface(declare(function, limits=Limits(paged=True)))
    with pytest.raises(WrongResult, match=r"the output of attention function 'mine' must equal the definition"):
        attend_paged(query, given.paged, implementation="mine", interface=interface, checked=True)


def test_what_it_does_not_honour_is_refused() -> None:
    given, query = filled([7, 3], 2), torch.randn(2, 4, 1, 3, dtype=torch.float64)
    function = declare(_reading(dense), mask="dense", limits=Limits(paged=True))
    with pytest.raises(UnsupportedFeature, match=r"'mine', which does not honour sinks; ask for less"):
        attend_paged(
            query, given.paged, sinks=torch.randn(4).double(), implementation="mine", interface=_interface(function)
        )
    attend_paged(query, given.paged, softcap=3.0, implementation="mine", interface=_interface(function))
    assert SEES["softcap"] == 3.0


def test_without_tables_in_its_signature_it_is_refused() -> None:
    given, query = filled([7, 3], 2), torch.randn(2, 4, 1, 3, dtype=torch.float64)

    def function(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, lengths: Any = None) -> Any: ...

    interface = _interface(declare(function, limits=Limits(paged=True)))
    with pytest.raises(UnsupportedFeature, match=r"'mine', which does not take block_table and lengths; ask for less"):
        attend_paged(query, given.paged, implementation="mine", interface=interface)


def test_a_wrong_shape_is_refused() -> None:
    given, query = filled([7, 3], 2), torch.randn(2, 4, 1, 3, dtype=torch.float64)

    def function(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        *,
        block_table: Any = None,
        lengths: Any = None,
    ) -> tuple[Tensor, None]:
        return query, None

    interface = _interface(declare(function, limits=Limits(paged=True)))
    with pytest.raises(InvalidShape, match=r"be \[batch, queries, heads, head_dim\] \[2, 1, 4, 5\], got \[2, 4, 1"):
        attend_paged(query, given.paged, implementation="mine", interface=interface)


def test_auto_finds_it_where_no_entry_of_headstock_serves_the_call() -> None:
    pages, query = filled([5, 3], 2).paged, torch.randn(2, 2, 1, 3, dtype=torch.float64)
    own = declare(_reading(dense), mask="dense", limits=Limits(paged=True))
    bare: dict[str, AttentionFunction] = {"other": dense}
    with pytest.raises(
        UnsupportedFeature, match=r"that does over pages all .*, got none:\nother  does not read pages\nask"
    ):
        attend_paged(query, pages, interface=bare)
    found = attend_paged(query, pages, interface={**bare, "mine": own})
    torch.testing.assert_close(found, attend_paged(query, pages, implementation="eager"))
    # A table of several layers, where what comes first cannot serve the call.
    interface = AttentionInterface()
    for name in ("varlen", "blocked", "eager"):
        interface[name] = dense
    interface["mine"] = own
    assert torch.equal(attend_paged(query, pages, interface=interface), found)


@pytest.mark.parametrize("what", ["key pages", "value pages", "block table", "lengths"])
def test_a_checked_call_tells_what_was_written_to_of_the_pages(what: str) -> None:
    pages, query = filled([5, 3], 2).paged, torch.randn(2, 2, 1, 3, dtype=torch.float64)
    given = {
        "key pages": pages.key_pages,
        "value pages": pages.value_pages,
        "block table": pages.block_table,
        "lengths": pages.lengths,
    }
    for pool in (pages.key_pages, pages.value_pages):
        pool.nan_to_num_(0.0)

    def writing(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        *,
        scaling: float,
        block_table: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        tables = {"block_table": block_table, "lengths": lengths}
        result: tuple[Tensor, Tensor | None] = _reading(dense)(
            module, query, key, value, mask, scaling=scaling, **tables
        )
        given[what].view(-1)[0] += 1
        return result

    interface = AttentionInterface()
    interface["mine"] = declare(writing, mask="dense", limits=Limits(paged=True))
    told = rf"'mine' must leave its inputs as they are, got 1 of \d+ numbers changed of the {what}; work on a copy"
    with pytest.raises(WrongResult, match=told):
        attend_paged(query, pages, implementation="mine", interface=interface, checked=True)

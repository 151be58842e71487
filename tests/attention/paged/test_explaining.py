"""What `explain_paged` tells is what `attend_paged` does, told before anything runs."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings

from headstock.attention import AttentionInterface, Cost, Limits, attend_paged, explain_paged
from headstock.errors import InvalidShape, UnknownName, UnsupportedFeature
from headstock.masks import causal, sliding_window
from headstock.registry import declare
from tests.support.attention_functions import dense
from tests.support.blocked import some
from tests.support.paged import Filled, filled
from tests.support.paged_calls import PagedCase, paged_cases


def _query(given: Filled, queries: int = 1) -> torch.Tensor:
    return torch.randn(len(given.paged.lengths), 4, queries, 3, dtype=torch.float64)


@given(case=paged_cases())
@settings(max_examples=some(3))
def test_the_chosen_one_runs_and_every_other_has_its_reasons(case: PagedCase) -> None:
    told = explain_paged(case.query, case.paged, **case.keywords())
    by_auto = attend_paged(case.query, case.paged, **case.keywords())
    assert torch.equal(by_auto, attend_paged(case.query, case.paged, implementation=told.chosen, **case.keywords()))
    assert {told.chosen, *told.rejected} == set(AttentionInterface())
    assert all(told.rejected.values())
    assert told.costs[told.chosen] == min(told.costs.values())
    visible = case.inputs.visible.double().mean().nan_to_num(1.0).item()
    assert told.density == pytest.approx(visible, abs=1e-12)


def test_it_is_told_how_keys_and_values_are_read() -> None:
    short, long = filled([5, 2], 4), filled([9000], 4)
    told = explain_paged(_query(short), short.paged)
    assert (told.chosen, told.representation, told.bytes, told.density) == ("eager", "dense_or_additive", 10, 0.7)
    assert told.notes == ("keys and values: all tokens are put side by side", "costs: headstock's own figures")
    lines = str(told).splitlines()
    assert re.match(r"eager +chosen: mask as dense_or_additive, 10 bytes, 70\.0% of the pairs visible$", lines[0])
    assert re.match(r"blocked +eligible, about [\d.]+ times slower$", lines[1])
    told = explain_paged(_query(long), long.paged, mask=causal() & sliding_window(9))
    assert (told.chosen, told.bytes) == ("blocked", None)
    assert told.density == pytest.approx(0.001)
    assert told.notes[0] == "keys and values: the pages that hold a key which is seen are put side by side"


def test_a_named_one_is_told_as_named() -> None:
    short = filled([5, 2], 4)
    told = explain_paged(_query(short), short.paged, implementation="blocked")
    assert (told.chosen, told.is_named) == ("blocked", True)
    assert told.rejected["eager"] == ("eligible, but 'blocked' was named",)
    times = told.costs["blocked"] / told.costs["eager"]
    assert told.notes[1] == f"'blocked' was named; 'auto' would choose 'eager', about {times:.1f} times faster"


def test_an_entry_of_ones_own_reads_pages_where_they_lie() -> None:
    def mine(
        module: Any, query: Any, key: Any, value: Any, mask: Any, *, block_table: Any = None, lengths: Any = None
    ) -> Any:
        raise AssertionError("explain ran it")

    interface, short = AttentionInterface(), filled([5, 2], 4)
    interface["mine"] = declare(mine, mask="dense", limits=Limits(paged=True), cost=Cost(launch=1.0))
    told = explain_paged(_query(short), short.paged, interface=interface)
    assert (told.chosen, told.representation, told.costs["mine"]) == ("mine", "dense", 1.0)
    assert told.notes[0] == "keys and values: read where they lie"


def test_the_table_is_that_of_the_error_where_nobody_can() -> None:
    short = filled([5, 2], 4)
    without: dict[str, Any] = {"mine": dense}
    told = r"that does over pages all that the call asks for, got none:\nmine  does not honour softcap; does not read"
    for ask in (attend_paged, explain_paged):
        with pytest.raises(UnsupportedFeature, match=told):
            ask(_query(short), short.paged, softcap=1.0, interface=without)


def test_lengths_that_cannot_be_read_are_refused() -> None:
    on_meta = SimpleNamespace(
        key_pages=torch.empty(4, 2, 2, 3, device="meta"),
        value_pages=torch.empty(4, 2, 2, 5, device="meta"),
        block_table=torch.empty(1, 4, dtype=torch.int64, device="meta"),
        lengths=torch.empty(1, dtype=torch.int64, device="meta"),
    )
    query = torch.empty(1, 4, 1, 3, device="meta")
    assert attend_paged(query, on_meta).shape == (1, 4, 1, 5)
    with pytest.raises(UnsupportedFeature, match="where the lengths of the rows can be read, got lengths on meta that"):
        explain_paged(query, on_meta)


def test_what_attend_paged_refuses_is_refused() -> None:
    short = filled([5, 2], 4)
    with pytest.raises(UnknownName, match="'eagre'"):
        explain_paged(_query(short), short.paged, implementation="eagre")
    with pytest.raises(UnsupportedFeature, match=r"'sdpa', which does not read pages; ask for less"):
        explain_paged(_query(short), short.paged, implementation="sdpa")
    with pytest.raises(InvalidShape, match="query"):
        explain_paged(_query(short)[:1], short.paged)

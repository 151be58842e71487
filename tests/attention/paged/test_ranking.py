"""Over pages what costs least is chosen, too: to put keys side by side costs, and a cost that is declared counts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import AttentionInterface, Cost, Limits, attend_paged
from headstock.attention.auto.figures import ALL, Figures, stepped
from headstock.attention.paged.call import PagedCall, paged_call
from headstock.attention.paged.choice import choose_reader, situation_over_pages
from headstock.attention.paged.ranking import figures_over_pages, ranked_over_pages
from headstock.attention.request import Request
from headstock.caches import PagedKeyValues, PagePool
from headstock.masks import Mask, causal, sliding_window
from headstock.registry import declare
from tests.support.auto import counted_contracts


def _call(
    lengths: list[int], mask: Any = None, *, heads: int = 8, kv_heads: int = 8, queries: int = 1, **options: Any
) -> PagedCall:
    pool = PagePool.empty(sum(-(-each // 16) for each in lengths), 16, kv_heads, 64)
    pages = PagedKeyValues.empty(pool, len(lengths))
    key, value = torch.randn(2, len(lengths), kv_heads, max(lengths), 64)
    pages.append(key, value, counts=lengths)
    query = torch.randn(len(lengths), heads, queries, 64)
    return paged_call(query, pages, mask, Request(0.125)._replace(**options))


def _chosen(call: PagedCall, interface: Any = None) -> str:
    return choose_reader(AttentionInterface() if interface is None else interface, "auto", call)[0].name


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (_call([64]), "eager"),
        (_call([64, 50, 40], causal()), "eager"),
        (_call([2048], heads=32), "blocked"),
        (_call([4096], causal() & sliding_window(256)), "blocked"),
        (_call([1024], causal(), queries=128), "blocked"),
        (_call([2048], heads=32, weights=True), "eager"),
    ],
    ids=["short", "short rows", "shared heads", "a window", "many queries", "what one alone honours"],
)
def test_auto_takes_what_costs_least(call: PagedCall, name: str) -> None:
    assert _chosen(call) == name


def _reading(cost: Cost | None, *, limits: Limits | None = None) -> Callable[..., Any]:
    def mine(
        module: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        *,
        scaling: float,
        block_table: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        return query.new_full((query.shape[0], query.shape[2], query.shape[1], value.shape[3]), 3.0), None

    return declare(mine, mask="dense", limits=limits or Limits(paged=True), cost=cost)


def _with(cost: Cost | None, **options: Any) -> AttentionInterface:
    interface = AttentionInterface()
    interface["mine"] = _reading(cost, **options)
    return interface


@pytest.mark.parametrize(
    ("lengths", "cost", "name"),
    [
        ([64], Cost(launch=50.0), "mine"),
        ([64], Cost(launch=50_000.0), "eager"),
        ([64], None, "eager"),
        ([4096], Cost(launch=50_000.0), "blocked"),
        ([4096], Cost(launch=500.0, traffic=100.0), "mine"),
    ],
)
def test_an_entry_of_ones_own_comes_where_its_cost_puts_it(lengths: list[int], cost: Cost | None, name: str) -> None:
    assert _chosen(_call(lengths, heads=8 if lengths == [64] else 32), _with(cost)) == name


def test_one_of_unknown_cost_comes_behind_what_it_is_taken_for() -> None:
    call, interface = _call([300], causal(), softcap=2.0), _with(None)
    costs = {each.chosen.name: each.cost for each in _ranked(interface, call)}
    assert "mine" not in costs  # it names no softcap
    costs = {each.chosen.name: each.cost for each in _ranked(interface, call._replace(request=Request(0.125)))}
    assert costs["mine"] == pytest.approx(costs["eager"])


def _ranked(interface: Any, call: PagedCall) -> Any:
    return ranked_over_pages(interface, call, situation_over_pages(call, is_named=False)).candidates


@pytest.mark.parametrize(
    ("call", "figures"),
    [
        (_call([64, 64]), ALL),
        (_call([64, 32]), Figures("some", stepped(0.75), rows=0, is_kept=True)),
        (_call([64, 64], causal() & sliding_window(16)), Figures("some", stepped(0.25), rows=0, is_kept=True)),
        (_call([64, 64], Mask(lambda b, h, i, j: i == j)), Figures("some", 1.0, rows=0, is_kept=True)),
        (_call([64, 64], torch.ones(1, 1, 1, 64).bool()), Figures("some", tensor="boolean", is_kept=True)),
        (_call([64, 64], torch.ones(1, 1, 1, 64)), Figures("some", tensor="floating", is_kept=True)),
    ],
    ids=["whole", "rows", "window", "function", "boolean", "floating"],
)
def test_lengths_and_mask_in_a_few_numbers(call: PagedCall, figures: Figures) -> None:
    assert figures_over_pages(call) == figures


def test_rows_without_tokens_have_no_figures() -> None:
    pages = PagedKeyValues.empty(PagePool.empty(4, 16, 2, 8), 2)
    assert figures_over_pages(paged_call(torch.randn(2, 2, 1, 8), pages, causal(), Request(1.0))) == ALL


def test_a_decision_is_kept_for_about_the_same_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    interface = _with(Cost(launch=1e9))
    first, second, longer = _call([1000]), _call([1001]), _call([3000])
    assert _chosen(first, interface) == "eager"
    with counted_contracts(monkeypatch) as asked:
        _chosen(second, interface)
        assert not asked
        _chosen(longer, interface)
        assert asked
    interface["mine"] = _reading(Cost(launch=1.0))
    assert _chosen(first, interface) == "mine"


@pytest.mark.parametrize(
    ("cost", "limits", "taken"),
    [
        (Cost(launch=50.0), Limits(paged=True), True),
        (Cost(launch=1e9), Limits(paged=True), False),
        (None, Limits(paged=True), False),
        (Cost(launch=50.0), Limits(paged=True, compile=False), False),
    ],
    ids=["cheap", "dear", "unknown", "not in graphs"],
)
def test_in_a_graph_a_lower_cost_comes_first(cost: Cost | None, limits: Limits, taken: bool) -> None:
    interface, call = _with(cost, limits=limits), _call([40, 30])
    compiled = torch.compile(
        lambda query, pages: attend_paged(query, pages, interface=interface), backend="eager", fullgraph=True
    )
    found = compiled(call.query, call.pages)
    expected = torch.full_like(found, 3.0) if taken else attend_paged(call.query, call.pages, implementation="eager")
    torch.testing.assert_close(found, expected)

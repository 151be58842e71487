"""`auto` decides once for each kind of call, equally every time, and anew after every change."""

import json
import threading
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock import attend
from headstock.attention import AttentionInterface, Cost, call_attention
from headstock.attention.auto.decisions import _usual
from headstock.attention.auto.profiles import VARIABLE, forget_read
from headstock.attention.limits import Limits
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, Mask, causal, documents, padding, prepare, sliding_window
from headstock.registry import capture_scopes, declare
from tests.support.attention_functions import additive, dense, unmasked
from tests.support.auto import chosen, counted_contracts, function_like, operands

WINDOW = causal() & sliding_window(128)
FREE = Cost(launch=0.001)


def _free(function: Any, **declared: Any) -> Any:
    return declare(function_like(function), cost=FREE, **declared)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "sdpa"),
        ({"dropout": 0.1}, "sdpa"),
        ({"bias": torch.ones(1)}, "sdpa"),
        ({"scaling_given": True}, "sdpa"),
        ({"softcap": 1.0}, "eager"),
        ({"sinks": torch.ones(2)}, "eager"),
        ({"weights": True}, "eager"),
        ({"log_sum_exp": True}, "eager"),
    ],
)
def test_a_small_call_goes_to_the_first_that_can(options: dict[str, Any], name: str) -> None:
    assert chosen(AttentionInterface(), operands(), causal(), **options) == name


@pytest.mark.parametrize("mask", [None, causal()], ids=["full", "causal"])
@pytest.mark.parametrize("length", [1, 16, 300, 5000])
def test_full_and_causal_calls_are_sdpas(mask: Mask | None, length: int) -> None:
    assert chosen(AttentionInterface(), operands((1, 2, length, 16)), mask) == "sdpa"


def test_sparse_masks_go_by_blocks_where_these_pay() -> None:
    interface = AttentionInterface()
    assert chosen(interface, operands((1, 2, 64, 32)), causal() & sliding_window(8)) == "sdpa"
    assert chosen(interface, operands((1, 4, 4096, 64)), WINDOW) == "blocked"
    ids = (torch.arange(4096) // 512)[None]
    assert chosen(interface, operands((1, 4, 4096, 64)), causal() & documents(ids)) == "blocked"
    assert chosen(interface, operands((1, 4, 128, 64)), padding(torch.ones(1, 128).bool())) == "sdpa"


def test_a_prepared_mask_pays_from_fewer_tokens_on() -> None:
    interface, tensors = AttentionInterface(), operands((1, 8, 512, 64))
    mask = causal() & sliding_window(32)
    assert chosen(interface, tensors, prepare(mask, Geometry(1, 512, 512, heads=8))) == "blocked"
    assert chosen(interface, operands((1, 2, 320, 32)), mask) == "sdpa"


def test_what_shadows_an_entry_takes_its_place() -> None:
    interface = AttentionInterface()
    interface["sdpa"] = unmasked
    assert chosen(interface, operands()) == "sdpa"
    assert chosen(interface, operands(), causal()) == "eager"


def test_a_function_under_another_name_costs_the_same() -> None:
    interface = AttentionInterface()
    interface["another"] = interface["sdpa"]
    assert chosen(interface, operands()) == "sdpa"  # a tie goes to the name that is known
    assert chosen(interface, operands()) == chosen(AttentionInterface(), operands())
    interface["sdpa"] = declare(function_like(additive), cost=Cost(launch=1e9))
    assert chosen(interface, operands()) == "another"


def test_an_entry_of_another_name_takes_part() -> None:
    interface = AttentionInterface()
    interface["mine"] = function_like(additive)
    assert chosen(interface, operands()) == "sdpa"  # of which is known that it is fast
    interface["fast"] = _free(additive)
    assert chosen(interface, operands()) == "fast"
    assert chosen(interface, operands(), softcap=1.0) == "eager"


def test_one_entry_alone_serves_what_it_can() -> None:
    assert chosen({"mine": additive}, operands()) == "mine"
    with pytest.raises(
        UnsupportedFeature, match=r"'auto' must find one .* got none:\nmine  does not honour softcap\nas"
    ):
        chosen({"mine": additive}, operands(), softcap=1.0)


def test_a_kind_of_call_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    interface = AttentionInterface()
    interface["eager"] = interface["eager"]  # a table of its own
    chosen(interface, operands(), causal())
    with counted_contracts(monkeypatch) as asked:
        for _ in range(3):
            chosen(interface, operands(), causal())
        assert asked == []
        chosen(interface, operands(), causal(), softcap=1.0)
        assert asked != []


def test_layers_that_hold_nothing_share_their_models_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = AttentionInterface()
    model["eager"] = model["eager"]
    layers = [AttentionInterface(parent=model) for _ in range(3)]
    chosen(layers[0], operands())
    with counted_contracts(monkeypatch) as asked:
        assert {chosen(each, operands()) for each in (model, *layers)} == {"sdpa"}
        assert asked == []
        layers[1]["fast"] = _free(additive)
        assert [chosen(each, operands()) for each in layers] == ["sdpa", "fast", "sdpa"]


def test_a_growing_cache_is_one_kind_of_call(monkeypatch: pytest.MonkeyPatch) -> None:
    interface = AttentionInterface()
    interface["eager"] = interface["eager"]
    chosen(interface, operands((1, 2, 1, 8), keys=1025))
    with counted_contracts(monkeypatch) as asked:
        for keys in range(1026, 1200, 10):
            chosen(interface, operands((1, 2, 1, 8), keys=keys))
        assert asked == []


@given(st.integers(0, 10**6))
def test_lengths_of_a_kind_share_their_first_three_digits(length: int) -> None:
    usual = _usual(length)
    assert _usual(usual) == usual
    assert length == usual if length < 8 else abs(usual / length - 1) <= 1 / 8


@given(length=st.integers(1, 400), other=st.integers(1, 400))
def test_the_decision_is_that_of_the_call_alone(length: int, other: int) -> None:
    first, second = AttentionInterface(), AttentionInterface()
    for interface in (first, second):
        interface["eager"] = interface["eager"]
    mask = causal() & sliding_window(16)
    chosen(first, operands((1, 8, other, 32)), mask)
    tensors = operands((1, 8, length, 32))
    assert chosen(first, tensors, mask) == chosen(second, tensors, mask)


def test_a_changed_table_is_seen() -> None:
    interface = AttentionInterface()
    child = AttentionInterface(parent=interface)
    fast = _free(additive)
    assert chosen(child, operands()) == "sdpa"
    interface["fast"] = fast
    assert chosen(child, operands()) == chosen(interface, operands()) == "fast"
    del interface["fast"]
    assert chosen(child, operands()) == "sdpa"
    AttentionInterface.register("fast everywhere", fast)
    try:
        assert chosen(child, operands()) == "fast everywhere"
    finally:
        AttentionInterface.unregister("fast everywhere")
    assert chosen(child, operands()) == "sdpa"


def test_a_scope_is_seen_inside_alone() -> None:
    interface, other = AttentionInterface(), AttentionInterface()
    assert chosen(interface, operands()) == "sdpa"
    with interface.override(fast=_free(additive)):
        assert chosen(interface, operands()) == "fast"
        assert chosen(other, operands()) == "sdpa"
        with interface.override(sdpa=_free(dense)), interface.override(fast=_free(unmasked)):
            assert chosen(interface, operands(), causal()) == "sdpa"
        captured = capture_scopes()
    assert chosen(interface, operands()) == "sdpa"
    with captured:
        assert chosen(interface, operands()) == "fast"


def test_decisions_inside_of_a_scope_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    interface = AttentionInterface()
    with interface.override(fast=_free(additive)):
        chosen(interface, operands())
        with counted_contracts(monkeypatch) as asked:
            assert chosen(interface, operands()) == "fast"
            assert asked == []
            interface["further"] = _free(additive)
            assert chosen(interface, operands()) == "fast"
            assert asked != []


def test_a_later_declaration_is_seen() -> None:
    interface = AttentionInterface()
    late = function_like(additive)
    interface["late"] = late
    assert chosen(interface, operands()) == "sdpa"
    declare(late, cost=FREE)
    assert chosen(interface, operands()) == "late"


def test_changed_measurements_are_seen(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from headstock.attention.auto.measured import DeviceTable, Measured, device_name

    rows = {"sdpa": {"launch": 1e6}, "eager": {"launch": 1.0}, "blocked": {"launch": 1e7}}
    table = DeviceTable(name=device_name("cpu"), torch_version=torch.__version__, threads=1, rows=rows)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "tuned.json"))
    forget_read()
    try:
        assert chosen(AttentionInterface(), operands()) == "sdpa"
        path = Measured().with_device("cpu", table).save()
        assert json.loads(path.read_text())["devices"]["cpu"]["rows"] == rows
        assert chosen(AttentionInterface(), operands()) == "eager"
        path.unlink()
        forget_read()
        assert chosen(AttentionInterface(), operands()) == "sdpa"
    finally:
        monkeypatch.undo()
        forget_read()


def test_threads_decide_alike_while_the_table_changes() -> None:
    interface, fast, stop = AttentionInterface(), _free(additive), threading.Event()
    found: list[str] = []
    tensors = operands()

    def decide() -> None:
        while not stop.is_set():
            found.append(chosen(interface, tensors))

    threads = [threading.Thread(target=decide) for _ in range(2)]
    for each in threads:
        each.start()
    for _ in range(100):
        interface["fast"] = fast
        assert chosen(interface, tensors) == "fast"
        del interface["fast"]
        assert chosen(interface, tensors) == "sdpa"
    stop.set()
    for each in threads:
        each.join()
    assert set(found) <= {"fast", "sdpa"}


def test_further_limits_are_asked_in_each_call() -> None:
    def even(situation: Any, request: Any) -> Any:
        if situation.keys % 2:
            yield "takes an even number of keys"

    interface = AttentionInterface()
    interface["even"] = _free(additive, limits=Limits(further=even))
    assert [chosen(interface, operands((1, 2, 4, 8), keys=keys)) for keys in (32, 33, 34)] == ["even", "sdpa", "even"]
    with pytest.raises(UnsupportedFeature, match="even  takes an even number of keys"):
        chosen({"even": interface["even"]}, operands((1, 2, 4, 8), keys=33))


def test_a_mask_that_has_not_the_form_of_an_entry_goes_to_the_next() -> None:
    interface = AttentionInterface()
    interface["fast"] = _free(additive, mask="window")
    assert chosen(interface, operands(), causal() & sliding_window(2)) == "fast"
    scattered = torch.rand(5, 5) < 0.5
    assert chosen(interface, operands(), scattered) == "sdpa"
    with pytest.raises(UnsupportedFeature, match="fast  cannot be given the mask: a mask must be written as patterns"):
        chosen({"fast": interface["fast"]}, operands(), scattered)


def test_a_float_mask_with_values_of_its_own_is_no_boolean_one() -> None:
    interface = AttentionInterface()
    interface["fast"] = _free(dense, mask="dense")
    hides = torch.zeros(5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    assert chosen(interface, operands(), hides) == "fast"
    assert chosen(interface, operands(), torch.randn(5, 5)) == "sdpa"


def test_a_keyword_that_may_change_the_result_goes_to_who_knows_it() -> None:
    def knowing(
        module: Any, query: Any, key: Any, value: Any, mask: Any, *, scaling: Any = None, indices: Any = None
    ) -> Any:
        return torch.full_like(query, float(indices)).transpose(1, 2), None

    interface = AttentionInterface()
    interface["knowing"] = knowing
    query, key, value = operands()
    output, _ = call_attention(interface, "auto", None, query, key, value, None, indices=7, position_ids=1)
    assert (output == 7.0).all()
    with pytest.raises(UnsupportedFeature, match=r"sdpa .*does not know the keyword 'indices'"):
        call_attention(AttentionInterface(), "auto", None, query, key, value, None, indices=7)


def test_the_answer_is_that_of_the_entry_that_was_chosen() -> None:
    tensors = operands((2, 4, 300, 16), kv_heads=2)
    for mask in (None, causal(), WINDOW, prepare(causal() & sliding_window(20), Geometry(2, 300, 300, heads=4))):
        name = chosen(AttentionInterface(), tensors, mask)
        by_auto, by_name = (attend(*tensors, mask=mask, implementation=each) for each in ("auto", name))
        assert torch.equal(by_auto, by_name)


def test_a_transformed_call_goes_to_who_can_be_transformed() -> None:
    query, key, value = operands((1, 4, 2048, 16))
    mask = causal() & sliding_window(64)
    assert chosen(AttentionInterface(), (query, key, value), mask) == "blocked"

    def total(query: Tensor, name: str) -> Tensor:
        return attend(query, key, value, mask=mask, implementation=name).sum()

    by_auto, by_name = (torch.func.grad(total)(query, name) for name in ("auto", "sdpa"))
    torch.testing.assert_close(by_auto, by_name)

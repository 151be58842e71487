"""What `explain` tells is what `attend` does, told before anything runs."""

import functools
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from headstock.attention import AttentionInterface, attend, contract_of, explain
from headstock.attention.call import bound_mask
from headstock.errors import InvalidShape, UnknownName, UnsupportedFeature
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    CausalOrDense,
    Geometry,
    Mask,
    causal,
    padding,
    prepare,
    sliding_window,
)
from headstock.registry import declare
from tests.support.attention_cases import Case, attention_cases
from tests.support.attention_functions import additive, by_representation, unmasked

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 3)


def _nbytes(representation: Any) -> int:
    if isinstance(representation, CausalOrDense):
        representation = representation.attention_mask
    return representation.numel() * representation.element_size() if isinstance(representation, Tensor) else 0


@given(case=attention_cases())
def test_the_chosen_one_runs_and_density_and_bytes_are_those_of_the_mask(case: Case) -> None:
    inputs, interface = case.inputs, AttentionInterface()
    interface.update(by_representation)
    told = explain(inputs.query, inputs.key, inputs.value, interface=interface, **case.keywords())
    by_auto = attend(inputs.query, inputs.key, inputs.value, interface=interface, **case.keywords())
    by_name = attend(
        inputs.query, inputs.key, inputs.value, implementation=told.chosen, interface=interface, **case.keywords()
    )
    assert torch.equal(by_auto, by_name)
    assert {told.chosen, *told.rejected} == set(interface)

    assert told.density == pytest.approx(inputs.visible.double().mean().nan_to_num(1.0).item(), abs=1e-12)
    prepared = bound_mask(case.mask, inputs.query, inputs.key, case.q_offset)
    if prepared is None:
        assert (told.representation, told.bytes) == (None, 0)
        return
    assert told.representation is not None
    assert told.bytes == _nbytes(prepared.lower(told.representation, dtype=inputs.query.dtype))


@pytest.mark.parametrize("name", ["eager", "sdpa", *by_representation])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "mask",
    [
        causal(),
        sliding_window(2),
        padding(torch.rand(2, 5) < 0.5),
        torch.rand(5, 5) < 0.5,
        Mask(lambda b, h, i, j: j <= h),
    ],
    ids=["causal", "window", "padding", "boolean", "function"],
)
def test_bytes_are_those_of_the_representation_that_the_named_one_gets(
    name: str, mask: Mask | Tensor, dtype: torch.dtype
) -> None:
    interface = AttentionInterface()
    interface.update(by_representation)
    query, key, value = (tensor.to(dtype) for tensor in (QUERY, KEY, VALUE))
    told = explain(query, key, value, mask=mask, implementation=name, interface=interface)
    prepared = bound_mask(mask, query, key)
    assert prepared is not None
    assert told.representation == contract_of(interface[name]).mask
    assert told.bytes == _nbytes(prepared.lower(contract_of(interface[name]).mask, dtype=dtype))
    assert told.density == pytest.approx(prepared.dense().expand(2, 4, 5, 5).double().mean().item(), abs=1e-12)


def test_each_other_is_rejected_with_its_reasons() -> None:
    interface = AttentionInterface()
    interface.update({"additive": additive, "unmasked": unmasked})
    told = explain(QUERY, KEY, VALUE, mask=causal(), softcap=30.0, return_weights=True, interface=interface)
    assert told.chosen == "eager"
    assert (
        told.rejected.items()
        >= {
            "sdpa": ("does not honour softcap", "does not honour weights"),
            "blocked": ("does not honour weights",),
            "additive": ("does not honour softcap", "does not honour weights"),
            "unmasked": ("does not honour softcap", "does not honour weights", "takes no mask"),
        }.items()
    )


def test_one_that_could_is_told_why_it_does_not_run() -> None:
    interface = AttentionInterface()
    interface["mine"] = additive
    by_auto = explain(QUERY, KEY, VALUE, interface=interface)
    assert by_auto.chosen == "sdpa"
    times = by_auto.costs["eager"] / by_auto.costs["sdpa"]
    assert by_auto.rejected["eager"] == (f"eligible, about {times:.1f} times slower",)
    assert by_auto.rejected["mine"] == by_auto.rejected["eager"]  # of which nothing else is known
    assert by_auto.rejected["blocked"] == ("eligible, about as fast",)
    assert by_auto.rejected["flex_attention"] == (
        "eligible, but its first call compiles for seconds; name it, or measure it with `headstock tune`",
    )
    by_name = explain(QUERY, KEY, VALUE, implementation="mine", interface=interface)
    assert by_name.chosen == "mine"
    assert (
        by_name.rejected.items()
        >= dict.fromkeys(("blocked", "sdpa", "eager"), ("eligible, but 'mine' was named",)).items()
    )


def test_a_named_one_is_told_as_named_with_what_auto_would_choose() -> None:
    by_auto, by_name = explain(QUERY, KEY, VALUE), explain(QUERY, KEY, VALUE, implementation="eager")
    assert (by_auto.is_named, by_name.is_named) == (False, True)
    assert re.match(r"sdpa +chosen: no mask, 100\.0% of the pairs visible$", str(by_auto).splitlines()[0])
    assert re.match(r"eager +named: no mask, 100\.0% of the pairs visible$", str(by_name).splitlines()[0])
    times = by_name.costs["eager"] / by_name.costs["sdpa"]
    assert by_name.notes[0] == f"'eager' was named; 'auto' would choose 'sdpa', about {times:.1f} times faster"
    assert "would choose" not in str(by_auto)
    assert "would choose" not in str(explain(QUERY, KEY, VALUE, implementation="sdpa"))
    as_fast = explain(QUERY, KEY, VALUE, implementation="blocked")
    assert as_fast.notes[0] == "'blocked' was named; 'auto' would choose 'sdpa', about as fast"


def test_a_named_one_that_auto_never_takes_is_compared_by_its_cost() -> None:
    told = explain(QUERY, KEY, VALUE.new_zeros(2, 2, 5, 8), implementation="flex_attention")
    assert re.match("flex_attention +named: ", str(told))
    assert re.match(
        r"'flex_attention' was named; 'auto' would choose 'sdpa', about [\d,.]+ times faster", told.notes[0]
    )


def test_costs_are_of_all_who_can() -> None:
    told = explain(QUERY, KEY, VALUE, mask=causal(), softcap=30.0)
    assert {"eager", "blocked"} <= set(told.costs)
    assert "sdpa" not in told.costs
    assert told.costs[told.chosen] == min(told.costs.values())


def test_kernels_of_sdpa_are_told_where_it_can_serve_the_call() -> None:
    equal = torch.randn(2, 2, 5, 8)
    fused = explain(QUERY, KEY, equal).kernels
    assert fused is not None
    assert fused.taken == "flash"
    unfused = explain(QUERY, KEY, VALUE).kernels
    assert unfused is not None
    assert unfused.refused == {"flash": ("values must have the head size of the keys, 8, got 3",)}
    assert explain(QUERY, KEY, VALUE, softcap=1.0).kernels is None


def test_what_took_the_place_of_sdpa_has_none_of_its_kernels() -> None:
    interface = AttentionInterface()
    interface["sdpa"] = additive
    assert explain(QUERY, KEY, VALUE, interface=interface).kernels is None
    interface["torch"] = AttentionInterface()["sdpa"]
    assert explain(QUERY, KEY, VALUE, interface=interface).kernels is not None


def test_settings_of_the_process_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.attention, "current_flash_attention_impl", lambda: "FA3")
    assert "FA3" in str(explain(QUERY, KEY, VALUE)).splitlines()[-1]


def test_nothing_eligible_is_an_error_with_the_same_text() -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"got none:\nmine  does not honour softcap; takes no mask\nask for less"
    ):
        explain(QUERY, KEY, VALUE, mask=causal(), softcap=1.0, interface={"mine": unmasked})


def test_an_entry_that_shadows_another_takes_part_in_its_place() -> None:
    interface = AttentionInterface()
    interface["sdpa"] = unmasked
    assert explain(QUERY, KEY, VALUE, interface=interface).chosen == "sdpa"
    told = explain(QUERY, KEY, VALUE, mask=causal(), interface=interface)
    assert (told.chosen, told.rejected["sdpa"]) == ("eager", ("takes no mask",))


def test_it_prints_as_a_table() -> None:
    told = explain(QUERY, KEY, VALUE, mask=causal() & padding(torch.ones(2, 5).bool()), softcap=30.0)
    lines = str(told).splitlines()
    assert re.match(r"eager +chosen: mask as dense_or_additive, 50 bytes, 60\.0% of the pairs visible$", lines[0])
    assert [line for line in lines if re.match(r"sdpa +does not honour softcap$", line)]
    assert lines[-1] == "costs: headstock's own figures"
    plain = str(explain(QUERY, KEY, VALUE)).splitlines()
    assert re.match(r"sdpa +chosen: no mask, 100\.0% of the pairs visible$", plain[0])
    assert plain[-2].startswith(
        "sdpa writes the scores out: torch has no fused kernel for the call (flash: values must"
    )


def test_nothing_is_computed() -> None:
    def never(module: Any, query: Any, key: Any, value: Any, attention_mask: Any) -> Any:
        raise AssertionError("explain ran the function")

    interface = AttentionInterface()
    interface.update({"sdpa": never, "mine": declare(lambda *args, **keywords: never(*args), mask="dense")})
    for name in ("auto", "mine"):
        explain(QUERY.to("meta"), KEY.to("meta"), VALUE.to("meta"), implementation=name, interface=interface)
        explain(QUERY, KEY, VALUE, mask=causal(), implementation=name, interface=interface)


def test_it_refuses_what_attend_refuses() -> None:
    with pytest.raises(
        UnsupportedFeature, match="'sdpa' must do all that the call asks for, got 'sdpa', which does not hon"
    ):
        explain(QUERY, KEY, VALUE, implementation="sdpa", return_lse=True)
    with pytest.raises(UnknownName, match="got 'flash'"):
        explain(QUERY, KEY, VALUE, implementation="flash")
    with pytest.raises(InvalidShape, match="must have the extent of the call"):
        explain(QUERY, KEY, VALUE, mask=prepare(causal(), Geometry(1, 2, 3)))


@pytest.mark.parametrize("alias", ["eager", "sdpa"])
def test_the_names_of_transformers_for_a_form_are_understood(alias: str) -> None:
    interface, keep = AttentionInterface(), padding(torch.tensor([[True, False, True, True, False]] * 2))
    interface["mine"] = declare(functools.partial(additive), mask=alias)
    told = explain(QUERY, KEY, VALUE, mask=keep, implementation="mine", interface=interface)
    assert (told.representation, told.density) == (alias, 0.6)
    prepared = bound_mask(keep, QUERY, KEY)
    assert prepared is not None
    assert told.bytes == _nbytes(prepared.lower(alias, dtype=torch.float32))


def test_the_size_of_a_form_of_ones_own_is_not_known() -> None:
    def lengths(mask: Any, geometry: Geometry, *, dtype: torch.dtype, device: Any = None) -> str:
        raise AssertionError("explain made it")

    interface = AttentionInterface()
    ALL_MASK_ATTENTION_FUNCTIONS.register("lengths", lengths)
    try:
        interface["mine"] = declare(functools.partial(additive), mask="lengths")
        told = explain(QUERY, KEY, VALUE, mask=causal(), implementation="mine", interface=interface)
        assert told.bytes is None
        assert re.match("mine +named: mask as lengths, of unknown size, 60", str(told))
    finally:
        ALL_MASK_ATTENTION_FUNCTIONS.unregister("lengths")


def test_long_masks_are_looked_at_in_parts() -> None:
    query, keys = torch.randn(1, 2, 2500, 4), torch.randn(1, 2, 1300, 4)
    keep = torch.rand(1, 1300) < 0.7
    for mask in (causal() & padding(keep), torch.rand(2500, 1300) < 0.3, torch.randn(2500, 1300)):
        told = explain(query, keys, keys, mask=mask, implementation="sdpa")
        prepared = bound_mask(mask, query, keys)
        assert prepared is not None
        expected = 1.0 if prepared.is_additive else prepared.dense().double().mean().item()
        assert told.density == pytest.approx(expected, abs=1e-12)
        assert told.bytes == _nbytes(prepared.lower("causal_or_dense", dtype=query.dtype))

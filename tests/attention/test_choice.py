"""`auto`: the first of sdpa and eager that honours everything; what shadows one of them takes its place."""

from typing import Any

import pytest
import torch

from headstock.attention import AttentionInterface, contract_of
from headstock.attention.choice import choose, reasons_against
from headstock.attention.request import Request
from headstock.attention.situation import situation_of
from headstock.errors import UnknownName, UnsupportedFeature
from tests.support.attention_functions import additive, unmasked

PLAIN = Request(0.5)
OPERANDS = tuple(torch.randn(3, 1, 2, 5, 8))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "sdpa"),
        ({"dropout": 0.1}, "sdpa"),
        ({"bias": torch.ones(1)}, "sdpa"),
        ({"scaling_given": True}, "sdpa"),
        ({"softcap": 1.0}, "eager"),
        ({"sinks": torch.ones(1)}, "eager"),
        ({"weights": True}, "eager"),
        ({"log_sum_exp": True}, "eager"),
    ],
)
def test_auto_is_the_first_that_can(options: dict[str, Any], name: str) -> None:
    assert choose(AttentionInterface(), "auto", PLAIN._replace(**options), OPERANDS, masked=True).name == name


def test_what_shadows_an_entry_takes_its_place() -> None:
    interface = AttentionInterface()
    interface["sdpa"] = additive
    assert choose(interface, "auto", PLAIN, OPERANDS, masked=True).function is additive
    assert choose(interface, "auto", PLAIN._replace(dropout=0.1), OPERANDS, masked=True).name == "eager"
    interface["sdpa"] = unmasked
    assert choose(interface, "auto", PLAIN, OPERANDS, masked=False).function is unmasked
    assert choose(interface, "auto", PLAIN, OPERANDS, masked=True).name == "eager"


def test_entries_of_other_names_are_not_tried() -> None:
    interface = AttentionInterface()
    interface["aaa"] = additive
    assert choose(interface, "auto", PLAIN, OPERANDS, masked=True).name == "sdpa"


def test_a_named_one_that_cannot_is_refused_with_every_reason() -> None:
    def bare(module: Any, q: Any, k: Any, v: Any, m: Any) -> Any: ...

    request = Request(0.5, True, softcap=1.0, weights=True)
    assert reasons_against(contract_of(bare), request, situation_of(*OPERANDS), masked=True) == [
        "does not honour softcap",
        "does not honour weights",
        "takes no scaling",
    ]
    interface = AttentionInterface()
    interface["bare"] = bare
    with pytest.raises(
        UnsupportedFeature,
        match="attention function 'bare' must do all that the call asks for, got 'bare', which does not honour softcap "
        "and does not honour weights and takes no scaling; ask for less, choose another",
    ):
        choose(interface, "bare", request, OPERANDS, masked=True)


def test_auto_without_anyone_who_can_tells_why_of_each() -> None:
    interface = AttentionInterface()
    interface["eager"] = unmasked
    with pytest.raises(
        UnsupportedFeature,
        match=r"'auto' must do all .*, got 'sdpa', which does not honour softcap; 'eager', which does not "
        r"honour softcap and takes no mask; ask",
    ):
        choose(interface, "auto", PLAIN._replace(softcap=1.0), OPERANDS, masked=True)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        UnknownName,
        match=r"must be one of 'blocked', 'eager', .*, 'sdpa', 'varlen', got 'eagle'; did you mean 'eager'\?",
    ):
        choose(AttentionInterface(), "eagle", PLAIN, OPERANDS, masked=False)

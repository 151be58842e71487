"""The named function serves the call, or the call is refused with everything that speaks against it."""

import re
from typing import Any

import pytest
import torch

from headstock.attention import AttentionInterface, attend, attend_paged, contract_of, explain, explain_paged
from headstock.attention.choice import choose, reasons_against
from headstock.attention.limits import Limits
from headstock.attention.request import Request
from headstock.attention.situation import situation_of
from headstock.errors import MissingDependency, UnknownName, UnsupportedFeature
from headstock.registry import declare
from tests.support.attention_functions import additive, unmasked
from tests.support.paged import filled

PLAIN = Request(0.5)
OPERANDS = (torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8))


def test_the_named_one_is_what_the_table_holds_for_the_name() -> None:
    interface = AttentionInterface()
    interface["sdpa"] = additive
    chosen = choose(interface, "sdpa", PLAIN, OPERANDS, masked=True)
    assert (chosen.name, chosen.function, chosen.contract) == ("sdpa", additive, contract_of(additive))


@pytest.mark.parametrize("name", [["sdpa"], {"sdpa": 1}, ("eager", "sdpa"), None, 3, b"sdpa"], ids=repr)
def test_what_is_no_name_is_refused_whoever_is_asked(name: Any) -> None:
    short = filled([3], 4, dtype=torch.float32, head_dim=8, value_dim=8).paged
    told = rf"implementation must be the name of one attention function, or 'auto', got {re.escape(repr(name))}; make"
    for ask in (attend, explain):
        with pytest.raises(UnknownName, match=told):
            ask(*OPERANDS, implementation=name)
    for ask_pages in (attend_paged, explain_paged):
        with pytest.raises(UnknownName, match=told):
            ask_pages(OPERANDS[0], short, implementation=name)


def test_a_name_that_a_plain_mapping_does_not_hold_is_refused_with_those_that_it_holds() -> None:
    with pytest.raises(UnknownName, match=r"must be one of 'mine', got 'sdpa'; add it to the interface"):
        attend(*OPERANDS, implementation="sdpa", interface={"mine": additive})
    with pytest.raises(UnknownName, match="must be one of none, got 'sdpa'"):
        choose({}, "sdpa", PLAIN, OPERANDS, masked=False)


def test_a_named_one_that_cannot_is_refused_with_every_reason() -> None:
    def bare(module: Any, q: Any, k: Any, v: Any, m: Any) -> Any: ...

    request = Request(0.5, True, softcap=1.0, weights=True)
    assert reasons_against(contract_of(bare), request, situation_of(*OPERANDS, request), masked=True) == [
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


def test_a_function_without_masks_is_refused_beside_one() -> None:
    interface = AttentionInterface()
    interface["mine"] = unmasked
    assert choose(interface, "mine", PLAIN, OPERANDS, masked=False).function is unmasked
    with pytest.raises(UnsupportedFeature, match="'mine', which takes no mask"):
        choose(interface, "mine", PLAIN, OPERANDS, masked=True)


def test_a_missing_package_alone_is_a_missing_dependency() -> None:
    def packaged(module: Any, q: Any, k: Any, v: Any, m: Any, *, scaling: Any = None) -> Any: ...

    interface = AttentionInterface()
    interface["mine"] = declare(packaged, limits=Limits(packages=("no_such_package",), install="pip install it"))
    with pytest.raises(MissingDependency, match="'mine' must have no_such_package installed, got none; pip install it"):
        choose(interface, "mine", PLAIN, OPERANDS, masked=False)
    with pytest.raises(UnsupportedFeature, match="does not honour softcap and is not installed"):
        choose(interface, "mine", PLAIN._replace(softcap=1.0), OPERANDS, masked=False)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"must be one of 'blocked', 'eager', .*got 'eagle'; did you mean 'eager'\?"):
        choose(AttentionInterface(), "eagle", PLAIN, OPERANDS, masked=False)

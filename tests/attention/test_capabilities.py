"""Capabilities as data: those of every entry, read back, declared anew; what is none is refused by field."""

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from headstock.attention import ALL_ATTENTION_FUNCTIONS, Capabilities, check_attention, contract_of
from headstock.errors import InvalidComponent, InvalidConfig
from headstock.registry import declare


@pytest.mark.parametrize("name", sorted(ALL_ATTENTION_FUNCTIONS))
def test_those_of_every_entry_are_its_contract_and_survive_json(name: str) -> None:
    contract, told = contract_of(ALL_ATTENTION_FUNCTIONS[name]), Capabilities.of(ALL_ATTENTION_FUNCTIONS[name])
    assert (told.mask, told.features, told.limits) == (contract.mask, contract.features, contract.limits)
    read = Capabilities.from_dict(json.loads(told.model_dump_json()))
    assert read == Capabilities.from_dict(told.to_dict())
    assert read == told.model_copy(update={"limits": replace(told.limits, further=None)})


def test_what_a_function_declares_nothing_of_is_read_from_its_signature() -> None:
    def softcapped(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, scaling: Any, softcap: Any
    ) -> Any: ...

    assert Capabilities.of(softcapped).to_dict() == {"mask": "additive", "features": ["softcap"], "limits": {}}


def test_they_declare_another_function() -> None:
    def mine(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **keywords: Any) -> Any: ...

    told = {"mask": "dense", "features": ["softcap"], "limits": {"devices": ["cpu"], "head_dim_most": 64}}
    declare(mine, **dict(Capabilities.from_dict(told)))
    check_attention("mine", mine)
    assert Capabilities.of(mine).to_dict() == told


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"mask": "dense"}, r"got features=.* \(field required\)"),
        ({"mask": 3, "features": []}, r"got mask=3 \(input should be a valid string\)"),
        ({"mask": "dense", "features": [], "speed": 1}, r"got speed=1 \(extra inputs are not permitted\); see `Cap"),
        (
            {"mask": "dense", "features": [], "limits": {"device": []}},
            r"got limits=.*device.* the fields are devices, ",
        ),
    ],
)
def test_what_is_none_is_refused_by_its_field(data: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig, match=f"capabilities must be mask, features and limits .*, {told}"):
        Capabilities.from_dict(data)


def test_what_has_no_signature_has_none() -> None:
    with pytest.raises(InvalidComponent, match="signature"):
        Capabilities.of(max)


def test_pydantic_is_loaded_when_they_are_first_asked_for() -> None:
    program = (
        "import sys, headstock.attention as attention\n"
        "assert 'pydantic' not in sys.modules\n"
        "assert 'Capabilities' in dir(attention)\n"
        "attention.Capabilities\n"
        "assert 'pydantic' in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_another_name_is_no_attribute() -> None:
    import headstock.attention

    with pytest.raises(AttributeError, match=r"module 'headstock.attention' has no attribute 'Abilities'"):
        headstock.attention.Abilities  # noqa: B018

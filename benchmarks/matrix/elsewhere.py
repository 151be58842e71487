"""What the declarations alone refuse on devices that are not here."""

import dataclasses
from typing import Any

import torch

from headstock.attention import ALL_ATTENTION_FUNCTIONS, FEATURES, Contract, contract_of
from headstock.attention.choice import reasons_against
from headstock.attention.request import Request
from headstock.attention.situation import Situation

__all__ = ["refusals"]

_ASKED: dict[str, dict[str, Any]] = {
    "bias": {"bias": torch.zeros(1)},
    "dropout": {"dropout": 0.5},
    "log_sum_exp": {"log_sum_exp": True},
    "sinks": {"sinks": torch.zeros(1)},
    "softcap": {"softcap": 1.0},
    "weights": {"weights": True},
}
_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_SURROUNDINGS: dict[str, dict[str, Any]] = {
    "head size 5": {"head_dim": 5, "value_dim": 5},
    "head size 320": {"head_dim": 320, "value_dim": 320},
    "values of another size": {"value_dim": 32},
    "grouped heads": {"kv_heads": 1},
    "gradients": {"needs_gradient": True},
    "torch.func": {"is_transformed": True},
    "torch.compile": {"is_compiling": True},
    "torch.export": {"is_compiling": True, "is_exporting": True},
    "pages": {"is_paged": True},
}


def refusals(device: str) -> dict[str, list[str]]:
    """For each implementation what it refuses on such a device; "everything" where it does not run there."""
    return {name: _of(contract_of(ALL_ATTENTION_FUNCTIONS[name]), device) for name in sorted(ALL_ATTENTION_FUNCTIONS)}


def _of(contract: Contract, device: str) -> list[str]:
    # What depends on the very device, on packages or on the values of a call is no matter of its type.
    limits = dataclasses.replace(contract.limits, compute_capability=None, packages=(), further=None)
    contract = dataclasses.replace(contract, limits=limits)
    if limits.devices is not None and device not in limits.devices:
        return ["everything"]
    dtype = next(each for each in reversed(_DTYPES) if limits.dtypes is None or _name(each) in limits.dtypes)
    usual = Situation(torch.device(device), dtype, 2, 4, 4, 24, 24, 64, 64, is_named=True)
    asked: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {feature: (_ASKED[feature], {}) for feature in FEATURES}
    asked |= {_name(dtype): ({}, {"dtype": dtype}) for dtype in _DTYPES}
    asked |= {told: ({}, changed) for told, changed in _SURROUNDINGS.items()}
    return [
        told
        for told, (options, changed) in asked.items()
        if reasons_against(contract, Request(1.0, **options), usual._replace(**changed), masked=True)
    ]


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""What a function runs on: data in and out, and a reason for everything that a call exceeds."""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from headstock import attend
from headstock.attention import AttentionInterface, Cost, alibi, contract_of
from headstock.attention.capabilities import Capabilities
from headstock.attention.limits import UNLIMITED, Limits, missing_packages
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.errors import InvalidComponent, InvalidConfig, MissingDependency, UnsupportedFeature
from headstock.masks import Geometry, prepare
from headstock.registry import declare

CALL = Situation(torch.device("cpu"), torch.float32, 1, 8, 2, 5, 7, 64, 32)
REQUEST = Request(0.125)


@pytest.mark.parametrize(
    ("limits", "changes", "reason"),
    [
        ({"devices": {"cuda", "mps"}}, {}, "does not run on cpu (only on cuda and mps)"),
        ({"dtypes": {"float16"}}, {}, "does not take float32 (only float16)"),
        ({"head_dim_most": 32}, {}, "takes head sizes up to 32 (got 64 and 32)"),
        ({"head_dim_multiple": 64}, {}, "takes head sizes that are multiples of 64 (got 64 and 32)"),
        ({"equal_head_dims": True}, {}, "takes values of the head size of the keys alone (got 64 and 32)"),
        ({"grouped_heads": False}, {}, "takes a key head for each query head (got 8 over 2)"),
        ({"gradients": {"cuda"}}, {"needs_gradient": True}, "has no gradients on cpu (only on cuda)"),
        ({"gradients": set()}, {"needs_gradient": True}, "has no gradients on cpu"),
        (
            {"transforms": False},
            {"is_transformed": True},
            "does not work under torch.func or forward-mode differentiation",
        ),
        ({"compile": False}, {"is_compiling": True}, "does not work inside of compiled code"),
        ({"export": False}, {"is_compiling": True, "is_exporting": True}, "cannot be exported"),
        ({}, {"is_paged": True}, "does not read pages"),
        ({"devices": {"cpu"}}, {"is_paged": True}, "does not read pages"),
        ({"packages": ("no_such | nor_this",)}, {}, "is not installed (no_such or nor_this)"),
    ],
)
def test_what_exceeds_a_limit_is_a_reason(limits: dict[str, Any], changes: dict[str, Any], reason: str) -> None:
    told = Limits.from_dict(limits) if limits else UNLIMITED
    assert list(told.reasons_against(CALL._replace(**changes), REQUEST)) == [reason]
    if changes:
        assert list(told.reasons_against(CALL, REQUEST)) == []


SLOPES = torch.full((4,), 0.1, requires_grad=True)
ADDED = torch.full((5, 5), 0.1, requires_grad=True)


@pytest.mark.parametrize("implementation", ["mine", "auto"])
@pytest.mark.parametrize(
    "learned",
    [
        {"sinks": SLOPES},
        {"bias": SLOPES[:, None, None]},
        {"bias": alibi(SLOPES)},
        {"mask": ADDED},
        {"mask": prepare(ADDED, Geometry(1, 5, 5, heads=4))},
    ],
    ids=["sinks", "bias", "form", "mask", "prepared mask"],
)
def test_what_is_learned_besides_the_operands_must_have_a_gradient(
    implementation: str, learned: dict[str, Any]
) -> None:
    table = AttentionInterface()

    def mine(module: Any, query: Any, key: Any, value: Any, mask: Any, *, sinks: Any = None, bias: Any = None) -> Any:
        return query.new_zeros(query.shape).transpose(1, 2), None

    table["mine"] = declare(mine, cost=Cost(), limits=Limits(gradients=frozenset()))
    operands = torch.randn(3, 1, 4, 5, 8)
    with torch.no_grad():
        assert not attend(*operands, implementation=implementation, interface=table, **learned).any()
    if implementation == "auto":
        assert attend(*operands, interface=table, **learned).requires_grad
    else:
        with pytest.raises(UnsupportedFeature, match="'mine', which has no gradients on cpu"):
            attend(*operands, implementation="mine", interface=table, **learned)


def test_a_cuda_device_must_have_the_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    cuda = CALL._replace(device=torch.device("cuda"))
    assert list(Limits(compute_capability=(9, 0)).reasons_against(cuda, REQUEST)) == [
        "needs compute capability 9.0 (this device has 8.0)"
    ]
    assert list(Limits(compute_capability=(8, 0)).reasons_against(cuda, REQUEST)) == []


def test_a_cuda_device_of_another_machine_has_no_capability_to_compare() -> None:
    if not torch.cuda.is_available():
        cuda = CALL._replace(device=torch.device("cuda"))
        assert list(Limits(compute_capability=(9, 0)).reasons_against(cuda, REQUEST)) == []


def test_further_reasons_follow() -> None:
    limits = Limits(further=lambda situation, request: [f"dislikes {situation.keys} keys"] if request.scaling else [])
    assert list(limits.reasons_against(CALL, REQUEST)) == ["dislikes 7 keys"]


def test_limits_survive_json_without_what_is_no_data() -> None:
    limits = Limits(devices=frozenset({"cuda"}), compute_capability=(8, 0), packages=("a | b",), further=lambda *_: [])
    told = limits.to_dict()
    assert told == {"devices": ["cuda"], "compute_capability": [8, 0], "packages": ["a | b"]}
    assert Limits.from_dict(told).to_dict() == told


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ({"device": ["cuda"]}, r"got device=\['cuda'\] \(unexpected keyword argument\); the fields are devices, "),
        ({"head_dim_most": "many"}, r"limits must be fields of Limits .*got head_dim_most='many'"),
    ],
)
def test_what_is_no_limit_is_refused(data: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidConfig, match=match):
        Limits.from_dict(data)


def test_a_package_is_missing_until_one_of_its_alternatives_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_packages(("torch", "no_such | nor_this")) == ("no_such | nor_this",)
    assert missing_packages(("no_such.part", "torch.no_such | torch.nn")) == ("no_such.part",)
    monkeypatch.setitem(sys.modules, "nor_this", ModuleType("nor_this"))
    assert missing_packages(("torch", "no_such | nor_this")) == ()


def limited(**limits: Any) -> AttentionInterface:
    """A table whose entry `limited` answers with the values and has these limits."""

    def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any) -> Any:
        return value.transpose(1, 2), None

    interface = AttentionInterface()
    interface["limited"] = declare(attention, limits=Limits(**limits))
    return interface


def test_a_named_function_is_refused_beyond_its_limits_before_any_work() -> None:
    operands = torch.randn(3, 1, 2, 5, 8)
    interface = limited(dtypes=frozenset({"float64"}))
    with pytest.raises(UnsupportedFeature, match=r"got 'limited', which does not take float32 \(only float64\); ask"):
        attend(*operands, implementation="limited", interface=interface)
    doubles = operands.double()
    assert torch.equal(attend(*doubles, implementation="limited", interface=interface), doubles[2])


def test_autocast_decides_the_dtype() -> None:
    operands = torch.randn(3, 1, 2, 5, 8)
    interface = limited(dtypes=frozenset({"bfloat16"}))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(attend(*operands, implementation="limited", interface=interface), operands[2])


def test_a_named_function_without_its_package_says_how_to_install_it() -> None:
    interface = limited(packages=("no_such",), install="pip install no-such")
    with pytest.raises(
        MissingDependency,
        match="attention function 'limited' must have no_such installed, got none; pip install no-such, or choose",
    ):
        attend(*torch.randn(3, 1, 2, 5, 8), implementation="limited", interface=interface)


def test_limits_of_another_kind_are_refused() -> None:
    def attention(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **_: Any) -> Any: ...

    declare(attention, limits={"devices": ["cuda"]})
    with pytest.raises(InvalidComponent, match=r"the limits of attention function 'odd' must be Limits, got \{'dev"):
        AttentionInterface()["odd"] = attention


def test_capabilities_are_one_record_of_mask_features_and_limits() -> None:
    function = limited(devices=frozenset({"cpu"}))["limited"]
    assert Capabilities.of(function).to_dict() == {"mask": "additive", "features": [], "limits": {"devices": ["cpu"]}}
    assert contract_of(function).limits == Limits(devices=frozenset({"cpu"}))

"""What the signatures of each version say that it can do, and with which reasons the rest is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock import attend
from headstock.attention import alibi, alibi_slopes
from headstock.errors import UnsupportedFeature
from headstock.masks import causal
from tests.support.flash_cases import entry_on_cpu, interface_of
from tests.support.flash_stand_in import (
    VERSIONS,
    Flash2,
    Flash3,
    Flash3OfVllm,
    Flash4,
    Flash4Of2025,
    Flash20,
    Flash21,
    installed,
)
from tests.support.no_work import NoTensorWork

TABLES = {generation: interface_of("flash", entry_on_cpu(generation)) for generation in (2, 3, 4)}
QUERY, KEY, VALUE = torch.randn(3, 1, 2, 5, 8, dtype=torch.bfloat16)
SINKS = torch.randn(2)


def refused(version: Any, match: str, query: Tensor = QUERY, **options: Any) -> None:
    """It is refused with that text, before any work."""
    with installed(version) as stand_in:
        with NoTensorWork(), pytest.raises(UnsupportedFeature, match=match):
            attend(query, KEY, VALUE, implementation="flash", interface=TABLES[version.generation], **options)
        assert not stand_in.calls


def learning() -> Tensor:
    query: Tensor = QUERY.clone().requires_grad_()
    return query


@pytest.mark.parametrize(
    ("version", "options", "match"),
    [
        (Flash20, {}, r"needs flash-attn 2\.1, which aligns masks at the last key \(this is flash_attn 2\.0\.9\)"),
        (Flash21, {"softcap": 30.0}, r"does not honour softcap \(flash_attn 2\.1\.0\)"),
        (Flash21, {"bias": alibi(alibi_slopes(2))}, r"does not honour bias \(flash_attn 2\.1\.0\)"),
        (Flash2, {"bias": torch.zeros(5, 5)}, "takes no bias but alibi"),
        (Flash2, {"bias": lambda b, h, i, j: i - j}, "takes no bias but alibi"),
        (Flash2, {"softcap": 30.0, "dropout": 0.5}, "does not honour softcap together with dropout"),
        (Flash2, {"dropout": 1.0}, "drops less than every weight"),
        (Flash2, {"return_weights": True}, "does not honour weights"),
        (Flash3, {"dropout": 0.5}, "does not honour dropout"),
        (Flash3, {"bias": alibi(alibi_slopes(2))}, "does not honour bias"),
        (Flash4Of2025, {"return_lse": True}, r"does not honour log_sum_exp \(flash_attn.cute\)"),
        (Flash4Of2025, {"sinks": SINKS}, "takes sinks in bfloat16 alone"),
    ],
)
def test_what_a_version_has_not_is_refused(version: Any, options: dict[str, Any], match: str) -> None:
    refused(version, match, **options)


@pytest.mark.parametrize(
    ("version", "options", "match"),
    [
        (Flash2, {"return_lse": True}, r"gives a log-sum-exp without a gradient \(flash_attn 2\.8\.3\)"),
        (Flash3, {"return_lse": True}, "gives a log-sum-exp without a gradient"),
        (Flash3, {"sinks": SINKS}, "has no gradient beside sinks"),
        (Flash3OfVllm, {}, r"has no gradients \(flash_attn_interface is built for inference\)"),
        (Flash4Of2025, {"sinks": SINKS.bfloat16()}, "has no gradient beside sinks"),
        (Flash4Of2025, {"softcap": 30.0}, "has no gradient under softcap"),
    ],
)
def test_a_gradient_that_would_be_lost_is_refused(version: Any, options: dict[str, Any], match: str) -> None:
    refused(version, match, learning(), **options)


def test_the_gradient_of_sinks_alone_is_one_too() -> None:
    refused(Flash2, "has no gradient beside sinks", sinks=SINKS.clone().requires_grad_())


def test_slopes_that_learn_are_refused() -> None:
    refused(Flash2, "has no gradient of alibi's slopes", bias=alibi(alibi_slopes(2).requires_grad_()))


def test_deterministic_gradients_are_asked_for_or_refused() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        refused(Flash21, r"has no deterministic gradient \(flash_attn 2\.1\.0\)", learning())
        with installed(Flash2) as stand_in:
            attend(learning(), KEY, VALUE, implementation="flash", interface=TABLES[2])
            assert stand_in.calls[0]["deterministic"]
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_what_needs_no_feature_runs_in_every_version(version: str) -> None:
    with installed(VERSIONS[version]) as stand_in:
        attend(QUERY, KEY, VALUE, mask=causal(), implementation="flash", interface=TABLES[VERSIONS[version].generation])
        assert [call["rows"] for call in stand_in.calls] == [True]


@pytest.mark.parametrize("version", [Flash4, Flash3OfVllm, Flash4Of2025])
def test_sinks_in_bfloat16_are_the_kernels_own(version: Any) -> None:
    with installed(version) as stand_in:
        sinks = SINKS.bfloat16()
        attend(QUERY, KEY, VALUE, sinks=sinks, implementation="flash", interface=TABLES[version.generation])
        assert torch.equal(stand_in.calls[0]["sinks"], sinks)


def test_without_a_function_of_rows_they_are_packed() -> None:
    with installed(Flash2, flash_attn_func=None) as stand_in:
        attend(QUERY, KEY, VALUE, mask=causal(), implementation="flash", interface=TABLES[2])
        assert [call["rows"] for call in stand_in.calls] == [False]


def unreadable(*arguments: Any) -> None: ...


unreadable.__signature__ = "none"  # type: ignore[attr-defined]  # inspect refuses it


@pytest.mark.parametrize("function", [None, unreadable, lambda q, k, v: None])
def test_a_module_without_the_function_is_refused(function: Callable[..., Any] | None) -> None:
    with (
        installed(Flash2, flash_attn_varlen_func=function),
        pytest.raises(UnsupportedFeature, match="finds no flash_attn_varlen_func in flash_attn"),
    ):
        attend(QUERY, KEY, VALUE, implementation="flash", interface=TABLES[2])


def test_a_version_that_is_no_number_is_none() -> None:
    with installed(Flash2, __version__="local.build"):
        attend(QUERY, KEY, VALUE, implementation="flash", interface=TABLES[2])

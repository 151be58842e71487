"""torch's function in the words of its version."""

from typing import Any

import pytest
import torch

from headstock import attend
from headstock.attention.varlen import varlen_attention
from headstock.attention.varlen.function import arguments_of_varlen
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, causal, prepare, sliding_window
from tests.support.flash_cases import interface_of
from tests.support.varlen_entry import entry
from tests.support.varlen_stand_in import VERSIONS, patched

QUERY = torch.randn(2, 2, 8, 8)


def test_the_arguments_of_the_installed_one() -> None:
    assert {"query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale"} <= set(arguments_of_varlen())


@pytest.mark.parametrize("version", sorted(VERSIONS))
def test_a_version_is_read_anew(version: str) -> None:
    with patched(version):
        assert ("block_table" in arguments_of_varlen()) == (version == "2.13")
        assert ("is_causal" in arguments_of_varlen()) == (version == "with causality")


def test_a_window_that_a_version_does_not_know_is_refused_before_any_call() -> None:
    parts = prepare(causal() & sliding_window(3), Geometry(2, 8, 8)).varlen_parts()
    with patched("with causality") as calls:
        with pytest.raises(UnsupportedFeature, match=r"without a window in torch 2.*, got window_size \(2, 0\)"):
            varlen_attention(QUERY, QUERY, QUERY, parts, scaling=1.0)
        assert not calls


@pytest.mark.parametrize(
    ("options", "told"), [({"dropout": 0.5}, "dropout"), ({"softcap": 1.0}, "softcap"), ({"bias": QUERY}, "bias")]
)
def test_what_it_does_not_honour_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UnsupportedFeature, match=f"must be called without {told}, got one; use blocked_attention"):
        varlen_attention(QUERY, QUERY, QUERY, None, scaling=1.0, **options)


@pytest.mark.parametrize(
    ("version", "options", "match"),
    [
        ("2.13", {"return_lse": True}, "gives a log-sum-exp without a gradient"),
        ("2.13", {"sinks": torch.zeros(2)}, "has no gradient beside sinks"),
        ("2.13", {"softcap": 1.0}, "does not honour softcap"),
    ],
)
def test_a_gradient_that_would_be_lost_is_refused(
    version: str, options: dict[str, Any], match: str, table: Any
) -> None:
    query = QUERY.clone().requires_grad_()
    with patched(version) as calls:
        with pytest.raises(UnsupportedFeature, match=match):
            attend(query, QUERY, QUERY, implementation="mine", interface=table, **options)
        assert not calls


def test_the_gradient_of_sinks_alone_is_one_too(table: Any) -> None:
    sinks = torch.zeros(2, requires_grad=True)
    with patched("2.13"), pytest.raises(UnsupportedFeature, match="has no gradient beside sinks"):
        attend(QUERY, QUERY, QUERY, sinks=sinks, implementation="mine", interface=table)


def test_grouped_heads_are_refused_where_a_version_does_not_know_them(table: Any) -> None:
    with patched("with windows"), pytest.raises(UnsupportedFeature, match="takes a key head for each query head in to"):
        attend(QUERY, QUERY[:, :1], QUERY[:, :1], implementation="mine", interface=table)


def test_auto_leaves_a_version_without_windows_to_who_names_it(table: Any) -> None:
    with patched("with causality") as calls:
        attend(QUERY, QUERY, QUERY, mask=causal(), interface=table)
        assert not calls
        attend(QUERY, QUERY, QUERY, mask=causal(), implementation="mine", interface=table)
        assert calls


def test_it_does_not_run_on_the_cpu() -> None:
    with pytest.raises(UnsupportedFeature, match=r"'varlen', which does not run on cpu \(only on cuda\)"):
        attend(QUERY, QUERY, QUERY, implementation="varlen")


@pytest.fixture
def table() -> Any:
    return interface_of("mine", entry())

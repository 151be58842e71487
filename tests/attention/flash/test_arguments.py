"""One call in the words of each generation."""

from typing import Any

import pytest
import torch

from headstock import attend
from headstock.attention.flash.arguments import arguments_of
from headstock.attention.flash.kernel import Kernel, kernel_of
from headstock.attention.flash.tokens import Sequences, TokenCall, TokenOptions
from headstock.errors import UnsupportedFeature
from headstock.masks import causal, padding, sliding_window
from tests.support.flash_cases import entry_on_cpu, interface_of
from tests.support.flash_stand_in import VERSIONS, Flash2, Flash4, Flash4Of2025, Flash21, installed

TOKENS = torch.randn(5, 2, 8)
STARTS = torch.tensor([0, 2, 5], dtype=torch.int32)


def kernel(version: Any) -> Kernel:
    with installed(version) as stand_in:
        found = kernel_of(version.generation, stand_in.module)
    assert found is not None
    return found


def told(version: Any, window: tuple[int, int], options: TokenOptions, sequences: Sequences | None = None) -> Any:
    call = TokenCall(TOKENS, TOKENS, TOKENS, sequences, window[1] == 0, window, options)
    return arguments_of(kernel(version), call)


@pytest.mark.parametrize(
    ("version", "window", "expected"),
    [
        (Flash2, (-1, -1), {"causal": False}),
        (Flash21, (-1, 0), {"causal": True}),
        (Flash2, (3, 0), {"causal": False, "window_size": (3, 0)}),
        (Flash2, (3, -1), {"causal": False, "window_size": (3, -1)}),
        (Flash4, (3, -1), {"causal": False, "window_size": (3, None)}),
        (Flash4, (0, 2), {"causal": False, "window_size": (0, 2)}),
    ],
)
def test_windows_count_the_keys_beside_the_own_one(version: Any, window: tuple[int, int], expected: Any) -> None:
    assert told(version, window, TokenOptions(0.5)) == {"softmax_scale": 0.5, **expected}


def test_a_causal_window_of_four_keys_is_three_to_the_left() -> None:
    table = interface_of("flash", entry_on_cpu(2))
    with installed(Flash2):
        eye = torch.eye(8)[None, None]
        found = attend(
            torch.zeros(1, 1, 8, 8),
            eye,
            eye,
            mask=causal() & sliding_window(4),
            implementation="flash",
            interface=table,
        )
    assert torch.equal((found[0, 0] > 0).sum(1), torch.tensor([1, 2, 3, 4, 4, 4, 4, 4]))


def test_options_that_are_asked_for_are_told() -> None:
    slopes, sinks = torch.rand(2), torch.rand(2)
    options = TokenOptions(0.5, 0.25, 30.0, None, slopes, log_sum_exp=True)
    found = told(Flash2, (-1, -1), options)
    assert (found["dropout_p"], found["softcap"]) == (0.25, 30.0)
    assert found["alibi_slopes"] is slopes
    assert found["return_attn_probs"] is True
    found = told(Flash4, (-1, -1), TokenOptions(0.5, sinks=sinks, log_sum_exp=True))
    assert found["learnable_sink"] is sinks
    assert found["return_lse"] is True


def test_lengths_of_the_longest_are_told_where_they_are_taken() -> None:
    sequences = Sequences(STARTS, STARTS, 3, 3)
    assert set(told(Flash2, (-1, -1), TokenOptions(1.0), sequences)) == {"softmax_scale", "causal", *sequences._fields}
    early = told(Flash4Of2025, (-1, -1), TokenOptions(1.0), sequences)
    assert set(early) == {"softmax_scale", "causal", "cu_seqlens_q", "cu_seqlens_k"}


def test_a_window_that_a_version_does_not_know_is_refused_before_any_call() -> None:
    table = interface_of("flash", entry_on_cpu(2))
    query = torch.randn(2, 2, 8, 8)
    keep = torch.arange(8) < torch.tensor([3, 6])[:, None]
    with installed(Flash21) as stand_in:
        mask = causal() & sliding_window(3)
        with pytest.raises(UnsupportedFeature, match=r"2\.1\.0 must be given a mask without a window, got .* \(2, 0"):
            attend(query, query, query, mask=mask, implementation="flash", interface=table)
        mask = causal() & sliding_window(6) & padding(keep)
        with pytest.raises(UnsupportedFeature, match=r"without a window, got window_size \(5, 0\); install a later"):
            attend(query, query, query, mask=mask, implementation="flash", interface=table)
        assert not stand_in.calls


def test_a_function_that_gives_no_log_sum_exp_is_found_out() -> None:
    def silent(q: Any, k: Any, v: Any, *, softmax_scale: Any, causal: Any, return_attn_probs: bool = False) -> Any:
        return torch.zeros_like(q)

    def packed(
        q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, causal: Any, return_attn_probs: bool = False
    ) -> Any: ...

    table = interface_of("flash", entry_on_cpu(2))
    query = torch.randn(1, 2, 8, 8)
    with (
        installed(Flash2, flash_attn_func=silent, flash_attn_varlen_func=packed),
        pytest.raises(UnsupportedFeature, match=r"flash_attn 2\.8\.3 must give the log-sum-exp that it is asked"),
    ):
        attend(query, query, query, implementation="flash", return_lse=True, interface=table)


def test_every_version_is_read() -> None:
    for version in VERSIONS.values():
        found = kernel(version)
        assert found.rows is not None, found.name
        assert not found.is_traceable

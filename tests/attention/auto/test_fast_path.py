"""What is told of SDPA's kernels on CPUs is what torch will take."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from headstock.attention.auto.fast_path import Kernels, kernels_for
from headstock.attention.request import Request
from headstock.attention.situation import Situation, situation_of

SIZES = st.integers(0, 5)


@given(
    *(SIZES, SIZES, st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["none", "bool", "float", "learned"]),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
    st.booleans(),
    st.booleans(),
)
def test_on_cpus_torch_agrees(
    queries: int, keys: int, head_dim: int, value_dim: int, mask: str, dtype: torch.dtype, dropped: bool, strided: bool
) -> None:
    query, key = torch.randn(1, 4, queries, head_dim, dtype=dtype), torch.randn(1, 2, keys, head_dim, dtype=dtype)
    value = torch.randn(1, 2, keys, value_dim, dtype=dtype)
    if strided:
        query = torch.randn(1, 4, queries, 2 * head_dim, dtype=dtype)[..., ::2]
    bias = None if mask == "none" else torch.ones(1, 1, queries, keys, dtype=dtype, requires_grad=mask == "learned")
    given_mask = bias.bool() if mask == "bool" and bias is not None else bias
    dropout = 0.5 if dropped else 0.0
    told = kernels_for(
        situation_of(query, key, value, Request(0.125)),
        Request(1.0, dropout=dropout, bias=bias if mask in ("float", "learned") else None),
        masked=mask == "bool",
        operands=(query, key, value),
    )
    # A stride of a dimension of size 1 says nothing.
    taken = torch._fused_sdp_choice(query, key, value, given_mask, dropout, False, scale=None, enable_gqa=True)
    if not (strided and head_dim == 1):
        assert (told.taken is not None) == (taken == SDPBackend.FLASH_ATTENTION.value)


def test_it_is_told_which_and_why_not() -> None:
    call = Situation(torch.device("cpu"), torch.float32, 1, 8, 8, 512, 512, 64, 32)
    told = kernels_for(call, Request(0.125, dropout=0.1), masked=False)
    assert told == Kernels(
        None, {"flash": ("it has no dropout", "values must have the head size of the keys, 64, got 32")}
    )
    assert str(told).startswith(
        "writes the scores out: torch has no fused kernel for the call (flash: it has no dropout,"
    )
    assert (
        str(kernels_for(call._replace(value_dim=64), Request(0.125), masked=False))
        == "takes torch's fused flash kernel"
    )
    with sdpa_kernel(SDPBackend.MATH):
        told = kernels_for(call._replace(value_dim=64), Request(0.125), masked=False)
    assert told.refused == {"flash": ("it is switched off (torch.nn.attention.sdpa_kernel)",)}


@pytest.mark.parametrize(
    ("change", "masked", "taken"),
    [
        ({}, False, "flash"),
        ({}, True, "efficient"),
        ({"kv_heads": 2}, True, "cudnn"),
        ({"dtype": torch.float32}, False, "efficient"),
        ({"dtype": torch.float64}, False, None),
        ({"head_dim": 512, "value_dim": 512, "kv_heads": 2}, False, None),
    ],
)
def test_for_a_cuda_device_that_is_not_here_declarations_tell(
    change: dict[str, object], masked: bool, taken: str | None
) -> None:
    call = Situation(torch.device("cuda"), torch.bfloat16, 1, 8, 8, 512, 512, 64, 64)._replace(**change)  # type: ignore[arg-type]
    told = kernels_for(call, Request(0.125), masked=masked)
    assert told.taken == taken
    assert all(told.refused.values())


def test_a_device_without_fused_kernels_says_so() -> None:
    call = Situation(torch.device("meta"), torch.float32, 1, 8, 8, 512, 512, 64, 64)
    assert str(kernels_for(call, Request(0.125), masked=False)).endswith("(none on this device)")


@pytest.mark.cuda
def test_on_cuda_torch_is_asked() -> None:
    query, key, value = torch.randn(3, 1, 4, 64, 64, device="cuda", dtype=torch.float64)
    told = kernels_for(
        situation_of(query, key, value, Request(0.125)), Request(0.125), masked=False, operands=(query, key, value)
    )
    assert told.taken is None
    assert all(told.refused.values())

"""Torch's kernel for the layers of a forward gives what `sdpa_attention` gives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import ALL_ATTENTION_FUNCTIONS
from headstock.attention.call import Call
from headstock.attention.layer import layer_call
from headstock.attention.run import core_arguments, run
from headstock.integrations.transformers.kernel_call import KernelCall, kernel_call
from headstock.masks import Geometry, causal, prepare
from tests.support.transformers_attention import difference

LENGTHS = st.sampled_from([(1, 1), (1, 7), (1, 600), (5, 5), (3, 8)])
MASKS = st.sampled_from(["none", "causal", "rows", "heads"])


def made(tensors: tuple[Tensor, Tensor, Tensor], mask: Tensor | str | None, scaling: float) -> tuple[Call, Tensor]:
    """A call of `sdpa`, and its result."""
    query, key, value = tensors
    bound = causal() if isinstance(mask, str) else mask
    chosen, call = layer_call(ALL_ATTENTION_FUNCTIONS, "sdpa", query, key, value, bound, scaling=scaling)
    return call, run(chosen, None, call).output.transpose(1, 2)


def lowered(call: Call, scaling: float) -> KernelCall | None:
    chosen, _ = layer_call(ALL_ATTENTION_FUNCTIONS, "sdpa", *call[:3], None, scaling=scaling)
    mask, options = core_arguments(chosen.contract, call)
    return kernel_call(call, mask, options["scaling"], options["dropout"])


@given(
    lengths=LENGTHS,
    heads=st.sampled_from([(2, 2), (6, 2), (4, 1)]),
    mask=MASKS,
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_any_tensors_of_the_same_sizes_give_what_sdpa_gives(
    lengths: tuple[int, int], heads: tuple[int, int], mask: str, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    (queries, keys), (of_query, of_key) = lengths, heads

    def operands() -> tuple[Tensor, Tensor, Tensor]:
        sizes = (of_query, queries, 8), (of_key, keys, 8), (of_key, keys, 4)
        query, key, value = (torch.randn(2, *size, generator=generator).to(dtype) for size in sizes)
        return query, key, value

    shown: Tensor | str | None = {"none": None, "causal": "causal"}.get(mask, "")
    if shown == "":
        shown = torch.rand(2, of_query if mask == "heads" else 1, queries, keys, generator=generator) < 0.7
        shown[..., 0] = True  # no row is empty
    first, others = operands(), operands()
    call, _ = made(first, shown, 0.5)
    _, wanted = made(others, shown, 0.5)
    again = lowered(call, 0.5)
    assert again is not None
    found = again(*others)
    # Kernels that share heads sum in another order: rounding of sums over `keys` terms, and of the result.
    assert difference(found.double(), wanted.double()) <= (8 + keys**0.5) * torch.finfo(dtype).eps


@pytest.mark.parametrize("keys", [512, 513])
def test_heads_of_long_caches_are_packed(keys: int) -> None:
    query, (key, value) = torch.randn(1, 6, 1, 8), torch.randn(2, 1, 2, keys, 8)
    again = lowered(made((query, key, value), None, 0.5)[0], 0.5)
    assert again is not None
    assert again.packed == (None if keys <= 512 else (1, 2, 3, 8))
    assert again.shares_heads is (keys <= 512)


def test_what_sdpa_does_more_of_is_left_to_it() -> None:
    query, key, value = torch.randn(3, 1, 2, 4, 8)
    call, _ = made((query, key, value), "causal", -0.5)
    assert lowered(call, -0.5) is None
    floats = prepare(torch.randn(1, 1, 4, 4), Geometry(1, 4, 4, heads=2))
    assert lowered(call._replace(mask=floats), 0.5) is None
    biased = call.request._replace(bias=torch.zeros(4, 4))
    assert kernel_call(call._replace(request=biased), None, 0.5, 0.0) is None

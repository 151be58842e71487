"""The form for CUDA devices, traced and run by torch on the CPU in float64; on a CUDA device as it is."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from headstock import attend
from headstock.attention import AttentionOutput
from headstock.attention.flex.by_data import Inputs
from headstock.attention.flex.by_predicate import attention_by_predicate
from headstock.masks import Geometry, Mask, causal, documents, sliding_window, to_block_mask, to_block_mask_or_tiles
from tests.support.attention import Computed, assert_within, bounds, upstream_of
from tests.support.attention import Inputs as Exact
from tests.support.flex import assert_is_attention, graphs, traced_only

HEADS, KV_HEADS = 4, 2
# Scaling and softcap are handed to a program in float32, and its log-sum-exp of base 2 is turned by a rounded factor.
INSIDE = torch.float32


Operands = tuple[Tensor, Tensor, Tensor]


def _operands(queries: int, keys: int, head_dim: int = 16, value_dim: int = 16) -> Operands:
    return (
        torch.randn(2, HEADS, queries, head_dim),
        torch.randn(2, KV_HEADS, keys, head_dim),
        torch.randn(2, KV_HEADS, keys, value_dim),
    )


def _run(operands: Operands, mask: Mask | None, **options: Any) -> AttentionOutput:
    query, key, value = (each.double() for each in operands)
    queries, keys = query.shape[2], key.shape[2]
    geometry = Geometry(2, queries, keys, max(keys - queries, 0), heads=HEADS)
    blocks = None if mask is None else to_block_mask(mask, geometry)
    inputs = Inputs(query, key, value, None, options.get("bias"), None, options.get("sinks"), 0.25, 0.0)
    return AttentionOutput(*attention_by_predicate(inputs, blocks, gives_lse=True))


def _assert_close(found: AttentionOutput, operands: Operands, mask: Mask | None, **options: Any) -> None:
    """Within float32's budget, of output and log-sum-exp; rows that see nothing are zeros and -inf exactly."""
    query, key, value = (each.detach().double() for each in operands)
    exact = attend(
        query,
        key,
        value,
        mask=mask,
        scaling=0.25,
        return_lse=True,
        return_weights=True,
        implementation="eager",
        **options,
    )
    assert exact.log_sum_exp is not None
    assert exact.weights is not None
    given = {name: each.double() for name, each in options.items()}
    inputs = Exact(query, key, value, exact.weights > 0, 0.25, **given)
    computed = Computed(exact.output, exact.log_sum_exp, exact.weights)
    allowed, _ = bounds(inputs, computed, upstream_of(inputs), INSIDE)
    assert found.log_sum_exp is not None
    assert_within(found.output.float(), exact.output, allowed.output)
    assert_within(found.log_sum_exp.float(), exact.log_sum_exp, allowed.log_sum_exp, "log-sum-exp")


@pytest.mark.parametrize(
    "mask",
    [
        None,
        causal(),
        ~causal() & sliding_window(9, right=9),
        documents(torch.arange(170).div(torch.tensor([[40], [70]]), rounding_mode="floor")),
        Mask(lambda b, h, i, j: (i + h) % 3 != j % 3),
    ],
    ids=["none", "causal", "empty rows", "documents", "by head"],
)
def test_output_and_log_sum_exp_under_a_mask(mask: Mask | None) -> None:
    operands = _operands(150, 170)
    with traced_only():
        _assert_close(_run(operands, mask), operands, mask)


def test_head_sizes_below_sixteen_are_padded_and_biases_added() -> None:
    operands, bias = _operands(20, 30, 5, 3), torch.randn(1, HEADS, 1, 30)
    with traced_only():
        _assert_close(_run(operands, causal(), bias=bias), operands, causal(), bias=bias)


def test_sinks_join_by_the_log_sum_exp_with_gradients_on_rows_that_see_nothing_too() -> None:
    sinks = torch.tensor([0.5, -torch.inf, 3.0, -torch.inf]).double()
    mask = ~causal()
    query, key, value = (each.double().requires_grad_() for each in _operands(20, 20))
    learned = sinks.clone().requires_grad_()
    with traced_only(gradients=True):
        found = _run((query, key, value), mask, sinks=learned)
        assert found.log_sum_exp is not None
        detached = AttentionOutput(found.output.detach(), found.log_sum_exp.detach())
        _assert_close(detached, (query, key, value), mask, sinks=sinks)
        shown = found.log_sum_exp.isfinite()
        total = (found.output**2).sum() + found.log_sum_exp[shown].sum()
        mine = torch.autograd.grad(total, [query, key, value, learned])
    exact = attend(query, key, value, mask=mask, scaling=0.25, sinks=learned, return_lse=True, implementation="eager")
    assert exact.log_sum_exp is not None
    expected = torch.autograd.grad(
        (exact.output**2).sum() + exact.log_sum_exp[shown].sum(), [query, key, value, learned]
    )
    for own, theirs in zip(mine, expected, strict=True):
        # Sums of 20 * 20 * 16 products at most, each off by a few units of float32.
        torch.testing.assert_close(own, theirs, rtol=0, atol=6400 * torch.finfo(INSIDE).eps * float(theirs.abs().max()))


def test_twenty_lengths_are_recompiled_for_one_query_alone() -> None:
    with traced_only():
        before = graphs()
        for number in range(7, 21):
            _run(_operands(20 * number, 20 * number + 3 * number), causal())
        assert graphs() == before + 1
        for keys in (200, 201, 300, 301, 302):
            _run(_operands(1, keys), causal())
        _run(_operands(200, 201), causal())
        assert graphs() == before + 2


def test_tensors_of_a_mask_are_data() -> None:
    with traced_only():
        before = graphs()
        for length in (150, 170, 300):
            mask = causal() & documents(torch.randint(0, 3, (2, length)).sort(-1).values)
            operands = _operands(length, length)
            _assert_close(_run(operands, mask), operands, mask)
        assert graphs() == before + 1


def test_in_a_graph_the_blocks_are_data_of_one_operator() -> None:
    mask = causal() & sliding_window(100)

    def attention(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor | None]:
        geometry = Geometry(2, query.shape[2], key.shape[2], heads=HEADS)
        tiles = to_block_mask_or_tiles(mask, geometry, device=query.device).tiles
        return attention_by_predicate(
            Inputs(query, key, value, tiles, None, None, None, 0.25, 0.0), None, gives_lse=True
        )

    compiled = torch.compile(attention, fullgraph=True, backend="eager")
    for length in (130, 300, 200):
        operands = _operands(length, length)
        _assert_close(AttentionOutput(*compiled(*operands)), operands, mask)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_cuda_device_every_feature(dtype: torch.dtype) -> None:
    for queries, keys in ((200, 300), (1, 257), (128, 128)):
        query, key, value = (each.to("cuda", dtype) for each in _operands(queries, keys, 64, 64))
        options: Any = {"sinks": torch.randn(HEADS, device="cuda"), "bias": torch.randn(HEADS, 1, keys, device="cuda")}
        for mask in (None, causal(), causal() & sliding_window(40)):
            found = attend(query, key, value, mask=mask, softcap=5.0, implementation="flex_attention", **options)
            assert_is_attention(found, query, key, value, mask=mask, softcap=5.0, **options)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_on_a_cuda_device_gradients() -> None:
    query, key, value = (each.cuda().requires_grad_() for each in _operands(200, 300, 64, 64))
    mask, bias = causal() & sliding_window(40), torch.randn(1, HEADS, 200, 300, device="cuda", requires_grad=True)
    mine = attend(query, key, value, mask=mask, bias=bias, implementation="flex_attention")
    upstream = torch.randn(mine.shape, device="cuda")
    leaves = [query, key, value, bias]
    found = torch.autograd.grad((mine * upstream).sum(), leaves)
    wide = [each.detach().double().requires_grad_() for each in leaves]
    answer = attend(wide[0], wide[1], wide[2], mask=mask, bias=wide[3], implementation="eager")
    exact = torch.autograd.grad((answer * upstream).sum(), wide)
    for own, expected in zip(found, exact, strict=True):
        # Sums of 300 * 64 products at most, each off by a few units of float32.
        allowed = 19200 * torch.finfo(torch.float32).eps * float(expected.abs().max())
        torch.testing.assert_close(own.double(), expected, rtol=0, atol=allowed)


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_on_a_cuda_device_a_block_mask_is_used_as_it_is() -> None:
    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return i >= j

    query, key, value = (each.cuda() for each in _operands(256, 256, 64, 64))
    mask = create_block_mask(seen, None, None, 256, 256, device="cuda")
    found = attend(query, key, value, mask=mask, implementation="flex_attention")
    assert_is_attention(found, query, key, value, mask=causal())

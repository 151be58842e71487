"""The same call gives the same bits, leaves its inputs alone, and lets no row of the batch see another."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention import alibi, attend, merge, relative_table
from headstock.masks import (
    Geometry,
    Mask,
    causal,
    dilated_window,
    documents,
    first_tokens,
    padding,
    prefix_lm,
    prepare,
    sliding_window,
)

LENGTH = 333
IDS = torch.randint(0, 4, (2, LENGTH)).sort(-1).values
MASKS: dict[str, Mask | Tensor] = {
    "window": causal() & sliding_window(70),
    "window and first tokens": causal() & (sliding_window(50) | first_tokens(3)),
    "documents": causal() & documents(IDS),
    "dilated": causal() & dilated_window(5, 40),
    "by head": Mask(lambda b, h, i, j: (j <= i) & ((i - j) % (h + 2) == 0)),
    "float": torch.randn(LENGTH, LENGTH).masked_fill(torch.rand(LENGTH, LENGTH) < 0.5, -torch.inf),
}
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "all": lambda: {
        "softcap": 4.0,
        "sinks": torch.randn(4, requires_grad=True),
        "bias": torch.randn(4, 1, LENGTH, requires_grad=True),
        "dropout": 0.2,
    },
    "alibi": lambda: {"bias": alibi(torch.randn(4, requires_grad=True))},
    "table": lambda: {"bias": relative_table(torch.randn(4, 31, requires_grad=True))},
}


def _operands() -> list[Tensor]:
    return [torch.randn(2, heads, LENGTH, 16) for heads in (4, 2, 2)]


def _run(operands: list[Tensor], mask: Any, options: dict[str, Any], seed: int = 1) -> list[Tensor]:
    """The output, the log-sum-exp and every gradient."""
    leaves = [each.detach().requires_grad_() for each in operands]
    torch.manual_seed(seed)
    found = attend(*leaves, mask=mask, implementation="blocked", return_lse=True, **options)
    learned = [each for each in options.values() if isinstance(each, Tensor)]
    if hasattr(options.get("bias"), "tensors"):
        learned += options["bias"].tensors()
    generator = torch.Generator().manual_seed(2)
    loss = (found.output * torch.randn(found.output.shape, generator=generator)).sum() + found.log_sum_exp.sum()
    return [found.output, found.log_sum_exp, *torch.autograd.grad(loss, [*leaves, *learned])]


@pytest.mark.parametrize(
    ("mask", "options"),
    [(mask, "all") for mask in MASKS] + [("window", "plain"), ("documents", "alibi"), ("by head", "table")],
)
def test_two_runs_are_equal_bit_by_bit(mask: str, options: str) -> None:
    operands, given = _operands(), OPTIONS[options]()
    kept = [each.clone() for each in operands]
    once, again = (_run(operands, MASKS[mask], given) for _ in range(2))
    assert all(map(torch.equal, once, again))
    assert all(map(torch.equal, operands, kept))


@pytest.mark.parametrize("options", OPTIONS)
def test_two_threads_repeat_themselves(options: str) -> None:
    operands, given = _operands(), OPTIONS[options]()
    torch.set_num_threads(2)
    try:
        once, again = (_run(operands, MASKS["window"], given) for _ in range(2))
    finally:
        torch.set_num_threads(1)
    assert all(map(torch.equal, once, again))


def _by_length(tensor: Tensor) -> Tensor:
    return tensor.transpose(1, 2).contiguous().transpose(1, 2)


def _sliced(tensor: Tensor) -> Tensor:
    wider = torch.randn(*tensor.shape[:1], 2 * tensor.shape[1], tensor.shape[2] + 5, tensor.shape[3] + 3)
    wider[:, ::2, 2:-3, 1:-2] = tensor
    return wider[:, ::2, 2:-3, 1:-2]


def _columns(tensor: Tensor) -> Tensor:
    return tensor.mT.contiguous().mT


def _every_other(tensor: Tensor) -> Tensor:
    return tensor.repeat_interleave(2, -1)[..., ::2]


@pytest.mark.parametrize("layout", [_by_length, _sliced, _columns, _every_other])
@pytest.mark.parametrize("mask", ["window", "documents", "by head"])
def test_the_layout_of_the_inputs_changes_nothing(mask: str, layout: Callable[[Tensor], Tensor]) -> None:
    operands = [each.double() for each in _operands()]
    expected = _run(operands, MASKS[mask], OPTIONS["plain"]())
    laid_out = [layout(each.double()).double() for each in operands]
    for found, each in zip(_run(laid_out, MASKS[mask], OPTIONS["plain"]()), expected, strict=True):
        torch.testing.assert_close(found, each)


def test_keys_that_are_one_for_all_heads_and_rows() -> None:
    query, key = torch.randn(2, 4, LENGTH, 8, dtype=torch.float64), torch.randn(1, 1, LENGTH, 8, dtype=torch.float64)
    found = []
    for copied in (False, True):
        leaf = key.clone().requires_grad_()
        every = leaf.repeat(2, 4, 1, 1) if copied else leaf.expand(2, 4, -1, -1)
        output = attend(query, every, every, mask=MASKS["window"], implementation="blocked")
        found.append((output, torch.autograd.grad(output.square().sum(), leaf)[0]))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("mask", ["window", "dilated", "window and first tokens"])
def test_a_row_of_the_batch_is_what_it_is_alone(mask: str) -> None:
    operands = [each.double() for each in _operands()]
    whole = _run(operands, MASKS[mask], OPTIONS["plain"]())[0]
    alone = attend(*(each[1:] for each in operands), mask=MASKS[mask], implementation="blocked")
    torch.testing.assert_close(whole[1:], alone)


def test_a_change_in_one_row_changes_no_other() -> None:
    operands = _operands()
    before = attend(*operands, mask=MASKS["documents"], implementation="blocked")
    for each in operands:
        each[0] += 1
    after = attend(*operands, mask=MASKS["documents"], implementation="blocked")
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0])


@pytest.mark.parametrize("split", [1, 100, 128, 332])
def test_two_parts_of_the_keys_merge_to_the_whole(split: int) -> None:
    query, key, value = (torch.randn(2, heads, LENGTH, 8, dtype=torch.float64) for heads in (4, 2, 2))
    mask = causal() & (sliding_window(150) | first_tokens(2)) & padding(torch.rand(2, LENGTH) < 0.9)
    whole = attend(query, key, value, mask=mask, implementation="blocked", return_lse=True)
    parts = []
    for start, end in ((0, split), (split, LENGTH)):
        geometry = Geometry(2, LENGTH, end - start, kv_offset=start, heads=4)
        some = (key[:, :, start:end], value[:, :, start:end])
        parts.append(attend(query, *some, mask=prepare(mask, geometry), implementation="blocked", return_lse=True))
    merged = merge(*parts)
    torch.testing.assert_close(merged.output, whole.output)
    torch.testing.assert_close(merged.log_sum_exp, whole.log_sum_exp)


def test_the_same_mask_prepared_once_serves_every_layer() -> None:
    operands = _operands()
    prepared = prepare(MASKS["documents"], Geometry(2, LENGTH, LENGTH, heads=4))
    plan = prepared.tiled_plan()
    expected = attend(*operands, mask=MASKS["documents"], implementation="blocked")
    assert torch.equal(attend(*operands, mask=prepared, implementation="blocked"), expected)
    assert prepared.tiled_plan() is plan


def test_a_call_that_is_checked_agrees_with_eager() -> None:
    prefix = prefix_lm(torch.tensor([7, 200]))
    attend(*_operands(), mask=prefix & MASKS["documents"], implementation="blocked", checked=True, sinks=torch.randn(4))

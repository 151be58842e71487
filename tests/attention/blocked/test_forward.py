"""What a call makes: torch's own kernel for plain masks, and never a tensor of all pairs."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from headstock.attention import alibi, attend, explain, relative_table
from headstock.attention.blocked.operator import compute_attention, compute_gradients
from headstock.masks import Geometry, Mask, bidirectional, causal, documents, first_tokens, prepare, sliding_window

LENGTH = 2560


_OPERATORS: dict[str, Any] = {
    "headstock.blocked_attention.default": compute_attention,
    "headstock.blocked_attention_backward.default": compute_gradients,
}


class _Watching(TorchDispatchMode):
    """Counts the operators that run, and notes the size of the largest tensor that one gives."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.names: Counter[str] = Counter()
        self.largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names[str(func)] += 1
        inner = _OPERATORS.get(str(func))
        if inner is None:
            found = func(*args, **(kwargs or {}))
        else:
            with self:  # torch looks into no operator
                found = inner(*args)
        for each in tree_leaves(found):
            if isinstance(each, Tensor):
                # A view that repeats numbers takes no memory of its own.
                self.largest = max(self.largest, each.untyped_storage().nbytes() // each.element_size())
        return found


@pytest.mark.parametrize("mask", [None, causal(), bidirectional()], ids=["none", "causal", "bidirectional"])
def test_plain_masks_are_torchs_own(mask: Mask | None) -> None:
    operands = [torch.randn(1, 2, 50, 8).requires_grad_() for _ in range(3)]
    with _Watching() as watching:
        found = attend(*operands, mask=mask, implementation="blocked")
    names = [name for name in watching.names if "scaled_dot_product" in name]
    assert len(names) == 1
    assert not any(name.startswith("headstock") for name in watching.names)
    assert torch.equal(found, attend(*operands, mask=mask, implementation="sdpa"))


@pytest.mark.parametrize(
    "options", [{"return_lse": True}, {"softcap": 2.0}, {"sinks": torch.zeros(2)}, {"bias": torch.zeros(1, 1)}]
)
@pytest.mark.parametrize("mask", [None, causal()], ids=["none", "causal"])
def test_a_plain_mask_with_a_feature_is_computed_in_blocks(mask: Mask | None, options: dict[str, Any]) -> None:
    operands = torch.randn(3, 1, 2, 300, 8, dtype=torch.float64)
    with _Watching() as watching:
        found = attend(*operands, mask=mask, implementation="blocked", **options)
    assert watching.names["headstock.blocked_attention.default"] == 1
    torch.testing.assert_close(found, attend(*operands, mask=mask, implementation="eager", **options))


@pytest.mark.parametrize(("queries", "keys"), [(3, 7), (7, 3), (1, 9), (9, 1)])
def test_a_triangle_in_a_rectangle(queries: int, keys: int) -> None:
    query, (key, value) = torch.randn(1, 2, queries, 4), torch.randn(2, 1, 2, keys, 4)
    for offset in (None, 0, 2):
        given: dict[str, Any] = {"mask": causal(), "q_offset": offset}
        expected = attend(query, key, value, implementation="eager", **given)
        torch.testing.assert_close(attend(query, key, value, implementation="blocked", **given), expected)


BANDS: dict[str, Mask] = {
    "window": causal() & sliding_window(128),
    "window and first tokens": causal() & (sliding_window(128) | first_tokens(4)),
    "documents": causal() & documents(torch.arange(LENGTH)[None] // 200),
}
OPTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "softcap": lambda: {"softcap": 20.0},
    "dropout": lambda: {"dropout": 0.1},
    "sinks": lambda: {"sinks": torch.randn(1)},
    "alibi": lambda: {"bias": alibi(torch.randn(1, requires_grad=True))},
    "table": lambda: {"bias": relative_table(torch.randn(1, 65, requires_grad=True))},
    "function": lambda: {"bias": lambda b, h, i, j: (j - i) / 64},
    "bias of the keys": lambda: {"bias": torch.randn(1, LENGTH, requires_grad=True)},
}


@pytest.mark.parametrize(
    ("mask", "options"),
    [("window and first tokens", options) for options in OPTIONS] + [("window", "plain"), ("documents", "alibi")],
)
def test_no_tensor_of_all_pairs_is_made(mask: str, options: str) -> None:
    operands = [torch.randn(1, 1, LENGTH, 8).requires_grad_() for _ in range(3)]
    given = OPTIONS[options]()
    with _Watching() as watching:
        found = attend(*operands, mask=BANDS[mask], implementation="blocked", **given)
        found.sum().backward()
    # A row of a band meets 3 blocks of 128 keys, one of the first tokens 1 more: all of the pairs in non-empty blocks.
    pairs = prepare(BANDS[mask], Geometry(1, LENGTH, LENGTH)).tiled_plan().kv_block.numel() * 128 * 128
    assert watching.largest <= pairs < LENGTH * LENGTH // 4


def test_what_is_looked_for_is_seen_in_eager_attention() -> None:
    operands = [torch.randn(1, 1, LENGTH, 8).requires_grad_() for _ in range(3)]
    with _Watching() as watching:
        attend(*operands, mask=BANDS["window"], implementation="eager").sum().backward()
    assert watching.largest >= LENGTH * LENGTH


def test_explain_tells_what_is_run() -> None:
    query, key, value = torch.randn(3, 1, 2, 300, 8)
    found = explain(query, key, value, mask=BANDS["window"], implementation="blocked")
    assert "blocked" in str(found)
    assert "causal_or_blocks" in str(found)

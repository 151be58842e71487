"""The calls that are timed have something of everything."""

import torch

from headstock.attention.auto.grid import calls_for
from headstock.masks import PreparedMask


def test_a_part_of_the_grid_has_every_kind_of_call() -> None:
    for device in ("cpu", "cuda"):
        calls = calls_for(device)
        assert {call.training for call in calls} == {False, True}
        assert {call.mask for call in calls} == {"none", "causal", "window", "documents"}
        assert torch.bfloat16 in {call.dtype for call in calls}
        assert 0 < len(calls_for(device, quick=True)) < len(calls)
        assert calls == calls_for(device)


def test_a_call_has_the_tensors_that_it_says() -> None:
    for call in calls_for("cpu", quick=True):
        query, key, value = call.operands("cpu")
        assert query.shape == (call.batch, call.heads, call.queries, call.head_dim)
        assert key.shape == value.shape == (call.batch, call.kv_heads, call.keys, call.head_dim)
        assert query.requires_grad == key.requires_grad == value.requires_grad == call.training
        mask = call.mask_on("cpu")
        assert (mask is None) == (call.mask == "none")
        assert isinstance(mask, PreparedMask) == (call.kept and call.mask != "none")
        assert str(call).startswith(f"{call.batch} x {call.heads}/{call.kv_heads}")

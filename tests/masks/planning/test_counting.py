"""The number of keys that queries see, from a plan, against the meaning in a loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.masks import Geometry, causal, documents, plan, sliding_window
from headstock.masks.planning import counting
from headstock.masks.planning.counting import seen_keys
from tests.support.devices import moved, on_each_device
from tests.support.masks import Case, cases, loop


@on_each_device
@given(case=cases(least=1), block_size=st.sampled_from([1, 2, 3, (4, 2), 16]), entries=st.sampled_from([1, 2**24]))
def test_each_query_sees_as_many_keys_as_the_mask_shows(
    device: str, case: Case, block_size: int | tuple[int, int], entries: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_ENTRIES", entries)
        there = moved(case, device)
        found = seen_keys(there.mask, plan(there.mask, there.geometry, block_size, device=device), device).cpu()
    expected = loop(case.meaning, case.geometry).sum(-1)
    assert torch.equal(found.expand(expected.shape), expected)


def test_a_long_mask_is_counted_by_its_blocks() -> None:
    length, size = 200_000, 1000
    mask = causal() & sliding_window(300) & documents((torch.arange(length) // size)[None])
    found = seen_keys(mask, plan(mask, Geometry(1, length, length)))
    assert torch.equal(found[0, 0], (torch.arange(length) % size + 1).clamp(max=300))

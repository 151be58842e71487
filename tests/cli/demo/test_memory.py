"""Counted bytes against sums by hand."""

import torch
from torch.utils.checkpoint import checkpoint

from headstock.cli.demo.memory import LivingBytes

SIZE = 4 * 1000


def test_what_is_dropped_no_longer_counts() -> None:
    with LivingBytes() as counted:
        first = torch.ones(1000)
        second = first + 1
        del first
        third = second + 1
        del second, third
    assert (counted.peak, counted.current) == (2 * SIZE, 0)


def test_views_and_changes_in_place_count_nothing() -> None:
    with LivingBytes() as counted:
        whole = torch.ones(1000)
        views = [whole[:10], whole.view(10, 100), whole.detach()]
        whole.add_(1)
    assert counted.peak == SIZE
    assert len(views) == 3


def test_what_was_there_before_does_not_count() -> None:
    before = torch.ones(1000)
    with LivingBytes() as counted:
        before.mul_(2)
        after = before.view(-1)
    assert counted.peak == 0
    assert after.shape == (1000,)


def test_saved_tensors_and_gradients_count() -> None:
    inputs = torch.randn(1000, requires_grad=True)
    with LivingBytes() as counted:
        hidden = inputs
        for _ in range(5):
            hidden = hidden.sin()
        hidden.sum().backward()
    # 5 sines, of which 4 are saved and the last is named; the sum and its gradient of 4 bytes each; and in the backward
    # pass the gradient that came, its product and the cosine between them.
    assert 5 * SIZE + 8 <= counted.peak <= 8 * SIZE + 8
    assert counted.current == 2 * SIZE  # the last sine and the gradient of the inputs


def test_checkpointing_is_seen() -> None:
    def sines(hidden: torch.Tensor) -> torch.Tensor:
        for _ in range(8):
            hidden = hidden.sin()
        return hidden

    peaks = []
    for checkpointed in (False, True):
        hidden = torch.randn(1000, requires_grad=True)
        with LivingBytes() as counted:
            for _ in range(8):
                hidden = checkpoint(sines, hidden, use_reentrant=False) if checkpointed else sines(hidden)
            hidden.sum().backward()
        peaks.append(counted.peak)
    # 64 saved sines against 8 at the borders and 8 of one part, and a few gradients each.
    assert peaks[0] >= 64 * SIZE
    assert peaks[1] <= (8 + 8 + 5) * SIZE

import pytest
import torch

from headstock.rope.spectrum import powers


def test_powers_of_a_number() -> None:
    assert powers(100.0, 4).tolist() == pytest.approx([1.0, 10.0], rel=1e-6)
    assert powers(100.0, 4, over=8).tolist() == pytest.approx([1.0, 100**0.25], rel=1e-6)


def test_powers_of_one_number_per_row() -> None:
    found = powers(torch.tensor([[100.0], [16.0]]), 4)
    assert found.tolist() == [pytest.approx([1.0, 10.0], rel=1e-6), pytest.approx([1.0, 4.0], rel=1e-6)]
    assert found.dtype == torch.float32


def test_powers_on_a_device() -> None:
    assert powers(100.0, 4, "meta").device.type == "meta"

"""The ten lines: ten, shown as they are, right, and gone afterwards."""

from collections.abc import Iterator

import pytest
import torch

from headstock.attention import AttentionInterface, attend
from headstock.cli.demo import custom
from headstock.masks import causal


@pytest.fixture
def lines() -> Iterator[str]:
    yield custom.register()
    AttentionInterface.unregister(custom.NAME)


def test_there_are_ten_lines_that_fit_a_terminal(lines: str) -> None:
    shown = lines.splitlines()
    assert len(shown) == 10
    assert max(map(len, shown)) <= 80
    assert shown[0] == "@AttentionInterface.register(NAME)"


@pytest.mark.parametrize("masked", [False, True])
def test_the_function_is_attention(lines: str, masked: bool) -> None:
    query, key, value = torch.randn(3, 2, 4, 7, 8)
    mask = causal() if masked else None
    # Weights of at most 1 that sum to 1, on values of a few units: a row is a sum of 7 products, each side rounded.
    limit = 2 * (7 + 8) * torch.finfo(torch.float32).eps * value.abs().max().item()
    found = attend(query, key, value, mask=mask, implementation=custom.NAME)
    expected = attend(query.double(), key.double(), value.double(), mask=mask, implementation="eager")
    assert isinstance(found, torch.Tensor)
    assert isinstance(expected, torch.Tensor)
    assert (found - expected).abs().max() <= limit

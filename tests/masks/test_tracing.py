"""What may be decided from values: everything in eager mode, nothing that binds a graph to today's values."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from headstock.masks.tracing import is_known, is_readable


def test_values_are_readable_in_eager_mode_only() -> None:
    assert is_readable(torch.zeros(2))
    assert is_readable(torch.nn.Parameter(torch.zeros(2)))
    assert not is_readable(torch.zeros(2, device="meta"))
    with FakeTensorMode():
        fake = torch.zeros(2)
    assert not is_readable(fake)


def test_values_are_not_readable_under_vmap_and_while_compiling() -> None:
    seen: list[bool] = []

    def look(value: Tensor) -> Tensor:
        seen.append(is_readable(value))
        return value

    torch.vmap(look)(torch.zeros(2))
    assert seen == [False]

    def branch(value: Tensor) -> Tensor:
        return value + 1 if is_readable(value) else value - 1

    assert torch.compile(branch, fullgraph=True, backend="eager")(torch.zeros(2)).tolist() == [-1, -1]


def short(value: Tensor) -> Tensor:
    return value + 1 if is_known(value.shape[0] <= 6) else value - 1


def test_a_comparison_of_numbers_is_known() -> None:
    assert is_known(1 <= 2)
    assert not is_known(2 <= 1)


def test_a_compiled_graph_guards_what_it_decided() -> None:
    compiled = torch.compile(short, fullgraph=True, dynamic=True, backend="eager")
    for length in (4, 8, 5, 7):
        assert torch.equal(compiled(torch.zeros(length)), short(torch.zeros(length)))


class Short(torch.nn.Module):
    def forward(self, value: Tensor) -> Tensor:
        return short(value)


@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_graph_serves_every_length_of_its_range(strict: bool) -> None:
    length = torch.export.Dim("length", min=2, max=32)
    module = torch.export.export(
        Short(), (torch.zeros(4),), dynamic_shapes={"value": {0: length}}, strict=strict
    ).module()
    # Undecided over the range, so the condition counts as false even where it holds.
    assert [module(torch.zeros(each))[0].item() for each in (4, 8)] == [-1, -1]

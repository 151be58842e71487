import collections
import warnings
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.pytorch_utils import move_to_device as their_move_to_device
from transformers.pytorch_utils import softmax_backward_data as their_softmax_backward_data

from headstock.compat.pytorch_utils import isin_mps_friendly, meshgrid, move_to_device, softmax_backward_data

NUMBERS = st.integers(-4, 4)


@given(
    elements=st.lists(NUMBERS), among=st.lists(NUMBERS), dtype=st.sampled_from([torch.int64, torch.float32, torch.int8])
)
def test_isin_equals_membership_in_a_list(elements: list[int], among: list[int], dtype: torch.dtype) -> None:
    result = isin_mps_friendly(torch.tensor(elements, dtype=dtype), torch.tensor(among, dtype=dtype))
    assert result.tolist() == [each in among for each in elements]


@given(elements=st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1), among=NUMBERS)
def test_isin_takes_one_number_and_keeps_the_shape(elements: list[list[int]], among: int) -> None:
    result = isin_mps_friendly(torch.tensor(elements), among)
    assert result.tolist() == [[each == among for each in row] for row in elements]
    assert torch.equal(result, isin_mps_friendly(torch.tensor(elements), torch.tensor(among)))


def test_isin_of_a_single_element_is_a_single_truth() -> None:
    assert isin_mps_friendly(torch.tensor(2), torch.tensor([1, 2])).item() is True


def test_isin_moves_the_tested_elements_to_the_device_of_the_others() -> None:
    with FakeTensorMode():  # tensors of a device that need not be there, refused where they meet another's
        elements, among = torch.ones(3, device="cuda"), torch.ones(2)
        with pytest.raises(RuntimeError, match="to be on the same device"):
            torch.isin(elements, among)
        assert isin_mps_friendly(elements, among).device.type == "cuda"


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_backward_data_is_the_gradient_of_softmax(dim: int) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    grad = torch.randn(3, 4, dtype=torch.float64)
    output = x.softmax(dim)
    (expected,) = torch.autograd.grad(output, x, grad)
    parent, output = SimpleNamespace(dim=dim), output.detach()
    assert torch.equal(softmax_backward_data(parent, grad, output), expected)
    assert torch.equal(softmax_backward_data(parent, grad, output), their_softmax_backward_data(parent, grad, output))


def test_softmax_backward_data_takes_the_arguments_of_transformers_4() -> None:
    output, grad = torch.randn(3, 4).softmax(0), torch.randn(3, 4)
    parent = SimpleNamespace(dim=1)
    by_four = softmax_backward_data(parent, grad, output, 0, output)
    assert torch.equal(by_four, softmax_backward_data(SimpleNamespace(dim=0), grad, output))
    assert torch.equal(by_four, softmax_backward_data(parent, grad, output, dim=0, self=output))
    assert not torch.equal(by_four, softmax_backward_data(parent, grad, output))


@pytest.mark.parametrize("indexing", [None, "ij", "xy"])
def test_meshgrid_is_torchs_without_its_warning(indexing: Any) -> None:
    x, y = torch.arange(3), torch.arange(4)
    expected = torch.meshgrid(x, y, indexing=indexing or "ij")
    for spelling in ((x, y), ([x, y],), ((x, y),)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = meshgrid(*spelling, indexing=indexing)
        assert all(torch.equal(mine, other) for mine, other in zip(result, expected, strict=True))


def test_meshgrid_refuses_another_indexing() -> None:
    with pytest.raises(RuntimeError, match='indexing must be one of "xy" or "ij"'):
        meshgrid(torch.arange(2), indexing="yx")  # type: ignore[arg-type]  # what is refused


class Pair(NamedTuple):
    first: Tensor
    second: Any


def devices(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.device.type
    if isinstance(value, dict):
        return {key: devices(each) for key, each in value.items()}
    return [devices(each) for each in value] if isinstance(value, tuple | list) else value


NESTED: dict[str, Any] = {
    "tensor": torch.zeros(2),
    "list": [torch.zeros(2), 3, "text", None],
    "tuple": (torch.zeros(2), (torch.zeros(1),)),
    "dict": {"a": {"b": [torch.zeros(2)]}, 1: None},
    "ordered dict": collections.OrderedDict(a=torch.zeros(2)),
    "number": 3,
    "size": torch.Size([2, 3]),
}


@pytest.mark.parametrize("kind", NESTED)
def test_moves_what_transformers_moves(kind: str) -> None:
    mine, other = move_to_device(NESTED[kind], "meta"), their_move_to_device(NESTED[kind], torch.device("meta"))
    assert type(mine) is type(other)
    assert devices(mine) == devices(other)


def test_moves_named_tuples_and_default_dicts_which_transformers_cannot() -> None:
    pair = move_to_device(Pair(torch.zeros(2), [torch.zeros(2)]), "meta")
    assert (type(pair), devices(pair)) == (Pair, ["meta", ["meta"]])
    given: dict[str, Any] = collections.defaultdict(list, a=torch.zeros(2))
    moved = move_to_device(given, "meta")
    assert (moved["a"].device.type, moved["new"], given["a"].device.type) == ("meta", [], "cpu")
    with pytest.raises(TypeError):
        their_move_to_device(Pair(torch.zeros(2), None), torch.device("meta"))


def test_what_is_there_already_is_not_copied() -> None:
    tensor = torch.zeros(2)
    assert move_to_device([tensor], "cpu")[0] is tensor

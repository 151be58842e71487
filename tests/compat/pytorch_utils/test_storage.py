import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.pytorch_utils import id_tensor_storage as their_id

from headstock.compat.pytorch_utils import id_tensor_storage
from headstock.errors import UnsupportedFeature

VIEWS = [
    lambda x: x[1:],
    lambda x: x.view(-1),
    lambda x: x.t(),
    lambda x: x.expand(2, *x.shape),
    lambda x: x[:0],
    lambda x: x.detach(),
    lambda x: x.diagonal(),
]


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool]))
def test_equals_transformers_on_tensors_with_memory(rows: int, columns: int, dtype: torch.dtype) -> None:
    tensor = torch.ones(rows, columns, dtype=dtype)
    for each in (tensor, tensor[0], tensor[:, 1:]):
        assert id_tensor_storage(each) == their_id(each)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_share_the_identifier_of_their_base(view: Any, device: str) -> None:
    tensor = torch.randn(3, 4, device=device)
    assert id_tensor_storage(view(tensor)) == id_tensor_storage(tensor)


@pytest.mark.parametrize("shape", [(0,), (3,), ()])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tensors_made_apart_differ_also_where_there_is_no_memory(device: str, shape: tuple[int, ...]) -> None:
    one, other = torch.empty(shape, device=device), torch.empty(shape, device=device)
    assert id_tensor_storage(one) != id_tensor_storage(other)
    assert id_tensor_storage(one) == id_tensor_storage(one.detach())


def test_transformers_calls_all_empty_and_all_meta_tensors_equal() -> None:
    """Why the identifiers differ from theirs here."""
    assert their_id(torch.empty(0)) == their_id(torch.empty(0))
    assert their_id(torch.empty(2, device="meta")) == their_id(torch.empty(2, device="meta"))


def test_tied_parameters_are_found_on_meta() -> None:
    layer = torch.nn.Linear(3, 3, device="meta")
    tied = torch.nn.Linear(3, 3, device="meta")
    tied.weight = layer.weight
    assert id_tensor_storage(tied.weight) == id_tensor_storage(layer.weight)
    assert id_tensor_storage(tied.bias) != id_tensor_storage(layer.bias)


def test_fake_tensors_are_told_apart_without_a_warning() -> None:
    with FakeTensorMode():
        one, other = torch.empty(3), torch.empty(3)
        assert id_tensor_storage(one) == id_tensor_storage(one[1:])
        assert id_tensor_storage(one) != id_tensor_storage(other)
        assert id_tensor_storage(one)[0] == torch.device("cpu")


def test_the_address_and_size_are_those_of_the_whole_storage() -> None:
    whole = torch.zeros(5, dtype=torch.float64)
    assert id_tensor_storage(whole[4:]) == (torch.device("cpu"), whole.data_ptr(), 40)


class Wrapper(Tensor):
    """A tensor without memory of its own, as quantized ones are."""

    @staticmethod
    def __new__(cls: Any, device: str) -> Any:
        return Tensor._make_wrapper_subclass(cls, (2, 3), device=torch.device(device))

    @classmethod
    def __torch_dispatch__(cls, func: Any, *others: Any) -> Any:
        raise NotImplementedError(func)


def test_wrappers_are_told_apart() -> None:
    one, other = Wrapper("cpu"), Wrapper("cpu")
    assert id_tensor_storage(one) == id_tensor_storage(one)
    assert id_tensor_storage(one) != id_tensor_storage(other)


def test_tensors_on_xla_are_told_apart_by_torch_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch_xla")
    vars(module)["_XLAC"] = SimpleNamespace(_xla_get_tensor_id=lambda tensor: 41 + tensor.ndim)
    monkeypatch.setitem(sys.modules, "torch_xla", module)
    assert id_tensor_storage(Wrapper("xla:0")) == (torch.device("xla:0"), 43, 24)


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
def test_tensors_without_a_storage_are_refused(layout: torch.layout) -> None:
    tensor = torch.eye(3).to_sparse(layout=layout)
    with pytest.raises(
        UnsupportedFeature, match=r"must have a storage to be identified by it, got the layout torch\.sparse"
    ):
        id_tensor_storage(tensor)


@pytest.fixture(name="mesh")
def _mesh(tmp_path: Path) -> Iterator[Any]:
    """A mesh of this process alone."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        yield DeviceMesh("cpu", [0])
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")  # theirs
def test_a_dtensor_stands_for_its_local_shard(mesh: Any) -> None:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    for placement in (Shard(0), Replicate()):
        tensor = distribute_tensor(torch.randn(4, 3), mesh, [placement])
        other = distribute_tensor(torch.randn(4, 3), mesh, [placement])
        assert id_tensor_storage(tensor) == id_tensor_storage(tensor.to_local()) == their_id(tensor)
        assert id_tensor_storage(tensor) == id_tensor_storage(tensor.view(12))
        assert id_tensor_storage(tensor) != id_tensor_storage(other)

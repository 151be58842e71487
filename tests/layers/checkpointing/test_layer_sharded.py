"""Checkpointed layers under torch's own sharding, in a world of one process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from headstock.layers.checkpointing import set_gradient_checkpointing
from tests.support.checkpointing import Encoder, gradient

fully_shard = pytest.importorskip("torch.distributed.fsdp").fully_shard
DeviceMesh = pytest.importorskip("torch.distributed.device_mesh").DeviceMesh


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[object]:
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("torch was built without gloo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        yield DeviceMesh("cpu", [0])
    finally:
        dist.destroy_process_group()


def _gradients(model: nn.Module) -> list[torch.Tensor]:
    hidden = torch.ones(2, 8, requires_grad=True)
    torch.manual_seed(0)
    model(hidden).square().sum().backward()
    found = [gradient(each) for each in (hidden, *model.parameters())]
    return [each.full_tensor() if isinstance(each, dist.tensor.DTensor) else each for each in found]


@pytest.mark.parametrize("reshard_after_forward", [False, True])
@pytest.mark.parametrize("use_reentrant", [False, True])
def test_fully_sharded_layers_checkpoint_once(mesh: object, use_reentrant: bool, reshard_after_forward: bool) -> None:
    torch.manual_seed(1)
    model = Encoder(dropout=0.5)
    plain = _gradients(model)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh, reshard_after_forward=reshard_after_forward)
    assert type(model.layers[0]).__name__ == "FSDPBlock"
    set_gradient_checkpointing(model, use_reentrant=use_reentrant)
    assert all(map(torch.equal, plain, _gradients(model)))
    assert model.runs == [3, 3, 3]

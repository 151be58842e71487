import importlib
import pickle

import pytest
import torch
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing import set_gradient_checkpointing
from headstock.layers.checkpointing.functions import Checkpoint
from headstock.layers.checkpointing.policies import offload as offload_policy
from headstock.layers.checkpointing.policies.offload import OffloadedCheckpoint
from tests.support.checkpointing import Cell, Encoder, run, same

MODES = pytest.mark.parametrize("use_reentrant", [False, True])
MODULE = importlib.import_module("headstock.layers.checkpointing.policies.offload")


@pytest.fixture
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a device, so that inputs with a history are copied as they are from one."""
    monkeypatch.setattr(MODULE, "_moves", lambda tensor: tensor.grad_fn is not None)


@MODES
def test_inputs_on_the_cpu_stay_where_they_are(use_reentrant: bool) -> None:
    model = Encoder(dropout=0.5)
    hidden = torch.randn(3, 8, requires_grad=True)
    plain = run(model, hidden_states=hidden)
    set_gradient_checkpointing(model, "offload", use_reentrant=use_reentrant)
    assert same(plain, run(model, hidden_states=hidden))
    assert model.runs == [3, 3, 3]


@MODES
@pytest.mark.usefixtures("_device")
def test_inputs_on_a_device_come_back_with_their_strides(use_reentrant: bool) -> None:
    seen: list[tuple[int, ...]] = []

    def forward(weight: Tensor, hidden: Tensor) -> Tensor:
        seen.append(hidden.stride())
        return (hidden * weight).tanh()

    cell = Cell(forward)
    hidden = torch.randn(4, 3, requires_grad=True)
    plain = run(cell, lambda hidden: cell((hidden * 2).T), hidden=hidden)
    set_gradient_checkpointing(cell, "offload", use_reentrant=use_reentrant)
    assert same(plain, run(cell, lambda hidden: cell((hidden * 2).T), hidden=hidden))
    assert seen == [(1, 3)] * 3


@MODES
@pytest.mark.usefixtures("_device")
def test_a_copy_does_not_mind_what_becomes_of_the_input(use_reentrant: bool) -> None:
    cell = Cell(lambda weight, hidden: (hidden * weight).tanh())
    start = torch.randn(4, requires_grad=True)
    plain = run(cell, lambda start: cell(start * 2), start=start)

    def overwritten(start: Tensor) -> Tensor:
        hidden = start * 2
        output: Tensor = cell(hidden)
        with torch.no_grad():
            hidden.zero_()
        return output

    set_gradient_checkpointing(cell, "offload", use_reentrant=use_reentrant)
    assert same(plain, run(cell, overwritten, start=start))


@MODES
def test_an_input_on_the_cpu_that_was_changed_is_refused(use_reentrant: bool) -> None:
    cell = Cell(lambda weight, hidden: (hidden * weight).tanh())
    set_gradient_checkpointing(cell, "offload", use_reentrant=use_reentrant)
    hidden = torch.randn(4, requires_grad=True) * 2
    output = cell(hidden)
    with torch.no_grad():
        hidden.zero_()
    with pytest.raises(UnsupportedFeature, match=r"must stay as they are until backward, got a tensor of shape \(4,\)"):
        output.sum().backward()


@pytest.mark.usefixtures("_device")
def test_masks_and_parameters_are_not_copied() -> None:
    function = OffloadedCheckpoint()
    parameter, mask = torch.nn.Parameter(torch.ones(2)), torch.ones(2)
    assert function._pack(parameter)[0] is parameter
    assert function._pack(mask)[0] is mask
    hidden = parameter * 2
    assert function._pack(hidden)[0].data_ptr() != hidden.data_ptr()


def test_compiled_frames_are_refused() -> None:
    model = Encoder(layers=1)
    set_gradient_checkpointing(model, "offload")
    with pytest.raises(Exception, match=r"'offload' must run outside compiled frames, got torch.compile"):
        torch.compile(model, backend="eager", fullgraph=True)(torch.randn(2, 8))


def test_functions_compare_by_value_and_pickle() -> None:
    function = OffloadedCheckpoint(Checkpoint(use_reentrant=True), pin_memory=False)
    assert pickle.loads(pickle.dumps(function)) == function != OffloadedCheckpoint()
    assert offload_policy({}, pin_memory=False) == {}


@pytest.mark.cuda
@MODES
def test_inputs_leave_the_device(use_reentrant: bool) -> None:
    model = Encoder(layers=4, width=256, dropout=0.5).cuda()
    hidden = torch.randn(4096, 256, device="cuda", requires_grad=True)
    plain = run(model, hidden_states=hidden)
    held = {}
    for policy in ("full", "offload"):
        set_gradient_checkpointing(model, policy, use_reentrant=use_reentrant)
        assert same(plain, run(model, hidden_states=hidden))
        before = torch.cuda.memory_allocated()
        output = model(hidden)
        held[policy] = torch.cuda.memory_allocated() - before
        del output
    # The inputs of all layers but the first, which is a leaf, lie on the host.
    assert held["full"] - held["offload"] == 3 * hidden.nbytes

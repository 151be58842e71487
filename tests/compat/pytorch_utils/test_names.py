import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn
from transformers import pytorch_utils

import headstock.compat.pytorch_utils as ours
import headstock.layers

theirs: Any = pytorch_utils
IMPORTED_BY_THEIRS = {
    *("Callable", "annotations", "inspect", "logger", "logging", "lru_cache", "nn", "torch", "wraps"),
    *("is_dtensor", "is_torch_greater_or_equal", "is_torch_xla_available", "is_torchdynamo_compiling"),
}
PUBLIC = sorted(name for name in vars(theirs) if not name.startswith("_") and name not in IMPORTED_BY_THEIRS)
FUNCTIONS = [
    name for name in PUBLIC if inspect.isfunction(getattr(theirs, name)) or inspect.isclass(getattr(theirs, name))
]
# The 4.x line had these; the signatures are those of its source.
REMOVED = {
    "find_pruneable_heads_and_indices": ["heads", "n_heads", "head_size", "already_pruned_heads"],
    "isin_mps_friendly": ["elements", "test_elements"],
    "prune_conv1d_layer": ["layer", "index", "dim"],
    "prune_layer": ["layer", "index", "dim"],
    "softmax_backward_data": ["parent", "grad_output", "output", "dim", "self"],
}


def parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def test_there_are_names_to_compare() -> None:
    assert len(PUBLIC) == 20
    assert len(FUNCTIONS) == 10


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_of_transformers_is_here(name: str) -> None:
    assert name in ours.__all__
    assert callable(getattr(ours, name)) == callable(getattr(theirs, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_are_those_of_transformers_with_optional_ones_behind(name: str) -> None:
    mine, other = parameters(getattr(ours, name)), parameters(getattr(theirs, name))
    shared = [(each.name, each.kind, each.default) for each in mine[: len(other)]]
    assert shared == [(each.name, each.kind, each.default) for each in other]
    assert all(each.default is not each.empty for each in mine[len(other) :])


@pytest.mark.parametrize("name", REMOVED)
def test_names_that_transformers_removed_are_here(name: str) -> None:
    assert not hasattr(theirs, name) or name == "softmax_backward_data"
    assert name in ours.__all__
    assert [each.name for each in parameters(getattr(ours, name))] == REMOVED[name]


def test_all_is_sorted_and_true() -> None:
    capitals = [name for name in ours.__all__ if name.isupper()]
    assert ours.__all__ == [*capitals, *sorted(set(ours.__all__) - set(capitals))]
    assert all(hasattr(ours, name) for name in ours.__all__)


@pytest.mark.parametrize("name", ["Conv1D", "apply_chunking_to_forward", "find_pruneable_heads_and_indices"])
def test_what_needs_no_other_behaviour_is_the_same_object(name: str) -> None:
    assert getattr(ours, name) is getattr(headstock.layers, name)


def test_layernorm_layers_are_those_of_transformers() -> None:
    assert ours.ALL_LAYERNORM_LAYERS == theirs.ALL_LAYERNORM_LAYERS == [nn.LayerNorm]
    assert ours.ALL_LAYERNORM_LAYERS is not theirs.ALL_LAYERNORM_LAYERS


def test_storage_helpers_agree_with_theirs() -> None:
    tensor = torch.randn(6)[2:]
    assert (ours.storage_ptr(tensor), ours.storage_size(tensor)) == (
        theirs.storage_ptr(tensor),
        theirs.storage_size(tensor),
    )
    assert (ours.storage_ptr(tensor), ours.storage_size(tensor)) == (tensor.data_ptr() - 8, 24)


def test_importing_it_imports_no_transformers() -> None:
    code = "import sys, headstock.compat.pytorch_utils; print('transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
